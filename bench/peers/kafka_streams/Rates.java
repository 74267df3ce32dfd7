package peer;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.ReadOnlyKeyValueStore;

/** The rates of all routes, read from the global store of `metering.catalog`, newest first. */
final class Rates {
    static final String STORE = "rates";
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Map<String, Map<String, List<Rate>>> byRoute = new HashMap<>();

    /** A route's prices from an instant on, in nano-rupees a token. */
    record Rate(long fromMs, long inputNano, long cachedNano, long outputNano) {
        long costNano(RequestEvent e) {
            return (e.promptTokens - e.cachedTokens) * inputNano
                    + e.cachedTokens * cachedNano
                    + e.completionTokens * outputNano;
        }
    }

    static Rates of(ReadOnlyKeyValueStore<byte[], byte[]> store) {
        Rates rates = new Rates();
        try (KeyValueIterator<byte[], byte[]> all = store.all()) {
            while (all.hasNext()) {
                JsonNode rate = JSON.readTree(all.next().value);
                rates.byRoute
                        .computeIfAbsent(rate.get("model").textValue(), model -> new HashMap<>())
                        .computeIfAbsent(rate.get("provider").textValue(), provider -> new ArrayList<>())
                        .add(new Rate(
                                rate.get("from_ms").longValue(),
                                rate.get("input_nano").longValue(),
                                rate.get("cached_nano").longValue(),
                                rate.get("output_nano").longValue()));
            }
        } catch (IOException e) {
            throw new IllegalStateException("a record of the catalog is no rate", e);
        }
        for (Map<String, List<Rate>> ofModel : rates.byRoute.values()) {
            ofModel.values().forEach(list -> list.sort(Comparator.comparingLong(Rate::fromMs).reversed()));
        }
        return rates;
    }

    Rate inForce(String model, String provider, long atMs) {
        Map<String, List<Rate>> ofModel = byRoute.get(model);
        List<Rate> ofRoute = ofModel == null ? null : ofModel.get(provider);
        if (ofRoute != null) {
            for (Rate rate : ofRoute) {
                if (rate.fromMs <= atMs) {
                    return rate;
                }
            }
        }
        return null;
    }

    /** Keeps the global store, and counts its changes so that the debits read it again only after one. */
    static final class Keeper implements Processor<byte[], byte[], Void, Void> {
        static final AtomicLong CHANGES = new AtomicLong();
        private KeyValueStore<byte[], byte[]> store;

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            store = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<byte[], byte[]> rate) {
            store.put(rate.key(), rate.value());
            CHANGES.incrementAndGet();
        }
    }
}
