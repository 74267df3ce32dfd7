package peer;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Rows of the journal as one JSON array a line, with the columns of pipeline/journal.py, straight into bytes. */
final class Rows {
    private static final byte[] TRUE = "true".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] FALSE = "false".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] HEX = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);
    private static final int LONGEST_NUMBER = 21;

    private byte[] bytes = new byte[256 * 1024];
    private int size;
    private int rows;

    int rows() {
        return rows;
    }

    /** Returns the rows so far and starts anew. */
    byte[] take() {
        byte[] taken = Arrays.copyOf(bytes, size);
        size = rows = 0;
        return taken;
    }

    void add(long id, long atMs, long postedMs, RequestEvent e, long costNano, long rateFromMs) {
        room(1);
        bytes[size++] = '[';
        number(id);
        text(e.org);
        number(atMs);
        number(postedMs);
        text(e.source);
        text(e.id);
        text(e.keyId);
        text(e.tier);
        flag(e.byok);
        text(e.model);
        text(e.provider == null ? "" : e.provider);
        number(e.status);
        text(e.errorCode == null ? "" : e.errorCode);
        number(e.latencyMs);
        if (e.ttftMs >= 0) {
            number(e.ttftMs);
        } else {
            word(new byte[] {'n', 'u', 'l', 'l'});
        }
        flag(e.stream);
        number(e.promptTokens);
        number(e.cachedTokens);
        number(e.completionTokens);
        number(e.reasoningTokens);
        number(costNano);
        number(rateFromMs);
        bytes[size - 1] = ']';
        room(1);
        bytes[size++] = '\n';
        rows++;
    }

    private void room(int wanted) {
        if (bytes.length - size < wanted) {
            bytes = Arrays.copyOf(bytes, Math.max(2 * bytes.length, size + wanted));
        }
    }

    private void flag(boolean value) {
        word(value ? TRUE : FALSE);
    }

    private void word(byte[] word) {
        room(word.length + 1);
        System.arraycopy(word, 0, bytes, size, word.length);
        size += word.length;
        bytes[size++] = ',';
    }

    private void number(long value) {
        room(LONGEST_NUMBER);
        long left = value;
        if (left < 0) {
            bytes[size++] = '-';
            left = -left;
        }
        int digits = 1;
        for (long power = 10; digits < 19 && left >= power; power *= 10) {
            digits++;
        }
        for (int at = size + digits - 1; at >= size; at--) {
            bytes[at] = (byte) ('0' + left % 10);
            left /= 10;
        }
        size += digits;
        bytes[size++] = ',';
    }

    private void text(String text) {
        // Six bytes is the longest way to write one UTF-16 unit.
        room(6 * text.length() + 3);
        bytes[size++] = '"';
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c >= ' ' && c < 0x7f && c != '"' && c != '\\') {
                bytes[size++] = (byte) c;
            } else {
                escape(c);
            }
        }
        bytes[size++] = '"';
        bytes[size++] = ',';
    }

    private void escape(char c) {
        bytes[size++] = '\\';
        bytes[size++] = 'u';
        for (int shift = 12; shift >= 0; shift -= 4) {
            bytes[size++] = HEX[c >> shift & 15];
        }
    }
}
