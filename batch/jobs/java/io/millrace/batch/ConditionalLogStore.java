package io.millrace.batch;

import io.delta.storage.HadoopFileSystemLogStore;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.util.Arrays;
import java.util.Iterator;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FSDataOutputStreamBuilder;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Options.CreateFileOptionKeys;
import org.apache.hadoop.fs.Path;

/**
 * Commits to a table on S3 that another engine commits to at the same time.
 *
 * <p>The log file is put on the condition that there is none of its name, and the store itself decides, as it does for
 * delta-rs. Delta's own store for S3 only looks before it writes.
 */
public final class ConditionalLogStore extends HadoopFileSystemLogStore {
  private static final String ONLY_IF_ABSENT = CreateFileOptionKeys.FS_OPTION_CREATE_CONDITIONAL_OVERWRITE;

  /** Is called by Delta, which finds the class by name. */
  public ConditionalLogStore(Configuration hadoopConf) {
    super(hadoopConf);
  }

  /**
   * Writes the lines of a log file: all of them, or none.
   *
   * @throws FileAlreadyExistsException there is such a file, and it may not be overwritten
   */
  @Override
  public void write(Path path, Iterator<String> actions, Boolean overwrite, Configuration hadoopConf)
      throws IOException {
    byte[] text = LogLines.text(actions);
    FileSystem store = path.getFileSystem(hadoopConf);
    if (overwrite) {
      put(store.create(path, true), text);
      return;
    }
    try {
      FSDataOutputStreamBuilder<?, ?> builder = store.createFile(path).create();
      // "must": a file system that does not know the condition refuses, instead of writing without it.
      builder.must(ONLY_IF_ABSENT, true);
      put((FSDataOutputStream) builder.build(), text);
    } catch (IOException refused) {
      Held held = held(store, path, text);
      if (held == Held.OTHER) {
        FileAlreadyExistsException exists = new FileAlreadyExistsException(path.toString());
        exists.initCause(refused);
        throw exists;
      }
      // The client sends a request again when its answer is lost; then the second finds what the first has put.
      if (held != Held.OURS) {
        throw refused;
      }
    }
  }

  /** Says that a file appears whole, so that Delta writes checkpoints under their final names at once. */
  @Override
  public Boolean isPartialWriteVisible(Path path, Configuration hadoopConf) {
    return false;
  }

  private enum Held {
    NOTHING,
    OURS,
    OTHER
  }

  /** Looks whose file is there. Two commits never have the same text: each names a transaction id of its own. */
  private static Held held(FileSystem store, Path path, byte[] text) throws IOException {
    try (FSDataInputStream stream = store.open(path)) {
      return Arrays.equals(stream.readAllBytes(), text) ? Held.OURS : Held.OTHER;
    } catch (FileNotFoundException missing) {
      return Held.NOTHING;
    }
  }

  private static void put(FSDataOutputStream stream, byte[] text) throws IOException {
    try (stream) {
      stream.write(text);
    }
  }
}
