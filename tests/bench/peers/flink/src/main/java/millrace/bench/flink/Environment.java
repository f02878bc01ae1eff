package millrace.bench.flink;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/**
 * What the bench tells a system under test.
 *
 * @param bootstrapServers the broker
 * @param registryUrl the schema registry
 * @param job enrich or session
 * @param input topic to read
 * @param output topic to write
 * @param products compacted topic of products; only enrich reads it
 * @param outputSchema Avro schema of the output, as JSON
 * @param group consumer group, new for each run
 * @param stateFolder an empty folder of this run
 * @param guarantee the sink's: exactly-once or at-least-once
 * @param checkpointMillis between two checkpoints; the output is committed with them
 * @param store where state is kept: hashmap or rocksdb
 */
record Environment(
        String bootstrapServers,
        String registryUrl,
        String job,
        String input,
        String output,
        String products,
        String outputSchema,
        String group,
        Path stateFolder,
        String guarantee,
        int checkpointMillis,
        String store) {

    static Environment of(Map<String, String> variables) {
        return new Environment(
                required(variables, "BENCH_BOOTSTRAP"),
                required(variables, "BENCH_REGISTRY_URL"),
                required(variables, "BENCH_JOB"),
                required(variables, "BENCH_INPUT"),
                required(variables, "BENCH_OUTPUT"),
                variables.getOrDefault("BENCH_PRODUCTS", ""),
                text(required(variables, "BENCH_OUTPUT_SCHEMA")),
                required(variables, "BENCH_GROUP"),
                Path.of(required(variables, "BENCH_STATE_DIR")),
                variables.getOrDefault("BENCH_GUARANTEE", "exactly-once"),
                Integer.parseInt(variables.getOrDefault("BENCH_CHECKPOINT_MS", "1000")),
                variables.getOrDefault("BENCH_STORE", "hashmap"));
    }

    /**
     * Whether what waits for a watermark comes out when the job is stopped: an event that waits for its product does, a
     * session that is still open must not.
     */
    boolean emitsAllAtEnd() {
        return job.equals("enrich");
    }

    private static String required(Map<String, String> variables, String name) {
        String value = variables.get(name);
        if (value == null) {
            throw new IllegalArgumentException(name + " is not set");
        }
        return value;
    }

    private static String text(String path) {
        try {
            return Files.readString(Path.of(path));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
