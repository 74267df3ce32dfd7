package peer;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serializer;

/** What requests change of an org: its debits, and what each key used by IST month and day. Nano-rupees. */
final class Account {
    static final long DEBITED_MAX_NANO = 4_000_000_000_000_000_000L;
    private static final int MONTHS_KEPT = 4;
    private static final int DAYS_KEPT = 3;

    /** The account's key in its store; not part of the stored value. */
    String org;
    long debitedNano;
    final Map<String, KeyUsage> keys = new HashMap<>();
    /** Whether it is in the list of what the record in hand has changed. */
    boolean touched;

    Account(String org) {
        this.org = org;
    }

    /** What a key has used; the newest few months and days. */
    static final class KeyUsage {
        final byte[] keyId;
        final int[] months = new int[MONTHS_KEPT];
        final long[] spentNano = new long[MONTHS_KEPT];
        final int[] days = new int[DAYS_KEPT];
        final int[] requests = new int[DAYS_KEPT];
        boolean trial;

        KeyUsage(byte[] keyId) {
            this.keyId = keyId;
        }

        /** Returns where a day or month stands, after making room for it by dropping the oldest. */
        private static int place(int[] kept, int wanted) {
            int oldest = 0;
            for (int i = 0; i < kept.length; i++) {
                if (kept[i] == wanted) {
                    return i;
                }
                if (kept[i] < kept[oldest]) {
                    oldest = i;
                }
            }
            return -oldest - 1;
        }

        void count(int day, int month, long costNano, boolean asTrial) {
            int at = place(days, day);
            if (at < 0) {
                boolean newest = true;
                for (int other : days) {
                    newest &= day > other;
                }
                trial &= !newest;
                at = -at - 1;
                if (days[at] < day) {
                    days[at] = day;
                    requests[at] = 1;
                }
            } else {
                requests[at]++;
            }
            trial |= asTrial;
            if (costNano == 0) {
                return;
            }
            at = place(months, month);
            if (at >= 0) {
                spentNano[at] += costNano;
            } else if (months[-at - 1] < month) {
                months[-at - 1] = month;
                spentNano[-at - 1] = costNano;
            }
        }
    }

    void charge(String keyId, int day, int month, long costNano, boolean trial) {
        debitedNano += costNano;
        KeyUsage usage = keys.get(keyId);
        if (usage == null) {
            usage = new KeyUsage(keyId.getBytes(StandardCharsets.UTF_8));
            keys.put(keyId, usage);
        }
        usage.count(day, month, costNano, trial);
    }

    /** Binary, as small as needed: it is written for every account that a record touches. */
    static final class Out implements Serializer<Account> {
        private ByteBuffer room = ByteBuffer.allocate(4096);

        @Override
        public byte[] serialize(String topic, Account account) {
            if (account == null) {
                return null;
            }
            int most = 16 + account.keys.size() * (2 + 128 * 4 + 1 + MONTHS_KEPT * 12 + DAYS_KEPT * 8);
            if (room.capacity() < most) {
                room = ByteBuffer.allocate(2 * most);
            }
            room.clear();
            room.putLong(account.debitedNano).putInt(account.keys.size());
            for (KeyUsage usage : account.keys.values()) {
                room.putShort((short) usage.keyId.length).put(usage.keyId).put((byte) (usage.trial ? 1 : 0));
                for (int i = 0; i < MONTHS_KEPT; i++) {
                    room.putInt(usage.months[i]).putLong(usage.spentNano[i]);
                }
                for (int i = 0; i < DAYS_KEPT; i++) {
                    room.putInt(usage.days[i]).putInt(usage.requests[i]);
                }
            }
            byte[] value = new byte[room.position()];
            room.flip();
            room.get(value);
            return value;
        }
    }

    /** Reads what {@link Out} wrote; the org is the record's key and is not in the value. */
    static final class In implements Deserializer<Account> {
        @Override
        public Account deserialize(String topic, byte[] value) {
            if (value == null) {
                return null;
            }
            ByteBuffer from = ByteBuffer.wrap(value);
            Account account = new Account(null);
            account.debitedNano = from.getLong();
            for (int left = from.getInt(); left > 0; left--) {
                byte[] keyId = new byte[from.getShort()];
                from.get(keyId);
                KeyUsage usage = new KeyUsage(keyId);
                usage.trial = from.get() == 1;
                for (int i = 0; i < MONTHS_KEPT; i++) {
                    usage.months[i] = from.getInt();
                    usage.spentNano[i] = from.getLong();
                }
                for (int i = 0; i < DAYS_KEPT; i++) {
                    usage.days[i] = from.getInt();
                    usage.requests[i] = from.getInt();
                }
                account.keys.put(new String(keyId, StandardCharsets.UTF_8), usage);
            }
            return account;
        }
    }
}
