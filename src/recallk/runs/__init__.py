"""A run: its configuration, its recipe, its folder, its history."""
