"""Pictures of samples, chains and comparisons."""
