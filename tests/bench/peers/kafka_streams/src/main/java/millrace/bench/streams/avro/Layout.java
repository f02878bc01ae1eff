package millrace.bench.streams.avro;

import java.util.List;
import org.apache.avro.Schema;

/** Says whether a schema is the one that code was written for. */
public final class Layout {
    private Layout() {}

    /**
     * Check names and order of the first fields of a record.
     *
     * @throws IllegalArgumentException if they differ
     */
    public static void check(Schema record, String... fields) {
        List<String> found = record.getFields().stream().map(Schema.Field::name).limit(fields.length).toList();
        if (!found.equals(List.of(fields))) {
            throw new IllegalArgumentException(record.getFullName() + " begins with " + found);
        }
    }
}
