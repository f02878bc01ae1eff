"""Cuts enriched events into sessions."""
