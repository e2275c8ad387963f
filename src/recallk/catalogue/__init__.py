"""A catalogue: vectors of many items, kept in a folder with the model that made them, to be searched and changed."""
