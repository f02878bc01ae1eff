package millrace.bench.streams.session;

import java.io.IOException;
import java.util.List;
import millrace.bench.streams.avro.FramedReader;
import millrace.bench.streams.avro.Layout;
import org.apache.avro.Schema;
import org.apache.avro.io.BinaryDecoder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;

/** What session needs of an enriched event; the session id is the record's key. */
record ShopEvent(Type type, long timeMillis) {
    enum Type {
        PAGE_VIEW,
        PURCHASE,
        OTHER
    }

    /** Tell Kafka Streams when the visitor acted. */
    static long time(ConsumerRecord<Object, Object> message, long partitionTime) {
        return ((ShopEvent) message.value()).timeMillis();
    }

    static Serde<ShopEvent> serde(Schema schema) {
        return Serdes.serdeFrom(unused(), new Reader(schema));
    }

    private static Serializer<ShopEvent> unused() {
        return (topic, event) -> {
            throw new UnsupportedOperationException("enriched events are only read");
        };
    }

    private static final class Reader extends FramedReader<ShopEvent> {
        private final List<Type> types;

        Reader(Schema schema) {
            Layout.check(schema, "event_id", "event_type", "event_time");
            types = schema.getField("event_type").schema().getEnumSymbols().stream().map(Reader::type).toList();
        }

        private static Type type(String symbol) {
            return switch (symbol) {
                case "page_view" -> Type.PAGE_VIEW;
                case "purchase" -> Type.PURCHASE;
                default -> Type.OTHER;
            };
        }

        @Override
        protected ShopEvent read(BinaryDecoder in) throws IOException {
            in.skipString(); // event_id
            Type type = types.get(in.readEnum());
            return new ShopEvent(type, in.readLong());
        }
    }
}
