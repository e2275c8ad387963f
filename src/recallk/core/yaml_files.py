"""YAML that is read as it is meant: plain tables, without references that stand for more than any memory."""

from pathlib import Path
from typing import Any, cast

import yaml

from recallk.core.files import read_file

_LARGEST, _DEEPEST = 1_000_000, 20  # bytes; tables within tables


def read_table(path: Path, what: str, remedy: str) -> dict[Any, Any]:
    """Return the table in a YAML file; its keys are single values, most of them texts.

    Raises InputError, "PATH: not WHAT (why); REMEDY", where it holds anything but a table, a key is there twice, it
    refers to parts of itself, or is larger than a megabyte.
    """
    return read_file(path, _parse, what, remedy)


def read_values(text: str) -> list[tuple[str, Any]]:
    """Return the values of a list written with commas between, each with its own text: `"64,[1,2]"` has two.

    Raises ValueError or yaml.YAMLError where it is no such list, under the rules of `read_table`.
    """
    if len(text) > _LARGEST:
        raise ValueError("larger than a megabyte")
    if text.rstrip().endswith(","):  # which YAML allows
        raise ValueError("a value is missing after the last comma")
    loader = _Loader(f"[{text}]")
    nodes = cast(yaml.SequenceNode, loader.get_single_node()).value
    texts = [text[node.start_mark.index - 1 : node.end_mark.index - 1].strip() for node in nodes]
    return [(own, loader.construct_object(node, deep=True)) for own, node in zip(texts, nodes, strict=True)]


def _parse(path: Path) -> dict[Any, Any]:
    if path.stat().st_size > _LARGEST:
        raise ValueError("larger than a megabyte")
    table = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    if not isinstance(table, dict):
        raise ValueError("not a table of keys and values")
    return table


class _Loader(yaml.SafeLoader):
    """Tables with each key once; no anchors, no towers of brackets."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise self._error("a reference (*name) is not allowed here: write it out", self.peek_event())  # type: ignore[no-untyped-call]
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._error(f"more than {_DEEPEST} tables in one another", self.peek_event())  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error("a key is no single value", key)
            if key.value in seen:
                raise self._error(f"the key {key.value!r} is there twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def _error(self, problem: str, where: Any) -> yaml.YAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)
