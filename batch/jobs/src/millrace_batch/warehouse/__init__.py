"""The way of a day from the lake into Postgres."""
