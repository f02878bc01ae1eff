"""Adds device, place and product to valid events."""
