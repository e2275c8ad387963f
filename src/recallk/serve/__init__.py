"""A page and an API over a catalogue."""
