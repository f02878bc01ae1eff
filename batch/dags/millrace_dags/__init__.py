"""What the DAG files are wired with: settings, policy, the operator that runs `millrace`, assets, notification."""
