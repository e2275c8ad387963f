"""Test sets of instance-level recognition: queries, a gallery, and which of its items answer each query."""
