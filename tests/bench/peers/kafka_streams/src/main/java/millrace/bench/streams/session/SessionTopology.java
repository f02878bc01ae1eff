package millrace.bench.streams.session;

import java.time.Duration;
import millrace.bench.streams.Environment;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.SessionStore;

/** Job session: count what happens in a session, and tell when it has closed. */
public final class SessionTopology {
    private static final Duration GAP = Duration.ofMinutes(30);
    private static final Duration GRACE = Duration.ofMinutes(5);
    /**
     * How long sessions stay in the store. With the least, gap and grace, a few are dropped with their segment before they are emitted:
     * the bench has seen some in a thousand lost. And a segment is half of this: fewer of them have to be looked into.
     */
    private static final Duration RETENTION = Duration.ofHours(2);

    private SessionTopology() {}

    public static Topology of(Environment environment) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(
                        environment.input(),
                        Consumed.with(Serdes.ByteArray(), ShopEvent.serde(environment.inputSchema()))
                                .withTimestampExtractor(ShopEvent::time))
                .groupByKey(Grouped.keySerde(Serdes.ByteArray()))
                .windowedBy(SessionWindows.ofInactivityGapAndGrace(GAP, GRACE))
                .emitStrategy(EmitStrategy.onWindowClose())
                .aggregate(
                        () -> Counts.NONE,
                        (key, event, counts) -> counts.with(event),
                        (key, left, right) -> left.plus(right),
                        counts(environment.store()))
                .toStream()
                .map(SessionTopology::session)
                .to(
                        environment.output(),
                        Produced.with(
                                Serdes.ByteArray(),
                                Session.serde(environment.outputSchema(), environment.outputSchemaId())));
        return builder.build();
    }

    private static Materialized<byte[], Counts, SessionStore<Bytes, byte[]>> counts(String store) {
        Materialized<byte[], Counts, SessionStore<Bytes, byte[]>> counts = Materialized.as(
                store.equals("memory") ? Materialized.StoreType.IN_MEMORY : Materialized.StoreType.ROCKS_DB);
        return counts.withKeySerde(Serdes.ByteArray()).withValueSerde(Counts.serde()).withRetention(RETENTION);
    }

    private static KeyValue<byte[], Session> session(Windowed<byte[]> window, Counts counts) {
        Utf8 id = new Utf8(window.key());
        return KeyValue.pair(window.key(), new Session(id, window.window().start(), window.window().end(), counts));
    }
}
