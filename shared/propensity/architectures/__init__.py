"""The model families one can train; importing this imports no machine-learning library."""
