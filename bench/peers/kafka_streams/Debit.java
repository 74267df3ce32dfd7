package peer;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Charges the events of one partition, in the order of checks of pipeline/posting/requests.py: validity, age,
 * duplicates, place, rate.
 *
 * <p>A task is the only writer of its stores, so the objects in its maps are the accounts, and a store is only
 * written to: no account is read back and decoded for each record. What a record of many events changes is written
 * once a record; the store's cache lets the changes of one account between two commits become one record of the
 * changelog.
 */
final class Debit implements Processor<byte[], byte[], byte[], byte[]> {
    static final String ACCOUNTS = "accounts";
    static final String JOURNAL = "journal";
    static final String MOVED = "moved";
    static final String DEAD_LETTERS = "dead-letters";
    static final AtomicLong RECORDS = new AtomicLong();
    private static final long LATE_MS = 35 * Times.DAY_MS;
    private static final long AHEAD_MS = 600_000;
    private static final int PARTITIONS_MAX = 1024;

    private final int partitions;
    private final int rowsARecord;
    private final EventReader reader = new EventReader();
    private final Rows rows = new Rows();
    private final Times times = new Times();
    private final Map<String, Account> accounts = new HashMap<>();
    private final List<Account> touched = new ArrayList<>();
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<String, Account> accountStore;
    private Charged charged;
    private Rates rates;
    private long ratesOf = -1;
    private int partition;
    private byte[] here;

    Debit(int partitions, int rowsARecord) {
        this.partitions = partitions;
        this.rowsARecord = rowsARecord;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        partition = context.taskId().partition();
        here = placeOf(partition);
        accountStore = context.getStateStore(ACCOUNTS);
        charged = new Charged(context.getStateStore(Charged.STORE));
        System.out.println(context.applicationId() + ": partition " + partition + " is ours");
    }

    /** Returns the key of an output record that goes to a partition: what the sinks' partitioner reads. */
    private static byte[] placeOf(int partition) {
        return ByteBuffer.allocate(4).putInt(partition).array();
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        if (ratesOf != Rates.Keeper.CHANGES.get() || rates == null) {
            ratesOf = Rates.Keeper.CHANGES.get();
            rates = Rates.of(context.getStateStore(Rates.STORE));
        }
        charged.postedMs = Math.max(charged.postedMs, record.timestamp());
        try {
            int count = reader.read(record.value());
            Charged.Source source = null;
            for (int i = 0; i < count; i++) {
                source = post(record, i, source);
            }
            save(source);
        } catch (IOException e) {
            reject(record, -1, "invalid: " + e.getMessage());
        }
        forwardRows();
        RECORDS.incrementAndGet();
    }

    /** Posts one event and returns its source, so that a run of events of one source looks it up once. */
    private Charged.Source post(Record<byte[], byte[]> record, int index, Charged.Source last) {
        RequestEvent e = reader.event(index);
        long atMs = times.ms(e.time);
        String wrong = wrongWith(e, atMs, record.timestamp());
        if (wrong != null) {
            reject(record, index, wrong);
            return last;
        }
        Charged.Source source = last;
        ByteBuffer mark = null;
        if (e.sequence == null) {
            mark = charged.mark(e.source, e.id);
            if (charged.isMarked(mark)) {
                return last;
            }
        } else {
            if (last == null || !last.name.equals(e.source)) {
                charged.save(last);
                source = charged.source(e.source);
            }
            if (!source.isNew(e.sequence)) {
                return source;
            }
        }
        Account account = accounts.get(e.org);
        if (account == null) {
            account = open(e.org);
            if (account == null) {
                move(record, index, e.org);
                remember(mark, source);
                return source;
            }
        }
        long cost = 0;
        long rateFromMs = 0;
        if (!e.free()) {
            Rates.Rate rate = rates.inForce(e.model, e.provider, atMs);
            if (rate == null) {
                reject(record, index, "unpriced: no rate for " + e.model + " of " + e.provider);
                return source;
            }
            cost = rate.costNano(e);
            rateFromMs = rate.fromMs();
            if (account.debitedNano > Account.DEBITED_MAX_NANO) {
                reject(record, index, "invalid: the account's debits are beyond any real amount");
                return source;
            }
        }
        remember(mark, source);
        int day = Times.day(atMs);
        account.charge(e.keyId, day, times.month(day), cost, e.trial());
        if (!account.touched) {
            account.touched = true;
            touched.add(account);
        }
        rows.add(charged.position++ * PARTITIONS_MAX + partition, atMs, charged.postedMs, e, cost, rateFromMs);
        if (rows.rows() >= rowsARecord) {
            forwardRows();
        }
        return source;
    }

    private void forwardRows() {
        if (rows.rows() > 0) {
            context.forward(new Record<>(here, rows.take(), charged.postedMs), JOURNAL);
        }
    }

    private void remember(ByteBuffer mark, Charged.Source source) {
        if (mark != null) {
            charged.mark(mark);
        } else {
            source.take();
        }
    }

    private static String wrongWith(RequestEvent e, long atMs, long arrivedMs) {
        if (atMs == Times.NONE) {
            return "invalid: time is no RFC 3339 time";
        }
        if (atMs < arrivedMs - LATE_MS) {
            return "too_late";
        }
        if (atMs > arrivedMs + AHEAD_MS) {
            return "from_the_future";
        }
        if (e.cachedTokens > e.promptTokens || e.reasoningTokens > e.completionTokens) {
            return "invalid: more cached or reasoning tokens than tokens they are part of";
        }
        if (e.status < RequestEvent.FAILED_FROM && (!e.hasUsage || e.provider == null)) {
            return "invalid: a served request needs usage and provider";
        }
        if (e.sequence != null) {
            for (int i = 0; i < e.sequence.length(); i++) {
                if (e.sequence.charAt(i) < '0' || e.sequence.charAt(i) > '9') {
                    return "invalid: sequence is not made of digits";
                }
            }
        }
        return null;
    }

    /** Returns the account of an org that was not met before, null for an org of another partition. */
    private Account open(String org) {
        Account account = accountStore.get(org);
        if (account == null) {
            int right = Utils.toPositive(Utils.murmur2(org.getBytes(StandardCharsets.UTF_8))) % partitions;
            if (right != partition) {
                return null;
            }
            account = new Account(org);
        }
        account.org = org;
        accounts.put(org, account);
        return account;
    }

    private void save(Charged.Source source) {
        for (Account account : touched) {
            account.touched = false;
            accountStore.put(account.org, account);
        }
        touched.clear();
        charged.save(source);
        charged.savePosition();
    }

    private void move(Record<byte[], byte[]> record, int index, String org) {
        int right = Utils.toPositive(Utils.murmur2(org.getBytes(StandardCharsets.UTF_8))) % partitions;
        context.forward(new Record<>(placeOf(right), record.value(), record.timestamp(), why(index, "moved")), MOVED);
    }

    private void reject(Record<byte[], byte[]> record, int index, String reason) {
        byte[] value = record.value();
        context.forward(new Record<>(here, value, record.timestamp(), why(index, reason)), DEAD_LETTERS);
    }

    /** Which element of the record, -1 for all of it, and why: the record goes along whole. */
    private static RecordHeaders why(int index, String reason) {
        RecordHeaders headers = new RecordHeaders();
        headers.add("element", ByteBuffer.allocate(4).putInt(index).array());
        headers.add("reason", reason.getBytes(StandardCharsets.UTF_8));
        return headers;
    }
}
