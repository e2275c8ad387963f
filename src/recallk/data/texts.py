"""A text as an item: of a table it knows its row, so that what else the table says of it can be looked up."""


class Text(str):
    """A text of a table, which is equal to any other of the same letters; `row` is counted from 0.

    `id` is what the table calls it; None where that has no such column.
    """

    __slots__ = ("id", "row")

    id: str | None
    row: int

    def __new__(cls, text: str, row: int, id: str | None = None) -> "Text":  # noqa: D102
        self = super().__new__(cls, text)
        self.row, self.id = row, id
        return self

    def __reduce__(self) -> tuple[type["Text"], tuple[str, int, str | None]]:
        return Text, (str(self), self.row, self.id)

    @property
    def name(self) -> str:
        """What a person calls it: its id, or its row, counted from 1."""
        return f"row {self.row + 1}" if self.id is None else self.id
