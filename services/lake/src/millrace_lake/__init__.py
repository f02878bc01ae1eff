"""Appends topics to Delta tables within seconds."""
