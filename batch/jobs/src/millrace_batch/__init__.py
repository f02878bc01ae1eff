"""The night: Spark jobs over the tables that the stream writes."""
