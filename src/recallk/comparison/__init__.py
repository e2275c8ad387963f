"""Runs side by side: contenders, the experiment, its jobs, their outcomes."""
