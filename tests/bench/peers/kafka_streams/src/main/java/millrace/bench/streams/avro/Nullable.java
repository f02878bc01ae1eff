package millrace.bench.streams.avro;

import java.io.IOException;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.util.Utf8;

/** Fields of type {@code ["null", X]}. */
public final class Nullable {
    private static final int NULL = 0;
    private static final int VALUE = 1;

    private Nullable() {}

    public static Utf8 readString(BinaryDecoder in) throws IOException {
        return in.readIndex() == NULL ? null : in.readString(null);
    }

    public static void skipString(BinaryDecoder in) throws IOException {
        if (in.readIndex() == VALUE) {
            in.skipString();
        }
    }

    public static Double readDouble(BinaryDecoder in) throws IOException {
        return in.readIndex() == NULL ? null : in.readDouble();
    }

    public static void write(Utf8 value, BinaryEncoder out) throws IOException {
        out.writeIndex(value == null ? NULL : VALUE);
        if (value != null) {
            out.writeString(value);
        }
    }

    public static void write(Long value, BinaryEncoder out) throws IOException {
        out.writeIndex(value == null ? NULL : VALUE);
        if (value != null) {
            out.writeLong(value);
        }
    }
}
