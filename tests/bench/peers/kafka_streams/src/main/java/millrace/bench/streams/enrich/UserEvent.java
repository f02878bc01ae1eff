package millrace.bench.streams.enrich;

import java.io.IOException;
import java.util.List;
import millrace.bench.streams.avro.FramedReader;
import millrace.bench.streams.avro.Layout;
import millrace.bench.streams.avro.Nullable;
import org.apache.avro.Schema;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;

/**
 * What enrich needs of an event.
 *
 * @param timestampMillis event time
 * @param productId null if the event is about no product
 */
record UserEvent(
        Utf8 eventId,
        Utf8 userId,
        Utf8 sessionId,
        Utf8 eventType,
        long timestampMillis,
        Utf8 productId,
        DeviceType deviceType) {

    boolean isValid() {
        return eventId.getByteLength() > 0 && sessionId.getByteLength() > 0;
    }

    static Serde<UserEvent> serde(Schema schema) {
        return Serdes.serdeFrom(unused(), new Reader(schema));
    }

    private static Serializer<UserEvent> unused() {
        return (topic, event) -> {
            throw new UnsupportedOperationException("user events are only read");
        };
    }

    private static final class Reader extends FramedReader<UserEvent> {
        private static final Utf8 PRODUCT_ID = new Utf8("productId");

        private final List<Utf8> eventTypes;
        private final DeviceTypes deviceTypes = new DeviceTypes();
        private Utf8 property = new Utf8();
        private Utf8 userAgent = new Utf8();

        Reader(Schema schema) {
            Layout.check(
                    schema, "eventId", "userId", "sessionId", "eventType", "timestamp", "properties", "context");
            Layout.check(schema.getField("context").schema(), "userAgent");
            eventTypes = schema.getField("eventType").schema().getEnumSymbols().stream().map(Utf8::new).toList();
        }

        @Override
        protected UserEvent read(BinaryDecoder in) throws IOException {
            Utf8 eventId = in.readString(null);
            Utf8 userId = Nullable.readString(in);
            Utf8 sessionId = in.readString(null);
            Utf8 eventType = eventTypes.get(in.readEnum());
            long timestampMillis = in.readLong();
            Utf8 productId = readProductId(in);
            userAgent = in.readString(userAgent);
            return new UserEvent(
                    eventId, userId, sessionId, eventType, timestampMillis, productId, deviceTypes.of(userAgent));
        }

        private Utf8 readProductId(BinaryDecoder in) throws IOException {
            Utf8 productId = null;
            for (long entries = in.readMapStart(); entries != 0; entries = in.mapNext()) {
                for (long entry = 0; entry < entries; entry++) {
                    property = in.readString(property);
                    if (property.equals(PRODUCT_ID)) {
                        productId = in.readString(null);
                    } else {
                        in.skipString();
                    }
                }
            }
            return productId;
        }
    }
}
