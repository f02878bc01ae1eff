package millrace.bench.streams.avro;

/** What a schema registry's clients put in front of an Avro datum. */
final class Frame {
    static final byte MAGIC = 0;
    /** Magic byte and schema id. */
    static final int BYTES = 1 + Integer.BYTES;

    private Frame() {}
}
