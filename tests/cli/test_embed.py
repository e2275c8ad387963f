"""`recallk embed` and `recallk compose`: what a person types, and what is said at the end."""

from pathlib import Path
from typing import Any

import pytest
import typer

from recallk.cli import app
from recallk.models.settings import ImageSettings
from recallk.runs.config import make_config
from tests.cli.test_cli import recallk
from tests.cli.test_command_options import Reached, reach
from tests.training.test_trainer import save_patterns

NETWORK = ("--backbone", "test_resnet", "--weights", "none", "--image-size", "32", "--workers", "0")
HEAD = ("--embedding-size", "8", "--epochs", "1", "--select", "last")
RECALLK: Any = typer.main.get_command(app)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=6, images=4)


def test_from_images_to_a_head_to_a_model(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def said(*words: object) -> str:
        assert recallk(*words) == 0
        return capfd.readouterr().out

    told = said("embed", pictures, *NETWORK, "-o", "my vectors.parquet", "--dtype", "float16")
    assert "embedded  24 images, 96 dimensions, float16; the vectors are in my vectors.parquet\n" in told
    assert "train     recallk train --data 'my vectors.parquet'\n" in told
    said("train", "--data", "my vectors.parquet", "--run", "head", *HEAD)
    told = said("compose", "head", "-o", "model")
    assert "test_resnet, then a linear head over vectors of 96; it sees images of 32 x 32 pixels, gives 8" in told
    assert "search    recallk search model --gallery FOLDER IMAGE...\n" in told
    assert "evaluate  recallk evaluate model --data FOLDER\n" in told
    query = next(pictures.rglob("*.png"))
    assert "drawn in" in said("search", "model", query, "--gallery", pictures, "--k", 3)
    assert "24 images of 6 classes" in said("evaluate", "model", "--data", pictures)


def test_without_classes_there_is_nothing_to_train_on(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert recallk("embed", pictures / "class0", *NETWORK, "--output", tmp_path / "v.npy") == 0
    told = capfd.readouterr().out
    assert "note      images outside any class: taken as a folder without classes\n" in told
    assert "nothing can be trained on these vectors" in told
    assert "recallk train" not in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["embed", "photos", "-o", "v.parquet"], "what embeds is a backbone or a run; give --backbone NAME"),
        (["embed", "photos", *NETWORK, "--run", "head", "-o", "v.npy"], "both are given: choose one"),
        (["embed", "photos", "--backbone", "no_such_net", "-o", "v.npy"], "backbone=no_such_net"),
        (["embed", "photos", *NETWORK, "-o", "nowhere/v.npy"], "nowhere/v.npy: no folder nowhere"),
        (["embed", "photos", *NETWORK, "-o", "v.csv"], "v.csv: vectors are written into a .parquet, .npy or"),
        (["embed", "nowhere", *NETWORK, "-o", "v.npy"], "nowhere: no such folder"),
        (["embed", "photos", *NETWORK, "-o", "v.npy", "--pooling", "most"], "pooling='most'"),
        (["compose", "nowhere", "-o", "model"], "nowhere: no such run folder"),
    ],
)
def test_mistakes_are_a_line(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert recallk(*words) == 2
    error = capfd.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


OPTIONS: list[tuple[list[str], str, Any]] = [
    (["--backbone", "resnet18"], "backbone", "resnet18"),
    (["--run", "runs/a"], "run", Path("runs/a")),
    (["--output", "b.npy"], "output", Path("b.npy")),
    (["--dtype", "float16"], "dtype", "float16"),
    (["--overwrite"], "overwrite", True),
    (["--weights", "none"], "weights", "none"),
    (["--pooling", "token"], "pooling", "token"),
    (["--image-size", "96"], "image_size", "96"),
    (["--max-length", "64"], "max_length", "64"),
    (["--image-shape", "keep"], "image_shape", "keep"),
    (["--resize", "300"], "resize", "300"),
    (["--interpolation", "bicubic"], "interpolation", "bicubic"),
    (["--columns", "label=class"], "columns", "label=class"),
    (["--root", "photos"], "root", "photos"),
    (["--mean", "0.1,0.2, 0.3"], "mean", ["0.1", "0.2", "0.3"]),
    (["--std", "0.1,0.2,0.3"], "std", ["0.1", "0.2", "0.3"]),
    (["--dataset", "cub"], "dataset", "cub"),
    (["--items", "images"], "items", "images"),
    (["--chunk-size", "5"], "chunk_size", "5"),
    (["--workers", "3"], "workers", "3"),
    (["--accelerator", "cpu"], "accelerator", "cpu"),
]


@pytest.mark.parametrize(("words", "name", "expected"), OPTIONS)
def test_an_option_of_embed_reaches_the_embedding(
    monkeypatch: pytest.MonkeyPatch, words: list[str], name: str, expected: Any
) -> None:
    """What it does there is tested beside it."""

    def embedded(source: str, output: Path, **told: Any) -> None:
        raise Reached(told | {"source": source, "output": output})

    monkeypatch.setattr("recallk.runs.embed.embed", embedded)
    told = reach("embed", "photos", "-o", "a.npy", *words)
    assert told["source"] == "photos"
    assert told[name] == expected
    assert reach("embed", "photos", "-o", "a.npy").get(name) != expected
    if name in ImageSettings.model_fields:  # and what was typed is what training makes of it
        make_config({"data": "photos", name: told[name], "head": "none"})


def test_every_option_of_embed_is_tried() -> None:
    from recallk.cli.commands import load_command

    tried = {words[0] for words, _, _ in OPTIONS} | {"--help"}
    assert {parameter.opts[0] for parameter in load_command("embed").params if parameter.opts[0][0] == "-"} <= tried
