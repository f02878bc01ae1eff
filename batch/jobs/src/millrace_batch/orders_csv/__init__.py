"""Orders that come as CSV files: from a drop folder into the warehouse, each line once, and none lost uncounted."""
