package millrace.bench.streams.session;

import java.nio.ByteBuffer;
import millrace.bench.streams.session.ShopEvent.Type;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** What has happened in a session so far. */
record Counts(int events, int pageViews, int purchases) {
    static final Counts NONE = new Counts(0, 0, 0);
    private static final int BYTES = 3 * Integer.BYTES;

    Counts with(ShopEvent event) {
        return new Counts(
                events + 1,
                event.type() == Type.PAGE_VIEW ? pageViews + 1 : pageViews,
                event.type() == Type.PURCHASE ? purchases + 1 : purchases);
    }

    Counts plus(Counts other) {
        return new Counts(events + other.events, pageViews + other.pageViews, purchases + other.purchases);
    }

    static Serde<Counts> serde() {
        return Serdes.serdeFrom((topic, counts) -> counts == null ? null : counts.toBytes(), (topic, bytes) -> of(bytes));
    }

    private byte[] toBytes() {
        return ByteBuffer.allocate(BYTES).putInt(events).putInt(pageViews).putInt(purchases).array();
    }

    private static Counts of(byte[] bytes) {
        if (bytes == null) {
            return null;
        }
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        return new Counts(buffer.getInt(), buffer.getInt(), buffer.getInt());
    }
}
