"""Measurements of the loss beside what a user would take instead: `python -m benchmarks.loss --help`."""
