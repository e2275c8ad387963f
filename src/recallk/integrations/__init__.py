"""The loss in the programs that people already have; one file a program."""
