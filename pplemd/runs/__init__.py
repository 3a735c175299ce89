"""Runs: declared, begun, carried to the end, read again."""
