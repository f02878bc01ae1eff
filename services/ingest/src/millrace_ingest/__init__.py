"""Validates and deduplicates raw events and orders."""
