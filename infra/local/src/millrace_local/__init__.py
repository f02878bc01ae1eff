"""The millrace command: local stack, demo, ledger."""
