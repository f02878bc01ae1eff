package millrace.bench.streams.enrich;

import millrace.bench.streams.Environment;
import millrace.bench.streams.avro.Utf8Serde;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.Stores;

/** Job enrich: validate, tell the device, join the product; keys pass as they are. */
public final class EnrichTopology {
    private EnrichTopology() {}

    public static Topology of(Environment environment) {
        StreamsBuilder builder = new StreamsBuilder();
        GlobalKTable<Utf8, Product.Stored> products = builder.globalTable(
                environment.products(),
                Consumed.with(Utf8Serde.create(), Product.serde()),
                Materialized.as(Stores.inMemoryKeyValueStore("products")));
        builder.stream(environment.input(), Consumed.with(Serdes.ByteArray(), UserEvent.serde(environment.inputSchema())))
                .filter((key, event) -> event.isValid())
                .leftJoin(products, (key, event) -> event.productId(), EnrichedEvent::of)
                .to(
                        environment.output(),
                        Produced.with(
                                Serdes.ByteArray(),
                                EnrichedEvent.serde(environment.outputSchema(), environment.outputSchemaId())));
        return builder.build();
    }
}
