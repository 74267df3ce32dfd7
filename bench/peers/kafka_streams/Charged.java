package peer;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Which events were charged before: the last number of each source, and a ring of marks for the others; and how
 * far the journal has come. All of it is in one store of the task, under keys that start with a letter.
 */
final class Charged {
    static final String STORE = "charged";
    private static final int RING_MARKS = 200_000;
    private static final int MARK_BYTES = 16;
    private static final String JOURNAL = "j";

    private final KeyValueStore<String, byte[]> store;
    private final Map<String, Source> sources = new HashMap<>();
    private final Set<ByteBuffer> marks = new HashSet<>();
    private final MessageDigest digest;
    private long marked;
    long position = 1;
    long postedMs;

    /** The last number of a source. Twenty digits do not fit a long, so the first two are kept apart. */
    static final class Source {
        final String name;
        private long high = -1;
        private long low;
        private long heardHigh;
        private long heardLow;
        private boolean changed;

        private Source(String name) {
            this.name = name;
        }

        /** Returns whether a number of 1 to 20 digits is higher than every one taken. */
        boolean isNew(String digits) {
            int split = Math.max(0, digits.length() - 18);
            heardHigh = split == 0 ? 0 : Long.parseLong(digits, 0, split, 10);
            heardLow = Long.parseLong(digits, split, digits.length(), 10);
            return heardHigh > high || heardHigh == high && heardLow > low;
        }

        /** Takes the number that was asked about last. */
        void take() {
            high = heardHigh;
            low = heardLow;
            changed = true;
        }
    }

    Charged(KeyValueStore<String, byte[]> store) {
        this.store = store;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
        try (KeyValueIterator<String, byte[]> all = store.all()) {
            while (all.hasNext()) {
                restore(all.next());
            }
        }
    }

    private void restore(KeyValue<String, byte[]> kept) {
        ByteBuffer value = ByteBuffer.wrap(kept.value);
        switch (kept.key.charAt(0)) {
            case 'n' -> {
                Source source = source(kept.key.substring(1));
                source.high = value.getLong();
                source.low = value.getLong();
            }
            case 'm' -> marks.add(value);
            default -> {
                position = value.getLong();
                postedMs = value.getLong();
                marked = value.getLong();
            }
        }
    }

    Source source(String name) {
        return sources.computeIfAbsent(name, Source::new);
    }

    /** Returns the mark of an event without a number: 128 bits of its source and id. */
    ByteBuffer mark(String source, String id) {
        digest.update((source.length() + ":" + source + id).getBytes(StandardCharsets.UTF_8));
        return ByteBuffer.wrap(Arrays.copyOf(digest.digest(), MARK_BYTES));
    }

    boolean isMarked(ByteBuffer mark) {
        return marks.contains(mark);
    }

    /** Remembers a mark, in the slot of the oldest. */
    void mark(ByteBuffer mark) {
        String slot = "m" + marked++ % RING_MARKS;
        byte[] oldest = store.get(slot);
        if (oldest != null) {
            marks.remove(ByteBuffer.wrap(oldest));
        }
        marks.add(mark);
        store.put(slot, mark.array());
    }

    /** Writes what the record in hand has changed of a source. */
    void save(Source source) {
        if (source != null && source.changed) {
            source.changed = false;
            store.put("n" + source.name, ByteBuffer.allocate(16).putLong(source.high).putLong(source.low).array());
        }
    }

    /** Writes how far the journal has come. */
    void savePosition() {
        store.put(JOURNAL, ByteBuffer.allocate(24).putLong(position).putLong(postedMs).putLong(marked).array());
    }
}
