"""Data sets: every one gives the same records, and every image becomes the same 8-bit RGB."""
