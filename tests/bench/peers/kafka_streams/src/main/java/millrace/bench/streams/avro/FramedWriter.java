package millrace.bench.streams.avro;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.Serializer;

/** Encodes a value as a registry-framed Avro datum, field by field. Instances belong to one thread. */
public abstract class FramedWriter<T> implements Serializer<T> {
    private static final int TYPICAL_BYTES = 512;

    private final byte[] frame;
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(TYPICAL_BYTES);
    private BinaryEncoder encoder;

    /** @param schemaId the registry's id of what {@link #write} writes */
    protected FramedWriter(int schemaId) {
        frame = ByteBuffer.allocate(Frame.BYTES).put(Frame.MAGIC).putInt(schemaId).array();
    }

    /** Write all fields in the schema's order. */
    protected abstract void write(T value, BinaryEncoder out) throws IOException;

    @Override
    public final byte[] serialize(String topic, T value) {
        try {
            bytes.reset();
            bytes.write(frame);
            encoder = EncoderFactory.get().directBinaryEncoder(bytes, encoder);
            write(value, encoder);
            return bytes.toByteArray();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
