"""What embeds outside of training does so in shards: several processes give what one gives, and one of them writes."""

import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recallk import InputError, embed, evaluate, load, report, search, whiten
from recallk.core import processes
from recallk.core.lock import locked
from recallk.models import saved
from recallk.runs import descriptors
from recallk.runs import embed as embedding
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.whiten import remove_whitening
from recallk.training.train import train
from tests.data.instance_miniatures import distractors, make_instances
from tests.processes import in_processes
from tests.runs.known_angles import AMONG_DISTRACTORS, KnownAngles
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "select": "last", "epochs": 1, "evaluate_ks": (1, 3)}
COUNTS = [2, pytest.param(3, marks=pytest.mark.slow)]
pytestmark = pytest.mark.xdist_group("shards")  # the runs are made once


class Written:
    """The files and folders below a folder that this process opens for writing, moves, makes or removes."""

    def __init__(self, folder: Path) -> None:
        self.paths = set[str]()
        self._below = f"{folder}{os.sep}"
        sys.addaudithook(self._heard)

    def _heard(self, event: str, given: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.remove", "os.mkdir") or (
            event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            self.paths |= {str(each) for each in given[:2] if str(each).startswith(self._below)}


def said(call: Callable[[], object]) -> str:
    try:
        call()
    except InputError as error:
        return str(error)
    return "nothing"


def breaking(last: Path) -> Callable[[str, int, int], None]:
    """Return what is told how far an embedding is, and then cuts its last image: only one process will read it."""

    def told(what: str, _done: int, of: int) -> None:
        if of:
            os.truncate(last, 60)

    return told


def whitened_head(pictures: Path, run: Path) -> tuple[torch.Tensor, dict[str, float], dict[str, float]]:
    """Train with a head that begins as a whitening; return what it makes of all, and the first and last metrics."""
    config = make_config(TINY, {"data": str(pictures), "head": "whitening", "chunk_size": 5, "batch_norm": "frozen"})
    summary = train(config, run)
    return load(run).embed(sorted(pictures.rglob("*.png"))), dict(summary.before.metrics), dict(summary.after.metrics)


def everything(root: str) -> dict[str, Any]:
    """Return what each process is given by all that embeds, and what it has written."""
    folder = Path(root)
    run, pictures, more, home = (folder / name for name in ("run", "pictures", "more", "places"))
    paths, told = sorted(pictures.rglob("*.png")), list[tuple[str, int, int]]()
    written = Written(run)
    embedding.BLOCK = 4
    found: dict[str, Any] = {
        "evaluate": evaluate(run, str(pictures), advance=lambda *step: told.append(step)),
        "re-identification": evaluate(run, protocol="re-identification"),
        "search": search(run, [paths[3]], pictures, k=5, workers=0),
        "search in few": search(load(run), paths[:1], paths[4].parent, k=2, workers=0),
        "embed": embed(str(pictures), run / "vectors.npy", run=run),
        "report": report(run),
        "whiten": whiten(run, str(pictures), dimension=5, method="learned"),
        "whitened": load(run).embed(paths),
        "told": told,
        "trained": whitened_head(pictures, folder / "whitened head"),
    }
    remove_whitening(run)
    vectors = np.load(run / "vectors.npy")
    broken = paths[-1]
    found["mistakes"] = [
        said(lambda: evaluate(run / "nowhere")),
        said(lambda: evaluate(run, str(folder / "nowhere"))),
        said(lambda: whiten(run, str(pictures), dimension=100)),
        said(lambda: evaluate(run, str(pictures), advance=breaking(broken))),
        said(lambda: search(load(run), paths[:1], broken.parent, k=1, workers=0)),
        said(lambda: report(run)),
        said(lambda: embed(str(pictures), run / "vectors.npy", run=run)),
        said(lambda: embed(str(more), run / "others.npy", run=run, advance=breaking(sorted(more.rglob("*.png"))[-1]))),
    ]
    if processes.is_first():
        with locked(run):
            found["in use"] = said(lambda: whiten(run, str(pictures)))
    else:
        found["in use"] = said(lambda: whiten(run, str(pictures)))
    embedder = KnownAngles()
    saved.load = lambda _: embedder  # type: ignore[assignment]
    descriptors.BLOCK = 2
    for name in ("instances", "again"):
        found[name] = evaluate(run, str(home), benchmark="roxford5k", distractors=folder / "distractors")
        found[f"seen of {name}"] = list(embedder.seen)
        embedder.seen.clear()
    return found | {"written": written.paths, "vectors": vectors}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    (root / "pictures").mkdir()
    save_patterns(root / "pictures", classes=8, images=5)
    train(TINY | {"data": str(root / "pictures")}, root / "run")
    shutil.copytree(root / "pictures", root / "more")
    make_instances("roxford5k", root / "places")
    distractors(root / "distractors")
    return root


@pytest.fixture(scope="module")
def by_count(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[dict[str, Any]]]:
    """Return what does everything in so many processes, once, and returns what each of them found."""

    @cache
    def found(count: int) -> list[dict[str, Any]]:
        root = tmp_path_factory.mktemp(f"in{count}") / "all"
        shutil.copytree(finished, root)
        folder = RunFolder(root / "run")
        folder.write_config(folder.read_config().model_copy(update={"data": str(root / "pictures")}))
        made = in_processes(everything, count, str(root))
        if count > 1:
            files = sorted((root / "run" / "descriptors").glob("*.npy"))
            assert [np.load(file).shape for file in files] == [(6, 2), (10, 2)]
        return made

    return found


@pytest.mark.parametrize("count", COUNTS)
def test_they_give_what_one_process_gives(by_count: Callable[[int], list[dict[str, Any]]], count: int) -> None:
    (alone,) = by_count(1)
    for found in by_count(count):
        for name in ("evaluate", "re-identification"):
            assert found[name].metrics == pytest.approx(alone[name].metrics, abs=1e-9)
            assert (found[name].items, found[name].spread) == (alone[name].items, alone[name].spread)
        for name in ("search", "search in few"):
            assert [[path.name for path in row] for row in found[name].ids] == [
                [path.name for path in row] for row in alone[name].ids
            ]
            torch.testing.assert_close(found[name].similarities, alone[name].similarities, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found["vectors"], alone["vectors"], rtol=0, atol=1e-5)
        assert (found["embed"].items, found["embed"].size) == ("40 images", 16)
        assert found["report"] == alone["report"] == []
        torch.testing.assert_close(found["whitened"], alone["whitened"], rtol=0, atol=1e-5)
        assert (found["whiten"].items, found["whiten"].size) == ("40 images", 16)
        assert found["whiten"].whitening.fitted.method == "learned"
        assert found["instances"].metrics == found["again"].metrics == alone["instances"].metrics
        assert {name: found["instances"].metrics[name] for name in AMONG_DISTRACTORS} == pytest.approx(
            AMONG_DISTRACTORS, abs=1e-6
        )
        assert found["instances"].items == alone["instances"].items == "roxford5k: 3 queries, 10 images, 6 distractors"
        assert [step for step in found["told"] if step[0] == "embedding"][-1] == ("embedding", 40, 40)


@pytest.mark.parametrize("count", COUNTS)
def test_a_head_that_begins_as_a_whitening_is_that_of_one_process(
    by_count: Callable[[int], list[dict[str, Any]]], count: int
) -> None:
    alone, before, after = by_count(1)[0]["trained"]
    for found in by_count(count):
        embeddings, first, last = found["trained"]
        torch.testing.assert_close(embeddings, alone, rtol=0, atol=1e-4)  # trained on, by steps of Adam
        assert first == pytest.approx(before, abs=1e-9)
        assert last == pytest.approx(after, abs=1e-9)
        assert torch.equal(embeddings, by_count(count)[0]["trained"][0])


@pytest.mark.parametrize("count", COUNTS)
def test_each_embeds_its_share_and_the_first_writes(
    by_count: Callable[[int], list[dict[str, Any]]], count: int
) -> None:
    (alone,) = by_count(1)
    first, *others = by_count(count)
    for name in ("instances", "again"):
        seen = [item for found in by_count(count) for item in found[f"seen of {name}"]]
        assert sorted(seen) == sorted(alone[f"seen of {name}"]), "each item once"
    assert all(len(found["seen of instances"]) >= 19 // count - 2 for found in by_count(count))
    assert not any(found["written"] for found in others)
    written = {Path(path).name for path in first["written"]}
    assert {
        "report.html",
        ".lock",
        "roxford5k.npy",
        "distractors.npy",
        "whitening.safetensors",
        "vectors.npy",
    } <= written


@pytest.mark.parametrize("count", COUNTS)
def test_mistakes_are_those_of_one_process_and_the_same_in_all(
    by_count: Callable[[int], list[dict[str, Any]]], count: int
) -> None:
    first, *_ = by_count(count)
    nowhere, no_data, dimension, broken, in_gallery, page, there, broken_too = first["mistakes"]
    assert nowhere.endswith("nowhere: no such run folder")
    assert no_data.endswith("nowhere: no such folder")
    assert dimension == "dimension=100: from 1 to 16, that of the embeddings"
    assert broken.startswith(f"process {count - 1}: ")
    assert broken.count("4.png: truncated or broken image") == 1
    assert "4.png: truncated or broken image" in in_gallery
    assert page == "nothing", "it is made without pictures"
    assert "vectors.npy: exists already" in there
    assert broken_too.startswith(f"process {count - 1}: ")
    assert broken_too.count("4.png: truncated or broken image") == 1
    assert not any("others" in path and not path.endswith(".unfinished") for path in first["written"])
    assert "in use by this very process" in first["in use"]
    for found in by_count(count):
        assert (found["mistakes"], found["in use"]) == (first["mistakes"], first["in use"])
