"""The command line as a person uses it: results at the end, mistakes in one line with exit code 2."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from recallk import cli

FLAGS = [
    *("--backbone", "test_resnet", "--weights", "none", "--batch-norm", "per-chunk", "--embedding-size", "16"),
    *("--image-size", "32", "--resize", "32", "--crop-scale", "0.5,1", "--epochs", "1", "--workers", "0"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for label in "abcdef":
        (root / label).mkdir()
        for number in range(5):
            pixels = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{label}{number}.jpg")
    return root


def recallk(*words: object) -> int:
    """Run in this process; return the exit code."""
    command, sys.argv = sys.argv, ["recallk", *map(str, words)]
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    finally:
        sys.argv = command
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("runs") / "first"
    assert recallk("train", "--data", pictures, "--run", path, *FLAGS) == 0
    return path


def test_importing_recallk_is_light() -> None:
    probe = "import sys; import recallk; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", probe], text=True).strip() == "False"


def test_train_leaves_a_run_and_says_where(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "split.json",
        "checkpoint",
        "model",
        "report.html",
    }
    assert "<html" in (run / "report.html").read_text()


def test_evaluate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recallk("evaluate", run, "--ks", "1,3") == 0
    printed = capsys.readouterr().out
    for name in ("recall@1", "recall@3", "precision@3", "r_precision", "map@r", "mrr", "nmi"):
        assert name in printed


def test_evaluate_other_images(run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recallk("evaluate", run, "--data", pictures) == 0
    assert "30 images of 6 classes" in capsys.readouterr().out


def test_search_leaves_the_query_out(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = pictures / "a" / "a0.jpg"
    shutil.copy(query, tmp_path / "copy.jpg")
    picture = tmp_path / "found.png"
    assert recallk("search", run, query, tmp_path / "copy.jpg", "--gallery", pictures, "--picture", picture) == 0
    first, second = capsys.readouterr().out.split("copy.jpg", 1)
    assert "a/a0.jpg" not in first
    assert "1.000" in second.splitlines()[0]
    assert "a/a0.jpg" in second.splitlines()[0]
    assert Image.open(picture).size > (100, 100)


def test_resume_a_finished_run(run: Path) -> None:
    assert recallk("train", "--resume", run) == 0


def one_class(folder: Path) -> list[object]:
    (folder / "data/only").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "data/only/1.jpg")
    return ["--data", folder / "data"]


def small_classes(folder: Path) -> list[object]:
    for label in "abcd":
        (folder / "data" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (9, 9)).save(folder / "data" / label / f"{number}.jpg")
    return ["--data", folder / "data"]


def with_file(name: str, content: bytes) -> Callable[[Path], list[object]]:
    def make(folder: Path) -> list[object]:
        arguments = small_classes(folder)
        (folder / "data/a" / name).write_bytes(content)
        return [*arguments, "--items-per-class", "2"]

    return make


def truncated(folder: Path) -> list[object]:
    arguments = with_file("cut.jpg", b"")(folder)
    pixels = np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "data/a/cut.jpg")
    whole = (folder / "data/a/cut.jpg").read_bytes()
    (folder / "data/a/cut.jpg").write_bytes(whole[: len(whole) // 2])
    return arguments


def table(folder: Path) -> list[object]:
    (folder / "t.csv").write_text("path,class\na.jpg,x\n")
    return ["--data", folder / "t.csv"]


def wrong_weights(folder: Path) -> list[object]:
    import timm

    save_file(timm.create_model("test_vit").state_dict(), folder / "vit.safetensors")
    return [*small_classes(folder), "--items-per-class", "2", "--weights", folder / "vit.safetensors"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: ["--data", folder / "nowhere"], "nowhere: no such folder"),
        (lambda folder: [], "no data: give --data PATH"),
        (one_class, "only one class (only)"),
        (small_classes, "0 of 2 training classes have 4 items or more"),
        (truncated, "cut.jpg: truncated or broken image"),
        (with_file("text.png", b"no image"), "text.png: not an image"),
        (table, "no column 'label'"),
        (wrong_weights, "weights of another architecture than test_resnet"),
        (lambda folder: ["--data", folder, "--epochz", "3"], "No such option: --epochz"),
        (lambda folder: ["--data", folder, "--epochs", "0"], "epochs='0'"),
        (lambda folder: ["--data", folder, "--batch-size", "9"], "batch_size=9 is no multiple of items_per_class=4"),
        (lambda folder: ["nothing"], "no recipe 'nothing'"),
        (lambda folder: [folder], "if it is the data, give --data"),
        (lambda folder: ["--resume", folder / "nowhere"], "no config.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[Path], list[object]], message: str
) -> None:
    words = make(tmp_path)
    flags = FLAGS if "--resume" not in words else []
    if "--epochs" in words:
        flags = flags[: flags.index("--epochs")]
    target = tmp_path / "run"
    where = ["--run", target] if "--resume" not in words else []
    # a person's own flags come last and win
    assert recallk("train", *flags, *where, *words) == 2
    error = capfd.readouterr().err.strip()
    assert error.startswith("recallk: ")
    assert message in error
    assert "\n" not in error
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "nowhere"], "nowhere: no such run folder"),
        (["evaluate", "."], "no model/weights.safetensors in this folder"),
        (["evaluate", "nowhere", "--ks", "0"], "--ks 0: whole numbers from 1"),
        (["search", "nowhere", "q.jpg", "--gallery", "g"], "no such run folder"),
        (["search", "nowhere", "q.jpg"], "nowhere: no catalogue; of a run, say what to search with --gallery"),
        (["search", "nowhere", "q.jpg", "--gallery", "g", "--picture", "p.doc"], "the name of a .png file"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["compare", "glyphs"], "what to compare: give losses, a sweep, an ablation"),
        (["compare", "glyphs", "--losses", "contrastive", "--ablation", "mixup"], "one of them"),
        (["compare", "glyphs", "--losses", "recall"], "no such loss: did you mean recall@k?"),
        (["compare", "glyphs", "--losses", "contrastive", "--rates", "fast"], "--rates fast: numbers"),
        (["compare", "glyphs", "--losses", "contrastive", "--budget", "5h"], "or minutes of training such as 5min"),
        (["compare", "glyphs", "--ablation", "mixing"], "no ablation 'mixing'"),
        (["compare", "glyphs", "--sweep", "batch=64"], "no key 'batch'"),
        (["compare", "--losses", "contrastive"], "no data: give --data PATH"),
        (["compare", "--losses", "contrastive", "--data", "nowhere"], "nowhere: no such folder"),
        (["compare", "--from", "nowhere"], "no comparison in this folder"),
    ],
)
def test_mistakes_of_the_other_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recallk(*words) == 2
    error = capfd.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not list(tmp_path.iterdir())


def test_an_interruption_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recallk.cli.train.find_recipe", interrupt)
    assert recallk("train", "glyphs", "--run", tmp_path / "run") == 130
    assert capfd.readouterr().err.strip() == "recallk: interrupted"


def test_compare_ends_with_a_table_a_page_and_numbers(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "comparison"
    words = ["--losses", "recall@k,contrastive", "--seeds", "1", "--rates", "1", "--at-once", "2", "--run", run]
    assert recallk("compare", "--data", pictures, *words, *FLAGS) == 0
    printed = capfd.readouterr().out
    assert "run 2: contrastive, seed-1" in printed
    assert f"look at   {run / 'comparison.html'}" in printed
    table = printed[printed.index("recall@1") :]
    assert "contrastive" in table
    assert "recall@k" in table
    assert recallk("compare", "--from", run, "--from", run) == 2
    assert "say with --run where" in capfd.readouterr().err
    other = tmp_path / "other"
    run.rename(other)
    run.mkdir()
    (other / "recall@k").rename(run / "recall@k")
    both = tmp_path / "new" / "both"
    assert recallk("compare", "--from", run, "--from", other, "--run", both) == 0
    assert {line.split(",")[0] for line in (both / "comparison.csv").read_text().splitlines()[1:]} == {
        "comparison: recall@k",
        "other: contrastive",
    }
    capfd.readouterr()
    (run / "recall@k").rename(other / "recall@k")
    run.rmdir()
    other.rename(run)
    (run / "comparison.html").unlink()
    assert recallk("compare", "--from", run) == 0
    again = capfd.readouterr().out
    assert again[again.index("recall@1") :] == table
    assert (run / "comparison.html").is_file()


def test_a_taken_run_folder_is_refused(run: Path, pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert recallk("train", "--data", pictures, "--run", run, *FLAGS) == 2
    assert "continue it with --resume" in capfd.readouterr().err


def test_search_for_what_is_no_image(
    run: Path, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q.jpg").write_text("x")
    assert recallk("search", run, tmp_path / "q.jpg", "--gallery", pictures) == 2
    assert "q.jpg: not an image" in capfd.readouterr().err
