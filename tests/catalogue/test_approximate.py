"""An index for approximate search is part of a catalogue; what comes later is found too."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recallk import InputError
from recallk.catalogue import state as states
from recallk.catalogue.index import Index
from recallk.catalogue.manifest import APPROXIMATE, PARTS
from recallk.catalogue.state import check, open_state
from recallk.models.settings import VectorSettings
from recallk.models.vector_embedder import VectorEmbedder
from recallk.retrieval.approximate import Approximate
from tests.retrieval.test_approximate import clustered


def head() -> VectorEmbedder:
    torch.manual_seed(0)
    return VectorEmbedder(VectorSettings(input_size=24, embedding_size=24)).eval()


def source(folder: Path, vectors: NDArray[np.float32], first: int = 0) -> Path:
    path = folder / "source.npy"
    np.save(path, vectors)
    rows = [f"i{first + number},{'ab'[number % 2]}" for number in range(len(vectors))]
    path.with_suffix(".csv").write_text("\n".join(["id,label", *rows]))
    return path


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.build(head(), source(tmp_path, clustered(300)), tmp_path / "catalogue")


def query(count: int = 8) -> NDArray[np.float32]:
    return clustered(count, seed=3)


def test_it_is_measured_kept_and_searched(index: Index) -> None:
    with pytest.raises(InputError, match=r"no approximate index in it .*: recallk index approximate"):
        index.search(query(), 5, approximate=True)
    measured = index.approximate("ivf", recall=1.0, k=5)
    assert (measured.kind, measured.k, measured.queries) == ("ivf", 5, 30)
    about = open_state(index.folder).manifest.approximate
    assert about is not None
    assert (about.kind, about.width, about.recall) == ("ivf", measured.width, measured.recall)
    check(index.folder)
    exact = index.search(query(), 5)
    share = []
    for opened in (index, Index.open(index.folder)):
        found = opened.search(query(), 5, approximate=True)
        share += [len({*one} & {*other}) / 5 for one, other in zip(found.ids, exact.ids, strict=True)]
        assert found.similarities.shape == (8, 5)
    assert np.mean(share) > 0.9
    own = index.search(["i7"], 5, approximate=True)
    assert "i7" not in own.ids[0]
    assert own.ids == index.search(["i7"], 5).ids


def test_what_comes_later_is_found_and_what_goes_is_not(index: Index, tmp_path: Path) -> None:
    index.approximate("hnsw", recall=1.0)
    index.add(source(tmp_path, query(), first=1000))
    assert [ids[0] for ids in index.search(query(), 3, approximate=True).ids] == [f"i{1000 + n}" for n in range(8)]
    first = index.search(["i1000"], 1, approximate=True).ids[0][0]
    index.remove([first, "i1001"])
    found = {name for ids in index.search(query(), 20, approximate=True).ids for name in ids}
    assert not found & {first, "i1001"}
    assert "i1000" in found
    assert index.search(query(1), 400, approximate=True).similarities.shape == (1, 306)  # all there are
    names = ["i7", "i8", "i1000"]
    everything = index.search(names, 400, approximate=True)
    assert everything.ids == index.search(names, 400).ids
    assert all(name not in ids for name, ids in zip(names, everything.ids, strict=True))


def test_with_a_condition_or_together_the_search_is_exact(index: Index) -> None:
    index.approximate("ivf", recall=0.01, k=1)
    for how in ({"where": "label = 'b'"}, {"together": True}):
        assert index.search(query(), 9, approximate=True, **how).ids == index.search(query(), 9, **how).ids


def test_a_change_that_writes_its_rows_anew_drops_it(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.approximate()
    reader = Index.open(index.folder)
    reader.search(query(), 3, approximate=True)
    unread = Index.open(index.folder)
    monkeypatch.setattr(states, "MOST_REMOVED", 0.0)
    index.remove(["i3"])
    assert not index.has_approximate
    assert not list((index.folder / PARTS).rglob(APPROXIMATE))
    with pytest.raises(InputError, match="drops it"):
        index.search(query(), 3, approximate=True)
    for opened in (reader, unread):  # from before
        assert opened.search(query(), 3, approximate=True).similarities.shape == (8, 3)


def test_another_takes_its_place(index: Index) -> None:
    index.approximate("hnsw")
    index.approximate("ivf", k=2)
    assert len(list((index.folder / PARTS).rglob(APPROXIMATE))) == 1
    about = open_state(index.folder).manifest.approximate
    assert about is not None
    assert (about.kind, about.k) == ("ivf", 2)


def test_mistakes(index: Index, tmp_path: Path) -> None:
    for wrong in ({"kind": "trees"}, {"recall": 0}, {"recall": 1.1}, {"recall": "much"}, {"k": 0}, {"k": 16}):
        with pytest.raises(InputError) as told:
            index.approximate(**wrong)
        assert "\n" not in str(told.value)
    few = Index.build(head(), source(tmp_path, clustered(99)), tmp_path / "few")
    with pytest.raises(InputError, match=r"99 items, and 200 are needed for recall@10"):
        few.approximate()
    assert len(list((tmp_path / "few" / PARTS).iterdir())) == 1
    few.add(source(tmp_path, clustered(101, seed=4), first=500))
    assert few.approximate(k=10).queries == 20  # as few as is possible


def test_a_damaged_file_is_told(index: Index) -> None:
    index.approximate("ivf")
    (path,) = (index.folder / PARTS).rglob(APPROXIMATE)
    whole = path.read_bytes()
    path.write_bytes(b"x" * len(whole))
    with pytest.raises(InputError, match=r"not an index of FAISS .*copy the catalogue again"):
        Index.open(index.folder).search(query(), 3, approximate=True)
    with pytest.raises(InputError, match="other bytes"):
        check(index.folder)
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="damaged"):
        Index.open(index.folder)


def test_several_queries_find_what_each_finds_alone(index: Index, tmp_path: Path) -> None:
    index.approximate("hnsw", recall=1.0)
    index.add(source(tmp_path, query(2), first=1000))
    names = ["i7", "i1000", "i1001", "i8"]
    together = index.search(names, 5, approximate=True).ids
    assert together == [index.search([name], 5, approximate=True).ids[0] for name in names]


def test_many_threads_that_search_first_read_it_once(index: Index) -> None:
    index.approximate("ivf")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            opened = Index.open(index.folder)
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(lambda _: opened.search(query(1), 3, approximate=True).ids, range(8)))  # noqa: B023
            assert all(ids == found[0] for ids in found)
    finally:
        sys.setswitchinterval(before)


def test_a_graph_is_followed_as_far_as_was_measured(index: Index) -> None:
    assert index.approximate("hnsw", recall=0.01, k=10).width == 20


def test_a_query_for_which_a_graph_reaches_too_few_is_searched_exactly(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.approximate("hnsw")
    whole = Approximate.candidates
    monkeypatch.setattr(Approximate, "candidates", lambda *words: [rows[:2] for rows in whole(*words)])
    names = ["i7", "i8", "i9"]
    assert index.search(names, 4, approximate=True).ids == index.search(names, 4).ids
    assert index.search(query(3), 4, approximate=True).ids == index.search(query(3), 4).ids
