package millrace.bench.streams.enrich;

import java.io.IOException;
import millrace.bench.streams.avro.FramedWriter;
import millrace.bench.streams.avro.Layout;
import millrace.bench.streams.avro.Nullable;
import org.apache.avro.Schema;
import org.apache.avro.io.BinaryEncoder;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/**
 * An event and its product.
 *
 * @param product without anything in it if the event is about none, or about an unknown one
 */
record EnrichedEvent(UserEvent event, Product product) {
    private static final Product NO_PRODUCT = new Product(null, null, null);

    /** @param stored null if the event is about no product, or about an unknown one */
    static EnrichedEvent of(UserEvent event, Product.Stored stored) {
        return new EnrichedEvent(event, stored == null ? NO_PRODUCT : stored.product());
    }

    static Serde<EnrichedEvent> serde(Schema schema, int schemaId) {
        return Serdes.serdeFrom(new Writer(schema, schemaId), unused());
    }

    private static Deserializer<EnrichedEvent> unused() {
        return (topic, bytes) -> {
            throw new UnsupportedOperationException("enriched events are only written");
        };
    }

    private static final class Writer extends FramedWriter<EnrichedEvent> {
        Writer(Schema schema, int schemaId) {
            super(schemaId);
            Layout.check(
                    schema,
                    "event_id",
                    "client_session_id",
                    "user_id",
                    "event_type",
                    "event_time",
                    "device_type",
                    "product_id",
                    "product_brand",
                    "product_category",
                    "product_price_cents");
        }

        @Override
        protected void write(EnrichedEvent enriched, BinaryEncoder out) throws IOException {
            UserEvent event = enriched.event();
            Product product = enriched.product();
            out.writeString(event.eventId());
            out.writeString(event.sessionId());
            Nullable.write(event.userId(), out);
            out.writeString(event.eventType());
            out.writeLong(event.timestampMillis());
            out.writeString(event.deviceType().label());
            Nullable.write(event.productId(), out);
            Nullable.write(product.brand(), out);
            Nullable.write(product.category(), out);
            Nullable.write(product.priceCents(), out);
        }
    }
}
