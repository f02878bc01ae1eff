package io.millrace.batch;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;

/** The text of a log file: an action a line. */
final class LogLines {

  private LogLines() {}

  static byte[] text(Iterator<String> actions) {
    ByteArrayOutputStream text = new ByteArrayOutputStream();
    while (actions.hasNext()) {
      text.writeBytes(actions.next().getBytes(StandardCharsets.UTF_8));
      text.write('\n');
    }
    return text.toByteArray();
  }
}
