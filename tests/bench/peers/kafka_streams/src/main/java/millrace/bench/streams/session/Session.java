package millrace.bench.streams.session;

import java.io.IOException;
import millrace.bench.streams.avro.FramedWriter;
import millrace.bench.streams.avro.Layout;
import org.apache.avro.Schema;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** A closed session, from its first event to its last. */
record Session(Utf8 clientSessionId, long startedAtMillis, long endedAtMillis, Counts counts) {
    static Serde<Session> serde(Schema schema, int schemaId) {
        return Serdes.serdeFrom(new Writer(schema, schemaId), unused());
    }

    private static Deserializer<Session> unused() {
        return (topic, bytes) -> {
            throw new UnsupportedOperationException("sessions are only written");
        };
    }

    private static final class Writer extends FramedWriter<Session> {
        Writer(Schema schema, int schemaId) {
            super(schemaId);
            Layout.check(
                    schema, "client_session_id", "started_at", "ended_at", "event_count", "page_views", "purchases");
        }

        @Override
        protected void write(Session session, BinaryEncoder out) throws IOException {
            out.writeString(session.clientSessionId());
            out.writeLong(session.startedAtMillis());
            out.writeLong(session.endedAtMillis());
            out.writeInt(session.counts().events());
            out.writeInt(session.counts().pageViews());
            out.writeInt(session.counts().purchases());
        }
    }
}
