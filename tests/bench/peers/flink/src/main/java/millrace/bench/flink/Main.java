package millrace.bench.flink;

import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/** Runs one job of the bench in this process until SIGTERM; then a savepoint commits what is done. */
public final class Main {
    private static final long STOP_SECONDS = 25;

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        Environment environment = Environment.of(System.getenv());
        TableEnvironment tables = TableEnvironment.create(
                EnvironmentSettings.newInstance().withConfiguration(Settings.of(environment)).build());
        tables.createTemporarySystemFunction("DEVICE_TYPE", DeviceType.class);
        JobClient job = Script.of(environment).run(tables);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(job, environment)));
        job.getJobExecutionResult().get();
    }

    private static void stop(JobClient job, Environment environment) {
        Path savepoint = environment.stateFolder().resolve("savepoint");
        try {
            job.stopWithSavepoint(environment.emitsAllAtEnd(), savepoint.toUri().toString(), SavepointFormatType.NATIVE)
                    .get(STOP_SECONDS, TimeUnit.SECONDS);
        } catch (Exception error) {
            // The process ends either way; what was not committed is read again by the next one.
            error.printStackTrace();
        }
    }
}
