package peer;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/**
 * Reads a record's value, one CloudEvent or an array of them, with the types and limits of pipeline/events.py.
 *
 * <p>Jackson's streaming parser, no tree and no binding: field names are interned by it, so a switch on one
 * compares a cached hash and an identity. Event objects are used again for the next record.
 */
final class EventReader {
    private static final int MAX_TOKENS = 100_000_000;
    private static final int MAX_LATENCY_MS = 86_400_000;
    private static final int NAME = 256;
    private static final int ID = 128;

    private final JsonFactory factory = new JsonFactory();
    private final List<RequestEvent> pool = new ArrayList<>();

    /** The bytes are no valid event, or hold one that is none. */
    static final class InvalidException extends IOException {
        private static final long serialVersionUID = 1L;

        InvalidException(String message) {
            super(message);
        }
    }

    /**
     * Returns how many events the value holds; {@link #event} gives each until the next call.
     *
     * @throws IOException where the value is not JSON, or any element of it is no valid event
     */
    int read(byte[] value) throws IOException {
        if (value == null) {
            throw new InvalidException("the record has no value");
        }
        try (JsonParser p = factory.createParser(value)) {
            int count = 0;
            if (p.nextToken() == JsonToken.START_ARRAY) {
                while (p.nextToken() != JsonToken.END_ARRAY) {
                    readEvent(p, next(count++));
                }
            } else {
                readEvent(p, next(count++));
            }
            if (p.nextToken() != null) {
                throw new InvalidException("something follows the events");
            }
            return count;
        }
    }

    RequestEvent event(int index) {
        return pool.get(index);
    }

    private RequestEvent next(int index) {
        if (index == pool.size()) {
            pool.add(new RequestEvent());
        }
        return pool.get(index);
    }

    private static void readEvent(JsonParser p, RequestEvent e) throws IOException {
        require(p.currentToken() == JsonToken.START_OBJECT, "an event is an object");
        e.source = e.id = e.org = e.time = e.sequence = null;
        boolean version = false;
        boolean type = false;
        boolean data = false;
        for (String name = p.nextFieldName(); name != null; name = p.nextFieldName()) {
            p.nextToken();
            switch (name) {
                case "specversion" -> version = text(p, 1, NAME).equals("1.0");
                case "type" -> type = text(p, 1, NAME).equals("bharatrouter.request.completed.v1");
                case "source" -> e.source = text(p, 1, NAME);
                case "id" -> e.id = text(p, 1, NAME);
                case "subject" -> e.org = text(p, 1, ID);
                case "time" -> e.time = text(p, 20, 40);
                case "sequence" -> e.sequence = isNull(p) ? null : text(p, 1, 20);
                case "data" -> {
                    readData(p, e);
                    data = true;
                }
                default -> p.skipChildren();
            }
        }
        require(p.currentToken() == JsonToken.END_OBJECT, "an event is cut off");
        boolean whole = version && type && data && e.source != null && e.id != null && e.org != null && e.time != null;
        require(whole, "a field of the event is missing or has another value");
    }

    private static void readData(JsonParser p, RequestEvent e) throws IOException {
        require(p.currentToken() == JsonToken.START_OBJECT, "data is an object");
        e.keyId = e.tier = e.model = e.provider = e.errorCode = null;
        e.status = e.latencyMs = e.ttftMs = -1;
        e.stream = e.hasUsage = false;
        e.promptTokens = e.cachedTokens = e.completionTokens = e.reasoningTokens = 0;
        boolean byok = false;
        for (String name = p.nextFieldName(); name != null; name = p.nextFieldName()) {
            p.nextToken();
            switch (name) {
                case "key_id" -> e.keyId = text(p, 1, ID);
                case "tier" -> e.tier = text(p, 1, NAME);
                case "byok" -> {
                    e.byok = flag(p);
                    byok = true;
                }
                case "model" -> e.model = text(p, 1, NAME);
                case "provider" -> e.provider = isNull(p) ? null : text(p, 1, NAME);
                case "status" -> e.status = number(p, 100, 599);
                case "error_code" -> e.errorCode = isNull(p) ? null : text(p, 0, NAME);
                case "latency_ms" -> e.latencyMs = number(p, 0, MAX_LATENCY_MS);
                case "ttft_ms" -> e.ttftMs = isNull(p) ? -1 : number(p, 0, MAX_LATENCY_MS);
                case "stream" -> e.stream = !isNull(p) && flag(p);
                case "usage" -> {
                    if (!isNull(p)) {
                        readUsage(p, e);
                    }
                }
                default -> p.skipChildren();
            }
        }
        boolean whole = e.keyId != null && e.tier != null && byok && e.model != null && e.status >= 0 && e.latencyMs >= 0;
        require(whole && (e.tier.equals("standard") || e.tier.equals("trial")), "a field of data is missing or wrong");
    }

    private static void readUsage(JsonParser p, RequestEvent e) throws IOException {
        require(p.currentToken() == JsonToken.START_OBJECT, "usage is an object");
        e.promptTokens = e.completionTokens = -1;
        int total = -1;
        for (String name = p.nextFieldName(); name != null; name = p.nextFieldName()) {
            p.nextToken();
            switch (name) {
                case "prompt_tokens" -> e.promptTokens = number(p, 0, MAX_TOKENS);
                case "completion_tokens" -> e.completionTokens = number(p, 0, MAX_TOKENS);
                case "total_tokens" -> total = isNull(p) ? -1 : number(p, 0, 4 * MAX_TOKENS);
                case "prompt_tokens_details" -> e.cachedTokens = readDetail(p, "cached_tokens");
                case "completion_tokens_details" -> e.reasoningTokens = readDetail(p, "reasoning_tokens");
                default -> p.skipChildren();
            }
        }
        require(e.promptTokens >= 0 && e.completionTokens >= 0, "usage lacks tokens");
        require(total < 0 || total == e.promptTokens + e.completionTokens, "the total is another");
        e.hasUsage = true;
    }

    /** Returns the one number that is wanted of a details object, 0 where object or number is absent. */
    private static int readDetail(JsonParser p, String wanted) throws IOException {
        int found = 0;
        if (isNull(p)) {
            return found;
        }
        require(p.currentToken() == JsonToken.START_OBJECT, "details are an object");
        for (String name = p.nextFieldName(); name != null; name = p.nextFieldName()) {
            p.nextToken();
            if (name.equals(wanted)) {
                found = isNull(p) ? 0 : number(p, 0, MAX_TOKENS);
            } else {
                p.skipChildren();
            }
        }
        return found;
    }

    private static boolean isNull(JsonParser p) {
        return p.currentToken() == JsonToken.VALUE_NULL;
    }

    private static String text(JsonParser p, int least, int most) throws IOException {
        require(p.currentToken() == JsonToken.VALUE_STRING, "not a text");
        String text = p.getText();
        // Limits count characters; a text of no more UTF-16 units has no more of them.
        boolean fits = text.length() >= least && text.length() <= most;
        if (!fits || least > 1) {
            int characters = text.codePointCount(0, text.length());
            require(characters >= least && characters <= most, "too short or too long a text");
        }
        return text;
    }

    private static int number(JsonParser p, int least, int most) throws IOException {
        require(p.currentToken() == JsonToken.VALUE_NUMBER_INT, "not a whole number");
        int number = p.getIntValue();
        require(number >= least && number <= most, "too small or too large a number");
        return number;
    }

    private static boolean flag(JsonParser p) throws IOException {
        JsonToken token = p.currentToken();
        require(token == JsonToken.VALUE_TRUE || token == JsonToken.VALUE_FALSE, "neither true nor false");
        return token == JsonToken.VALUE_TRUE;
    }

    private static void require(boolean holds, String otherwise) throws InvalidException {
        if (!holds) {
            throw new InvalidException(otherwise);
        }
    }
}
