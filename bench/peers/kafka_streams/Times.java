package peer;

import java.time.DateTimeException;
import java.time.LocalDate;
import java.time.OffsetDateTime;

/** RFC 3339 times, and days and months in Indian Standard Time (pipeline/ist.py). */
final class Times {
    static final long DAY_MS = 86_400_000L;
    static final long NONE = Long.MIN_VALUE;
    private static final long OFFSET_MS = 19_800_000L;

    private String second = "";
    private long secondMs;
    private long monthDay = Long.MIN_VALUE;
    private int month;

    /** Returns milliseconds since the epoch, cut and not rounded, or {@link #NONE} for what is no time. */
    long ms(String text) {
        // Nearly all are UTC to the millisecond, and many of one second follow each other.
        if (text.length() == 24 && text.charAt(23) == 'Z' && text.charAt(19) == '.' && text.startsWith(second)) {
            int hundreds = text.charAt(20) - '0';
            int tens = text.charAt(21) - '0';
            int ones = text.charAt(22) - '0';
            boolean digits = (hundreds | tens | ones) >= 0 && hundreds < 10 && tens < 10 && ones < 10;
            if (digits && !second.isEmpty()) {
                return secondMs + hundreds * 100 + tens * 10 + ones;
            }
        }
        return parse(text);
    }

    private long parse(String text) {
        try {
            // A leap second counts as the one after it.
            boolean leap = text.startsWith("23:59:60", 11);
            String plain = leap ? text.substring(0, 17) + "59" + text.substring(19) : text;
            long ms = OffsetDateTime.parse(plain).toInstant().toEpochMilli() + (leap ? 1000 : 0);
            if (!leap && text.endsWith("Z")) {
                second = text.substring(0, 19);
                secondMs = Math.floorDiv(ms, 1000L) * 1000L;
            }
            return ms;
        } catch (DateTimeException | StringIndexOutOfBoundsException e) {
            return NONE;
        }
    }

    static int day(long ms) {
        return (int) Math.floorDiv(ms + OFFSET_MS, DAY_MS);
    }

    /** Returns the month YYYYMM of an IST day. */
    int month(int day) {
        if (day != monthDay) {
            LocalDate date = LocalDate.ofEpochDay(day);
            monthDay = day;
            month = date.getYear() * 100 + date.getMonthValue();
        }
        return month;
    }
}
