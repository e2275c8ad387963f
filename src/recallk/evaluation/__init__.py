"""Evaluation: exact search and the metrics computed from it."""
