package io.millrace.batch;

import io.delta.storage.HadoopFileSystemLogStore;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Iterator;
import java.util.UUID;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;

/**
 * Commits to a table on a local disk that another engine commits to at the same time.
 *
 * <p>A commit is the creation of the next log file, and must fail if anybody has created it. Delta's own store looks
 * whether the file is there and then renames over it: what another process commits in between is lost, and nobody is
 * told. link(2) looks and creates in one step of the kernel. delta-rs publishes in the same way, so of the two exactly
 * one succeeds.
 */
public final class LinkLogStore extends HadoopFileSystemLogStore {

  /** Is called by Delta, which finds the class by name. */
  public LinkLogStore(Configuration hadoopConf) {
    super(hadoopConf);
  }

  /**
   * Writes the lines of a log file: all of them under the final name and on disk, or none.
   *
   * @throws FileAlreadyExistsException there is such a file, and it may not be overwritten
   */
  @Override
  public void write(Path path, Iterator<String> actions, Boolean overwrite, Configuration hadoopConf)
      throws IOException {
    java.nio.file.Path target = Paths.get(path.toUri().getPath());
    // Neither engine lists a name that begins with a dot; a killed process leaves it behind, and no reader minds.
    java.nio.file.Path whole = target.resolveSibling("." + target.getFileName() + "." + UUID.randomUUID() + ".tmp");
    try {
      Files.write(whole, LogLines.text(actions), StandardOpenOption.CREATE_NEW);
      sync(whole, StandardOpenOption.WRITE);
      if (overwrite) {
        Files.move(whole, target, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      } else {
        Files.createLink(target, whole);
      }
      // The name is on disk only when the folder is.
      sync(target.getParent(), StandardOpenOption.READ);
    } finally {
      Files.deleteIfExists(whole);
    }
  }

  /** Says that readers see a file while it is written in place, so that Delta renames checkpoints to their final names. */
  @Override
  public Boolean isPartialWriteVisible(Path path, Configuration hadoopConf) {
    return true;
  }

  private static void sync(java.nio.file.Path path, StandardOpenOption option) throws IOException {
    try (FileChannel channel = FileChannel.open(path, option)) {
      channel.force(true);
    }
  }
}
