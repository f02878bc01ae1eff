package millrace.bench.streams;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.Map;
import org.apache.avro.Schema;

/**
 * What the bench tells a system under test.
 *
 * @param bootstrapServers the broker
 * @param job enrich or session
 * @param input topic to read
 * @param output topic to write
 * @param products compacted topic of products; only enrich reads it
 * @param inputSchema what the input was written with
 * @param outputSchema what the output shall be written with
 * @param outputSchemaId the registry's id of {@code outputSchema}
 * @param group application id, new for each run
 * @param stateFolder an empty folder of this run
 * @param guarantee a {@code processing.guarantee} of Kafka Streams
 * @param threads how many stream threads
 * @param store where open sessions are kept: rocksdb or memory
 */
public record Environment(
        String bootstrapServers,
        String job,
        String input,
        String output,
        String products,
        Schema inputSchema,
        Schema outputSchema,
        int outputSchemaId,
        String group,
        Path stateFolder,
        String guarantee,
        int threads,
        String store) {

    static Environment of(Map<String, String> variables) {
        return new Environment(
                required(variables, "BENCH_BOOTSTRAP"),
                required(variables, "BENCH_JOB"),
                required(variables, "BENCH_INPUT"),
                required(variables, "BENCH_OUTPUT"),
                variables.getOrDefault("BENCH_PRODUCTS", ""),
                schema(required(variables, "BENCH_INPUT_SCHEMA")),
                schema(required(variables, "BENCH_OUTPUT_SCHEMA")),
                Integer.parseInt(required(variables, "BENCH_OUTPUT_SCHEMA_ID")),
                required(variables, "BENCH_GROUP"),
                Path.of(required(variables, "BENCH_STATE_DIR")),
                variables.getOrDefault("BENCH_GUARANTEE", "exactly_once_v2"),
                Integer.parseInt(variables.getOrDefault("BENCH_THREADS", "1")),
                variables.getOrDefault("BENCH_STORE", "rocksdb"));
    }

    private static String required(Map<String, String> variables, String name) {
        String value = variables.get(name);
        if (value == null) {
            throw new IllegalArgumentException(name + " is not set");
        }
        return value;
    }

    private static Schema schema(String path) {
        try {
            return new Schema.Parser().parse(Path.of(path).toFile());
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
