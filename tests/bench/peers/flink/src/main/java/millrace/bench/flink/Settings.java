package millrace.bench.flink;

import java.time.Duration;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.CoreOptions;
import org.apache.flink.configuration.DeploymentOptions;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.TaskManagerOptions;

/** Settings of a Flink that runs in one process on one core. */
final class Settings {
    private static final MemorySize MANAGED_MEMORY = MemorySize.ofMebiBytes(256);
    private static final MemorySize NETWORK_MEMORY = MemorySize.ofMebiBytes(64);

    private Settings() {}

    static Configuration of(Environment environment) {
        Configuration settings = new Configuration();
        settings.set(DeploymentOptions.TARGET, "local");
        settings.set(DeploymentOptions.ATTACHED, true);
        settings.set(CoreOptions.DEFAULT_PARALLELISM, 1);
        settings.set(TaskManagerOptions.NUM_TASK_SLOTS, 1);
        settings.set(TaskManagerOptions.MANAGED_MEMORY_SIZE, MANAGED_MEMORY);
        settings.set(TaskManagerOptions.NETWORK_MEMORY_MIN, NETWORK_MEMORY);
        settings.set(TaskManagerOptions.NETWORK_MEMORY_MAX, NETWORK_MEMORY);
        settings.set(PipelineOptions.OBJECT_REUSE, true);
        settings.set(StateBackendOptions.STATE_BACKEND, environment.store());
        settings.set(CheckpointingOptions.INCREMENTAL_CHECKPOINTS, environment.store().equals("rocksdb"));
        settings.set(
                CheckpointingOptions.CHECKPOINTS_DIRECTORY,
                environment.stateFolder().resolve("checkpoints").toUri().toString());
        settings.set(
                CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofMillis(environment.checkpointMillis()));
        return settings;
    }
}
