package millrace.bench.streams.avro;

import java.io.IOException;
import java.nio.ByteBuffer;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;

/**
 * Decodes a registry-framed Avro datum (0, four bytes of schema id, body) field by field.
 *
 * <p>Subclasses read the fields they need in the writer's order and skip the rest: no object is made for a field that
 * nobody asks for. Instances belong to one thread.
 */
public abstract class FramedReader<T> implements Deserializer<T> {
    private BinaryDecoder decoder;
    private int schemaId = -1;

    /** Read one datum. Fields behind the last one of interest may be left alone. */
    protected abstract T read(BinaryDecoder in) throws IOException;

    @Override
    public final T deserialize(String topic, byte[] framed) {
        if (framed == null) {
            return null;
        }
        checkFrame(ByteBuffer.wrap(framed));
        decoder = DecoderFactory.get().binaryDecoder(framed, Frame.BYTES, framed.length - Frame.BYTES, decoder);
        try {
            return read(decoder);
        } catch (IOException error) {
            throw new SerializationException("no datum of the expected schema in " + topic, error);
        }
    }

    /** A reader is written for one schema: a topic with a second one needs a second reader. */
    private void checkFrame(ByteBuffer framed) {
        if (framed.get() != Frame.MAGIC) {
            throw new SerializationException("a value without a schema id");
        }
        int id = framed.getInt();
        if (id != schemaId && schemaId != -1) {
            throw new SerializationException("schema " + id + " in a topic of schema " + schemaId);
        }
        schemaId = id;
    }
}
