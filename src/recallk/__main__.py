"""`python -m recallk` is `recallk`."""

from recallk.cli import main

if __name__ == "__main__":
    main()
