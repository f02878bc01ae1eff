package millrace.bench.streams.avro;

import java.util.Arrays;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** Keys that are strings, left in UTF-8. */
public final class Utf8Serde {
    private Utf8Serde() {}

    public static Serde<Utf8> create() {
        return Serdes.serdeFrom(
                (topic, text) -> text == null ? null : Arrays.copyOf(text.getBytes(), text.getByteLength()),
                (topic, bytes) -> bytes == null ? null : new Utf8(bytes));
    }
}
