package peer;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.StreamPartitioner;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The debit path as a Kafka Streams application.
 *
 * <p>Arguments: bootstrap servers, a directory for state, the number of partitions, the number of warm-up passes, how
 * many rows one record of the journal may hold, and the application's id, which its output topics are named after.
 * Each warm-up pass is the whole application, under an id of its own, over the whole input; the last pass is the one to
 * measure and goes on until it is ended. So what is measured starts with empty stores and compiled code.
 */
public final class Peer {
    private static final String REQUESTS = "metering.requests";
    private static final String CATALOG = "metering.catalog";

    private Peer() {}

    public static void main(String[] arguments) throws Exception {
        String servers = arguments[0];
        int partitions = Integer.parseInt(arguments[2]);
        int passes = Integer.parseInt(arguments[3]);
        long records = records(servers, partitions);
        for (int pass = 1; pass <= passes; pass++) {
            KafkaStreams warm = start(arguments, arguments[5] + "-warm-" + pass, partitions, arguments[5] + ".warm");
            while (Debit.RECORDS.get() < pass * records) {
                Thread.sleep(50);
            }
            warm.close();
        }
        start(arguments, arguments[5], partitions, arguments[5]);
        new CountDownLatch(1).await();
    }

    /** Returns how many records lie in the input; nothing in it was written in transactions. */
    private static long records(String servers, int partitions) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", servers))) {
            Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
            for (int p = 0; p < partitions; p++) {
                asked.put(new TopicPartition(REQUESTS, p), OffsetSpec.latest());
            }
            return admin.listOffsets(asked).all().get().values().stream().mapToLong(end -> end.offset()).sum();
        }
    }

    private static KafkaStreams start(String[] arguments, String id, int partitions, String outputs) {
        KafkaStreams streams = new KafkaStreams(
                topology(partitions, Integer.parseInt(arguments[4]), outputs), settings(arguments, id));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        return streams;
    }

    private static Topology topology(int partitions, int rowsARecord, String outputs) {
        StoreBuilder<KeyValueStore<byte[], byte[]>> rates = Stores.keyValueStoreBuilder(
                        Stores.inMemoryKeyValueStore(Rates.STORE), Serdes.ByteArray(), Serdes.ByteArray())
                .withLoggingDisabled();
        StoreBuilder<KeyValueStore<String, Account>> accounts = Stores.keyValueStoreBuilder(
                        Stores.inMemoryKeyValueStore(Debit.ACCOUNTS),
                        Serdes.String(),
                        Serdes.serdeFrom(new Account.Out(), new Account.In()))
                .withCachingEnabled();
        StoreBuilder<KeyValueStore<String, byte[]>> charged = Stores.keyValueStoreBuilder(
                        Stores.inMemoryKeyValueStore(Charged.STORE), Serdes.String(), Serdes.ByteArray())
                .withCachingEnabled();
        ByteArrayDeserializer in = new ByteArrayDeserializer();
        ByteArraySerializer out = new ByteArraySerializer();
        Topology topology = new Topology()
                .addGlobalStore(rates, "catalog", in, in, CATALOG, "rates", Rates.Keeper::new)
                .addSource("requests", in, in, REQUESTS)
                .addProcessor("debit", () -> new Debit(partitions, rowsARecord), "requests")
                .addStateStore(accounts, "debit")
                .addStateStore(charged, "debit");
        StreamPartitioner<byte[], byte[]> byKey = (topic, key, value, count) ->
                Optional.of(Set.of(ByteBuffer.wrap(key).getInt()));
        for (String output : List.of(Debit.JOURNAL, Debit.MOVED, Debit.DEAD_LETTERS)) {
            topology.addSink(output, outputs + "." + output, out, out, byKey, "debit");
        }
        return topology;
    }

    private static Properties settings(String[] arguments, String id) {
        Properties to = new Properties();
        to.put(StreamsConfig.APPLICATION_ID_CONFIG, id);
        to.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        to.put(StreamsConfig.STATE_DIR_CONFIG, Path.of(arguments[1], id).toString());
        to.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        to.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        to.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        to.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
        to.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
        to.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        to.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 10_000);
        to.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 2 << 20);
        to.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, "zstd");
        to.put(ProducerConfig.BATCH_SIZE_CONFIG, 1 << 20);
        to.put(ProducerConfig.LINGER_MS_CONFIG, 100);
        to.put(ProducerConfig.BUFFER_MEMORY_CONFIG, 128L << 20);
        to.put(ProducerConfig.MAX_REQUEST_SIZE_CONFIG, 16 << 20);
        return to;
    }
}
