package millrace.bench.flink;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.table.api.TableEnvironment;

/**
 * The SQL of a job: tables, then one INSERT.
 *
 * <p>{@code ${name}} stands for a value of the environment, {@code ${file.avsc}} for a schema beside the script.
 *
 * @param statements in order
 */
record Script(List<String> statements) {
    static Script of(Environment environment) throws IOException {
        Map<String, String> values = Map.ofEntries(
                Map.entry("bootstrap", environment.bootstrapServers()),
                Map.entry("registry", environment.registryUrl()),
                Map.entry("input", environment.input()),
                Map.entry("output", environment.output()),
                Map.entry("products", environment.products()),
                Map.entry("output_schema", environment.outputSchema()),
                Map.entry("group", environment.group()),
                Map.entry("guarantee", environment.guarantee()),
                Map.entry("user-event.avsc", resource("user-event.avsc")),
                Map.entry("product.avsc", resource("product.avsc")),
                Map.entry("shop-event.avsc", resource("shop-event.avsc")));
        String sql = resource(environment.job() + ".sql");
        for (Map.Entry<String, String> value : values.entrySet()) {
            sql = sql.replace("${" + value.getKey() + "}", value.getValue().replace("'", "''"));
        }
        return new Script(Arrays.stream(sql.split(";\\s*\\n")).filter(statement -> !statement.isBlank()).toList());
    }

    /** Execute all of it; return the job that the last statement has started. */
    JobClient run(TableEnvironment tables) {
        Deque<String> all = new ArrayDeque<>(statements);
        String insert = all.removeLast();
        all.forEach(tables::executeSql);
        return tables.executeSql(insert).getJobClient().orElseThrow();
    }

    private static String resource(String name) throws IOException {
        try (InputStream in = Script.class.getResourceAsStream("/" + name)) {
            if (in == null) {
                throw new IllegalArgumentException("no such job: " + name);
            }
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
