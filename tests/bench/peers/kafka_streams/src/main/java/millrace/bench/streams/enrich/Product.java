package millrace.bench.streams.enrich;

import java.io.IOException;
import millrace.bench.streams.avro.FramedReader;
import millrace.bench.streams.avro.Nullable;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** What enrich needs of a product. */
record Product(Utf8 brand, Utf8 category, Long priceCents) {
    private static final int CENTS = 100;

    /** A product beside the bytes it came in: the store keeps those of the topic. */
    record Stored(byte[] framed, Product product) {}

    static Serde<Stored> serde() {
        Reader reader = new Reader();
        return Serdes.serdeFrom(
                (topic, stored) -> stored == null ? null : stored.framed(),
                (topic, framed) -> framed == null ? null : new Stored(framed, reader.deserialize(topic, framed)));
    }

    private static final class Reader extends FramedReader<Product> {
        @Override
        protected Product read(BinaryDecoder in) throws IOException {
            in.skipString(); // productId
            Nullable.skipString(in); // name
            Utf8 brand = Nullable.readString(in);
            Utf8 category = Nullable.readString(in);
            Double price = Nullable.readDouble(in);
            return new Product(brand, category, price == null ? null : Math.round(price * CENTS));
        }
    }
}
