"""A run, or descriptors from anywhere, on an instance-level test set; the numbers by hand."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from recallk import InputError, evaluate
from recallk.core.lock import locked
from recallk.data.instances.catalogue import INSTANCE_BENCHMARKS
from recallk.models import saved
from recallk.models.whitening import Whitening
from recallk.runs import descriptors, published
from recallk.runs.config import make_config, to_yaml
from recallk.runs.folder import RunFolder
from recallk.runs.recipes import find_recipe
from tests.data.instance_miniatures import distractors as make_distractors
from tests.data.instance_miniatures import make_instances, revisited_truth, write_revisited
from tests.runs.known_angles import AMONG_DISTRACTORS, ANGLES, BY_HAND, UNCROPPED, KnownAngles


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(make_instances("roxford5k", tmp_path / "data"))


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> KnownAngles:
    embedder = KnownAngles()
    monkeypatch.setattr(saved, "load", lambda _: embedder)
    return embedder


@pytest.fixture
def run(tmp_path: Path, model: KnownAngles) -> Path:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.config.write_text(to_yaml(make_config({"data": "x", "workers": 0, "accelerator": "cpu", "chunk_size": 4})))
    return folder.path


def measured(found: Any, expected: dict[str, float]) -> bool:
    return {name: found.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_the_numbers_are_those_by_hand(run: Path, data: str) -> None:
    told = list[tuple[str, int, int]]()
    found = evaluate(run, data, benchmark="roxford5k", advance=lambda *progress: told.append(progress))
    assert found.metrics.keys() == BY_HAND.keys()
    assert measured(found, BY_HAND)
    assert found.items == "roxford5k: 3 queries, 10 images"
    assert list(found.conditions) == [
        "queries cropped to their boxes",
        "no distractors",
        "images of 32 x 32 pixels",
        "scale 1",
        "no whitening after training",
        "gallery in float16",
    ]
    assert [note.kind for note in found.notes] == ["other counts", "other counts"]  # not 70 and 4,993
    steps = list(dict.fromkeys(what for what, _, _ in told))
    assert steps[:3] == ["reading the test set", "embedding the queries", "embedding the gallery"]
    assert ("embedding the gallery", 10, 10) in told


def test_queries_that_are_not_cropped_have_another_name(run: Path, data: str, model: KnownAngles) -> None:
    found = evaluate(run, data, benchmark="roxford5k", uncropped=True)
    assert measured(found, UNCROPPED)
    assert found.items == "roxford5k, queries NOT cropped: 3 queries, 10 images"
    assert found.conditions[0].startswith("queries NOT cropped to their boxes")
    assert {"query_000000", "query_000001", "query_000002"} <= set(model.seen)
    assert not any("box" in name for name in model.seen)


def test_distractors_are_searched_too(run: Path, data: str, tmp_path: Path) -> None:
    folder = make_distractors(tmp_path / "distractors")
    found = evaluate(run, data, benchmark="roxford5k", distractors=folder)
    assert measured(found, AMONG_DISTRACTORS)
    assert found.items == "roxford5k: 3 queries, 10 images, 6 distractors"
    assert found.conditions[1] == "6 distractors"


def test_own_images_ask_for_the_others_of_their_class(run: Path, data: str, tmp_path: Path) -> None:
    """Images at angles 20 and 10 of one class, 125 and 135 of another, and one at 15 that is alone in its class."""
    for label, numbers in {"a": (0, 1), "b": (4, 5), "c": (9,)}.items():
        for number in numbers:
            (image,) = Path(data).rglob(f"building_{number:06}.jpg")
            (tmp_path / "own" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, tmp_path / "own" / label)
    found = evaluate(run, str(tmp_path / "own"), benchmark="own")
    # around 20 and 10 the one at 15 is first: (0 + 1/2) / 2 = 1/4
    assert measured(found, {"map": (1 / 4 + 1 / 4 + 1 + 1) / 4, "mp@1": 1 / 2, "mp@5": 3 / 4})
    assert found.items == "own: 5 queries, 5 images"
    among = evaluate(run, str(tmp_path / "own"), benchmark="own", distractors=make_distractors(tmp_path / "others"))
    # the distractor at 130 comes before the others of the second class
    assert measured(among, {"map": 1 / 4, "mp@1": 0})


def test_own_images_of_a_split_are_those_to_test_on(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = ["a,train", "a,train", "b,test", "b,test", "b,test"]
    table.write_text("path,label,split\n" + "".join(f"building_{n:06}.jpg,{row}\n" for n, row in enumerate(rows)))
    for number in range(5):
        Image.new("RGB", (40, 30)).save(tmp_path / f"building_{number:06}.jpg")
    found = evaluate(run, str(table), benchmark="own")
    assert found.items == "own: 3 queries, 3 images"
    assert [note.message for note in found.notes] == ["2 items that are not to test on are left out"]
    table.write_text(table.read_text().replace("b,test\n", "c,test\n", 1).replace("b,test\n", "d,test\n", 1))
    with pytest.raises(InputError, match="no class has two items to test on"):
        evaluate(run, str(table), benchmark="own")


def test_a_second_evaluation_embeds_the_queries_alone(run: Path, data: str, tmp_path: Path, model: KnownAngles) -> None:
    folder = make_distractors(tmp_path / "distractors")
    first = evaluate(run, data, benchmark="roxford5k", distractors=folder)
    model.seen.clear()
    second = evaluate(run, data, benchmark="roxford5k", distractors=folder)
    assert second == first
    assert sorted(model.seen) == [f"box of query_{n:06}" for n in range(3)]
    model.seen.clear()
    assert measured(evaluate(run, data, benchmark="roxford5k"), BY_HAND)  # the gallery is the same without distractors
    assert len(model.seen) == 3
    paris = make_instances("rparis6k", tmp_path / "paris")
    model.seen.clear()
    evaluate(run, str(paris), benchmark="rparis6k", distractors=folder)
    assert len(model.seen) == 3 + 10  # the distractors are those of both


@pytest.mark.parametrize("change", ["model", "scales", "image", "whitening"])
def test_what_changed_is_embedded_anew(run: Path, data: str, model: KnownAngles, change: str) -> None:
    evaluate(run, data, benchmark="roxford5k")
    model.seen.clear()
    scales = (1.0, 0.5) if change == "scales" else (1.0,)
    if change == "model":
        with torch.no_grad():
            model.turn.fill_(5)
    if change == "image":
        image = next(Path(data).rglob("building_000004.jpg"))
        image.write_bytes(image.read_bytes() + b"x")
    if change == "whitening":
        model.whitening = Whitening(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64).flip(0))
    found = evaluate(run, data, benchmark="roxford5k", scales=scales)
    assert measured(found, BY_HAND)
    assert len(model.seen) == 3 + 10
    model.seen.clear()
    evaluate(run, data, benchmark="roxford5k", scales=scales)
    assert len(model.seen) == 3
    if change == "scales":
        assert "scales 1, 0.5" in found.conditions
        model.seen.clear()
        evaluate(run, data, benchmark="roxford5k")
        assert len(model.seen) == 3, "those at one scale are still there"
        assert not RunFolder(run)._sorted()[1], "all are a run's own files"
    if change == "whitening":
        assert "then whitened, to 2 dimensions" in found.conditions


def test_two_at_once_in_a_folder_are_one_line(run: Path, data: str) -> None:
    with locked(run), pytest.raises(InputError, match="in use by this very process"):
        evaluate(run, data, benchmark="roxford5k")


def test_a_killed_evaluation_is_resumed(
    run: Path, data: str, model: KnownAngles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "BLOCK", 4)

    def die(name: str) -> None:
        if name == "building_000009":  # the last block's
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as dying:
        dying.setattr(model, "seen", SimpleNamespace(append=die))
        process: Any = multiprocessing.get_context("fork").Process(
            target=lambda: evaluate(run, data, benchmark="roxford5k")
        )
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert measured(evaluate(run, data, benchmark="roxford5k"), BY_HAND)
    assert model.seen == [*(f"box of query_{n:06}" for n in range(3)), "building_000008", "building_000009"]


ROWS = """
about:
  published:
    Theirs: {roxford5k medium map: 79.7, roxford5k hard map: 60.0, rparis6k medium map: 88.6}
    Other: {roxford5k medium map: 82.4, roxford5k+1m medium map: 73.6}
  source: two papers
"""


@pytest.fixture
def recipe(run: Path, tmp_path: Path) -> str:
    """The run began from a recipe with published rows."""
    file = tmp_path / "mine.yaml"
    file.write_text(ROWS + "embedding_size: 2\n")
    config = make_config(find_recipe(str(file)).values, RunFolder(run).read_config().model_dump(exclude_unset=True))
    (run / "config.yaml").write_text(to_yaml(config.model_copy(update={"recipe": str(file), "epochs": 7})))
    return str(file)


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """The miniature is as large as the published test set, and so are six distractors."""
    whole = replace(INSTANCE_BENCHMARKS["roxford5k"], queries=3, gallery=10)
    monkeypatch.setitem(INSTANCE_BENCHMARKS, "roxford5k", whole)
    monkeypatch.setattr(published, "ALL_DISTRACTORS", 6)


@pytest.mark.usefixtures("recipe", "complete")
def test_published_rows_stand_beside_what_was_measured_alike(run: Path, data: str, tmp_path: Path) -> None:
    found = evaluate(run, data, benchmark="roxford5k")
    assert found.published == {
        "Theirs": {"medium map": 79.7, "hard map": 60.0},
        "Other": {"medium map": 82.4},
    }
    assert found.source.startswith("Other methods: two papers. This run is not as its recipe: ")
    assert "embedding_size 512 instead of 2" in found.source
    among = evaluate(run, data, benchmark="roxford5k", distractors=make_distractors(tmp_path / "distractors"))
    assert among.published == {"Other": {"medium map": 73.6}}


@pytest.mark.usefixtures("recipe", "complete")
@pytest.mark.parametrize("otherwise", ["not cropped", "some distractors", "other counts", "no recipe", "no row"])
def test_published_rows_never_stand_beside_anything_else(
    run: Path, data: str, tmp_path: Path, otherwise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {}
    match otherwise:
        case "not cropped":
            arguments = {"uncropped": True}
        case "some distractors":
            arguments = {"distractors": make_distractors(tmp_path / "distractors", 5)}
        case "other counts":
            whole = replace(INSTANCE_BENCHMARKS["roxford5k"], gallery=11)
            monkeypatch.setitem(INSTANCE_BENCHMARKS, "roxford5k", whole)
        case "no recipe":
            folder = RunFolder(run)
            folder.write_config(folder.read_config().model_copy(update={"recipe": None}))
        case "no row":
            rest = ROWS.replace("roxford5k medium", "other medium").replace("roxford5k hard", "other hard")
            (tmp_path / "mine.yaml").write_text(rest)
    found = evaluate(run, data, benchmark="roxford5k", **arguments)
    assert (found.published, found.source) == ({}, "")


def vectors(*, among: int = 0) -> dict[str, Any]:
    def directions(names: list[str]) -> Any:
        radians = np.deg2rad([ANGLES[name] for name in names])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1)

    made = {
        "queries": directions([f"box of query_{n:06}" for n in range(3)]),
        "gallery": directions([f"building_{n:06}" for n in range(10)]),
    }
    return made | ({"distractors": directions([f"{n:04}" for n in range(among)])} if among else {})


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_given_descriptors_need_neither_run_nor_images(tmp_path: Path, suffix: str, dtype: Any) -> None:
    home = tmp_path / "lists"
    write_revisited("roxford5k", home, revisited_truth())
    file = tmp_path / f"vectors{suffix}"
    for among, expected in ((0, BY_HAND), (6, AMONG_DISTRACTORS)):
        arrays = {name: array.astype(dtype) for name, array in vectors(among=among).items()}
        np.savez(file, **arrays) if suffix == ".npz" else save_file(arrays, file)
        found = evaluate(data=str(home), benchmark="roxford5k", descriptors=file)
        assert measured(found, expected)
        assert found.items.startswith("roxford5k, queries as given: 3 queries, 10 images")
        assert found.items.endswith("6 distractors" if among else "10 images")
        assert "as given: only their maker knows" in found.conditions[0]
        assert found.conditions[2] == f"descriptors of {file.name}, 2 dimensions"
        assert found.published == {}


def test_given_descriptors_are_scaled_to_unit_length(tmp_path: Path) -> None:
    home = tmp_path / "lists"
    write_revisited("roxford5k", home, revisited_truth())
    arrays = vectors(among=6)
    for array in arrays.values():
        array *= np.linspace(1, 9, len(array))[:, None]
    np.savez(tmp_path / "vectors.npz", **arrays)
    found = evaluate(data=str(home), benchmark="roxford5k", descriptors=tmp_path / "vectors.npz")
    assert measured(found, AMONG_DISTRACTORS)
    assert found.conditions[2].endswith(", scaled to unit length here")


def test_given_descriptors_import_no_network(tmp_path: Path) -> None:
    home = tmp_path / "lists"
    write_revisited("roxford5k", home, revisited_truth())
    np.savez(tmp_path / "vectors.npz", **vectors())
    program = (
        "import recallk, sys; data, file = sys.argv[1:];"
        "found = recallk.evaluate(data=data, benchmark='roxford5k', descriptors=file);"
        "print(round(found.metrics['easy map'], 6), [name for name in ('timm', 'torchvision') if name in sys.modules])"
    )
    words = [sys.executable, "-c", program, str(home), str(tmp_path / "vectors.npz")]
    assert subprocess.check_output(words, text=True).strip() == "0.75 []"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"benchmark": "oxford"}, "no test set 'oxford': one of roxford5k"),
        ({"benchmark": "roxford5k", "ks": (1,)}, "'roxford5k' says itself what is measured"),
        ({"benchmark": "roxford5k", "protocol": "re-identification"}, "leave ks and protocol out"),
        ({"benchmark": "roxford5k", "data": None}, "say where with --data"),
        ({"benchmark": "roxford5k", "data": "nowhere"}, "nowhere: no such folder"),
        ({"benchmark": "roxford5k", "descriptors": "d.npz"}, "one of the two"),
        ({"benchmark": "places", "data": "photos"}, "places is made here, and needs no data: leave data out"),
        ({"benchmark": "roxford5k", "run": None}, "give a run.*or a file of descriptors: one of the two"),
        ({"benchmark": "roxford5k", "distractors": "nowhere"}, "nowhere: cannot be read as a folder"),
        ({"benchmark": "roxford5k", "scales": (1, -1)}, "scales"),
        ({"benchmark": "roxford5k", "run": None, "descriptors": "nowhere.npz"}, r"nowhere\.npz: no such file"),
        (
            {"benchmark": "roxford5k", "run": None, "descriptors": "d.npz", "distractors": "d"},
            "put theirs into the file",
        ),
        ({"benchmark": "roxford5k", "run": None, "descriptors": "d.npz", "scales": (1, 0.5)}, "scales are for a run"),
        ({"benchmark": "roxford5k", "run": None, "descriptors": "d.npz", "uncropped": True}, "uncropped is for a run"),
        ({"distractors": "d"}, "distractors is for instance-level test sets"),
        ({"descriptors": "d.npz"}, "descriptors is for instance-level test sets"),
        ({"uncropped": True}, "uncropped is for instance-level test sets"),
        ({"run": None}, "no run: give the folder of a finished one"),
    ],
)
def test_what_makes_no_sense_is_one_line(run: Path, data: str, arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"run": run, "data": data}
    with pytest.raises(InputError, match=message) as caught:
        evaluate(**given | arguments)
    assert "\n" not in str(caught.value)
    assert not (run / "descriptors").exists()
