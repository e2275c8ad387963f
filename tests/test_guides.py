"""The guides: their commands run as they stand, in the order in which they stand, on data that needs no download."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recallk.data.source import read_own
from tests.cli.test_cli import recallk

pytestmark = pytest.mark.xdist_group("places")  # one process draws them
DOCS = Path(__file__).parents[1] / "docs"
QUICK = ["--epochs", "1", "--workers", "0", "--accelerator", "cpu"]
SMALL = [*QUICK, "--backbone", "test_resnet", "--image-size", "32"]
OWN = [*SMALL, "--weights", "none", "--embedding-size", "16"]


def blocks(guide: str, kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", (DOCS / guide).read_text(), re.S | re.M)
    return [text for named, text in found if named == kind]


def commands(guide: str) -> list[list[str]]:
    """What is typed after `recallk`, but for test sets that have to be downloaded."""
    lines = [line.split("#")[0].strip() for block in blocks(guide, "") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("recallk ") and "PATH" not in line]


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders that the guide names, filled with views of places."""
    monkeypatch.chdir(tmp_path)
    by_label: dict[str, list[np.ndarray]] = {}
    for record in read_own("places")[0]:
        assert isinstance(record.item, np.ndarray)
        by_label.setdefault(record.label, []).append(record.item)
    for number, (label, images) in enumerate(list(by_label.items())[:40]):
        folder = Path("photos" if number < 24 else "judged" if number < 32 else "others", label.replace(",", "-"))
        folder.mkdir(parents=True)
        for place, image in enumerate(images[:5]):
            Image.fromarray(image).save(folder / f"{place}.jpg")
    Image.fromarray(images[-1]).save("query.jpg")


@pytest.mark.slow
def test_the_guide_to_instance_level_recognition_runs(
    photographs: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = commands("instance-level.md")
    assert {words[0] for words in typed} == {"train", "evaluate", "whiten", "search"}
    assert len(typed) >= 9
    for words in typed:
        further = [] if words[0] != "train" else SMALL if words[1] == "places" else OWN
        assert recallk(*words, *further) == 0, (words, capsys.readouterr())
    printed = capsys.readouterr().out
    assert "queries NOT cropped" in printed
    assert "hard map" in printed
    assert "distractors" in printed
    (code,) = blocks("instance-level.md", "python")
    exec(compile(code, "instance-level.md", "exec"), {})
    assert capsys.readouterr().out.startswith("places, queries as given: 104 queries, 1,312 images ")


def test_the_guide_to_vectors_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, use = blocks("vectors.md", "python")
    scope: dict[str, object] = {}
    exec(compile(make, "vectors.md", "exec"), scope)
    typed = commands("vectors.md")
    assert {words[0] for words in typed} == {"train", "evaluate", "report", "compare", "search"}
    for words in typed:
        if words[0] == "compare":  # one of the three is enough to see that such a comparison runs
            continue
        further = ["--epochs", "2", "--accelerator", "cpu"] if words[0] == "train" else []
        assert recallk(*words, *further) == 0, (words, capsys.readouterr())
    printed = capsys.readouterr().out
    assert "1,200 queries, of which the first 20 are shown" in printed
    exec(compile(use, "vectors.md", "exec"), scope)
    assert capsys.readouterr().out.startswith("torch.Size([1200, 32]) [")


def test_the_guide_to_texts_runs(
    tmp_path: Path, sentence_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, use = blocks("text.md", "python")
    exec(compile(make, "text.md", "exec"), {})
    typed = commands("text.md")
    assert {words[0] for words in typed} == {"train", "evaluate", "report", "search", "index", "embed", "compose"}
    for as_written in typed:
        words = [str(sentence_model) if "MiniLM" in word else word for word in as_written]
        further = ["--epochs", "1", "--accelerator", "cpu"] if words[0] == "train" else []
        assert recallk(*words, *further) == 0, (words, capsys.readouterr())
    printed = capsys.readouterr().out
    assert "catalogue 360 texts, with id, label, text, price" in printed
    exec(compile(use, "text.md", "exec"), {})
    assert capsys.readouterr().out == "2 True\n"


def test_the_guide_to_catalogues_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)

    def draw(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)

    for label in range(24):
        for number in range(9):
            draw(Path("photos") / str(label) / f"{number}.jpg")
    for name in ("query.jpg", "other.jpg", "more/new/0.jpg"):
        draw(Path(name))
    typed = commands("catalogue.md")
    assert {" ".join(words[:2]) for words in typed if words[0] == "index"} == {
        *("index runs/photos", "index add", "index update", "index remove", "index check"),
        *("index duplicates", "index outliers", "index approximate", "index push"),
    }
    for as_written in typed:
        if as_written[0] == "serve":  # which goes on; it is tested in a browser
            continue
        words = [word.replace("//shop.example:6333", f"//{tmp_path}/store") for word in as_written]
        further = [*OWN, "--run", "runs/photos"] if words[0] == "train" else []
        further = ["--workers", "0"] if words[:2] in (["index", "runs/photos"], ["index", "add"]) else further
        assert recallk(*words, *further) == 0, (words, capsys.readouterr())
    printed = capsys.readouterr().out
    assert "1 added; 217 items now" in printed
    assert "2 removed; 214 items now" in printed
    (code,) = blocks("catalogue.md", "python")
    exec(compile(code, "catalogue.md", "exec"), {})
    assert "2 0" in capsys.readouterr().out
