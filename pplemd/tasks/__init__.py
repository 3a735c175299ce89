"""What a model file declares, planned, built and judged."""
