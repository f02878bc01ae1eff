package io.millrace.batch;

import java.io.BufferedWriter;
import java.io.IOException;
import java.io.OutputStream;
import java.io.OutputStreamWriter;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;

/** The text of a log file: an action a line. */
final class LogLines {

  private LogLines() {}

  /** Writes the lines and closes the stream. */
  static void write(OutputStream stream, Iterator<String> actions) throws IOException {
    try (BufferedWriter writer = new BufferedWriter(new OutputStreamWriter(stream, StandardCharsets.UTF_8))) {
      while (actions.hasNext()) {
        writer.write(actions.next());
        writer.write('\n');
      }
    }
  }
}
