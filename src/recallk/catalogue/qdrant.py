"""A collection of a Qdrant server, or of a folder in which its client keeps one: items as points, addressed by id."""

import os
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from recallk.core.errors import InputError
from recallk.core.extras import require
from recallk.core.text import brief, one_line

SCHEME = "qdrant://"
FORM = "qdrant://HOST[:PORT]/COLLECTION, or qdrant:///FOLDER/COLLECTION for one that the client keeps in a folder"
KEY = "QDRANT_API_KEY"
"""Of the environment: what a server may ask for; with it the connection is encrypted."""
_PORT, _SECONDS = 6333, 60
_AT_ONCE = 1_000  # whose marks are read
_TOGETHER = 16  # queries of one request
_OURS: Final = "recallk"
_NAMES = uuid.UUID("5c0e6c3e-6d0b-4b58-9f0c-6b3a2b7c9d11")


class AwayError(InputError):
    """A collection did not answer, or not as it should: whatever is asked of it now."""


class Meaning(BaseModel):
    """What a collection's metadata say of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    items: str
    """What the model embeds: "images", "vectors", "texts"."""
    embedder: str
    """The checksum of the model whose vectors these are."""
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """An item as it is sent: vector, what is kept beside it, and a mark of both.

    `payload` has what is `known` of it, and each cell as conditions compare it, as `text` and as `number`.
    """

    id: str
    vector: Sequence[float] = field(repr=False)
    payload: Mapping[str, Mapping[str, Any]] = field(repr=False)
    mark: str


@dataclass(frozen=True)
class Nearest:
    """An item as it is found."""

    id: str
    known: Mapping[str, Any]
    similarity: float


class Collection:
    """A collection that can be filled and searched. Whatever its server refuses is an AwayError, one line."""

    def __init__(self, url: str, *, fill: bool = False) -> None:
        """Take its URL; where it is to be filled, a folder that is not there is made."""
        require("push", url)
        from qdrant_client import QdrantClient

        self.url = url
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or _PORT
        except ValueError:
            raise InputError(f"{brief(url)}: write it as {FORM}") from None
        folder, _, self.name = parts.path.rpartition("/")
        if not url.startswith(SCHEME) or not self.name or parts.query or parts.fragment or bool(host) == bool(folder):
            raise InputError(f"{brief(url)}: write it as {FORM}")
        key = os.environ.get(KEY)
        if not host and not fill and not os.path.isdir(folder):  # noqa: PTH112 (pathlib's raises where a name is too long)
            raise InputError(f"{brief(url)}: no such folder; fill it: recallk index push CATALOGUE --to URL")
        with self._told():
            if host:
                self._client = QdrantClient(
                    host=f"[{host}]" if ":" in host else host,
                    port=port,
                    https=key is not None,
                    api_key=key,
                    timeout=_SECONDS,
                    check_compatibility=False,
                )
            else:
                self._client = QdrantClient(path=folder)

    def close(self) -> None:
        """Leave it: a folder can then be opened by others."""
        self._client.close()

    def meaning(self) -> Meaning | None:
        """Return what it is a collection of; None where there is none. Raises InputError where it is none of ours."""
        with self._told():
            if not self._client.collection_exists(self.name):
                return None
            metadata = self._client.get_collection(self.name).config.metadata or {}
        try:
            return Meaning(**metadata[_OURS])
        except (KeyError, TypeError, ValidationError):
            raise InputError(f"{self.url}: not filled by recallk index push; choose another collection") from None

    def create(self, dimensions: int, meaning: Meaning) -> None:
        """Make it, empty. Raises InputError where the server keeps no metadata."""
        from qdrant_client import models

        with self._told():
            self._client.create_collection(
                self.name,
                vectors_config=models.VectorParams(size=dimensions, distance=models.Distance.DOT),
                metadata={_OURS: meaning.model_dump(mode="json")},
            )
            if not self._client.get_collection(self.name).config.metadata:
                self._client.delete_collection(self.name)
                raise InputError(f"{self.url}: the server keeps no metadata of collections; Qdrant 1.16 or newer does")
        self._make_findable(meaning.columns)

    def rename(self, meaning: Meaning) -> None:
        """Have its metadata say something else."""
        with self._told():
            self._client.update_collection(self.name, metadata={_OURS: meaning.model_dump(mode="json")})
        self._make_findable(meaning.columns)

    def _make_findable(self, columns: Sequence[str]) -> None:
        """Have the server index what conditions compare: some answer none without."""
        from qdrant_client import models

        with self._told():
            for column in columns:
                for table, kind in (
                    ("text", models.PayloadSchemaType.KEYWORD),
                    ("number", models.PayloadSchemaType.FLOAT),
                ):
                    self._client.create_payload_index(self.name, f'{table}."{column}"', field_schema=kind, wait=True)

    def marks(self) -> dict[str, str]:
        """Return by its id the mark of each item."""
        found, offset = dict[str, str](), None
        while True:
            with self._told():
                points, offset = self._client.scroll(
                    self.name, limit=_AT_ONCE, offset=offset, with_payload=["id", "mark"], with_vectors=False
                )
            found |= {point.payload["id"]: point.payload["mark"] for point in points if point.payload}
            if offset is None:
                return found

    def put(self, points: Sequence[Point]) -> None:
        """Send items; one whose id is there is replaced."""
        from qdrant_client import models

        batch = models.Batch(
            ids=[_number(point.id) for point in points],
            vectors=[list(point.vector) for point in points],
            payloads=[{"id": point.id, "mark": point.mark, **point.payload} for point in points],
        )
        with self._told():
            self._client.upsert(self.name, batch, wait=True)

    def remove(self, ids: Sequence[str]) -> None:
        """Remove items."""
        from qdrant_client import models

        with self._told():
            numbers: list[Any] = [_number(name) for name in ids]
            self._client.delete(self.name, models.PointIdsList(points=numbers), wait=True)

    def count(self) -> int:
        """Return how many items there are."""
        with self._told():
            return int(self._client.count(self.name, exact=True).count)

    def items(self, ids: Sequence[str]) -> dict[str, tuple[list[float], Mapping[str, Any]]]:
        """Return by its id the vector of each item that is there, and what is known of it."""
        with self._told():
            numbers = [_number(name) for name in ids]
            points = self._client.retrieve(self.name, numbers, with_payload=True, with_vectors=True)
        return {point.payload["id"]: (point.vector, point.payload["known"]) for point in points if point.payload}  # type: ignore[misc]

    def nearest(
        self,
        queries: Sequence[Sequence[float]],
        k: int,
        *,
        exact: bool,
        condition: Any = None,
        exclude: Sequence[Sequence[str]] | None = None,
    ) -> list[list[Nearest]]:
        """Find for each query up to k items, of those that meet a condition (`qdrant_filter`) and are not excluded."""
        from qdrant_client import models

        requests = []
        for number, query in enumerate(queries):
            own: list[Any] = [_number(name) for name in exclude[number]] if exclude else []
            without: list[Any] | None = [models.HasIdCondition(has_id=own)] if own else None
            wanted = models.Filter(must=[condition] if condition else None, must_not=without)
            how = models.SearchParams(exact=exact)
            requests.append(
                models.QueryRequest(query=list(query), limit=k, params=how, filter=wanted, with_payload=["id", "known"])
            )
        answers = list[Any]()
        for start in range(0, len(requests), _TOGETHER):
            with self._told():
                answers += self._client.query_batch_points(self.name, requests[start : start + _TOGETHER])
        return [
            [
                Nearest(point.payload["id"], point.payload["known"], point.score)
                for point in answer.points
                if point.payload
            ]
            for answer in answers
        ]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raise InputError for what the client or its server raises."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its local mode says of itself that it is exact
                yield
        except Exception as error:  # of its client, of HTTP, of a folder, of a lock
            if isinstance(error, InputError):
                raise
            told = f"{self.url}: {brief(one_line(error))}; is the server there, and the name right?"
            raise AwayError(told) from None


def _number(name: str) -> str:
    """Return what Qdrant calls an item: it takes no text."""
    return str(uuid.uuid5(_NAMES, name))
