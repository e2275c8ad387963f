"""Finding the nearest: exact search."""
