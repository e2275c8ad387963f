"""What a person does with the installed wheel and all extras, and nothing else beside them: `make wheel` runs this.

Not a test of pytest's, which is not there. Every file of the package that a command reads is read here.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from PIL import Image

import recallk

BIN = Path(sys.executable).parent
SMALL = [
    *("--backbone", "test_resnet", "--weights", "none", "--embedding-size", "16", "--image-size", "32"),
    *("--batch-size", "16", "--chunk-size", "16", "--epochs", "1", "--workers", "0"),
]


def run(*words: object, expected: int = 0) -> str:
    """Run a command as typed; return what it printed."""
    print("$", *words, flush=True)
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == expected, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def served(command: tuple[object, ...], catalogue: Path, name: str) -> str:
    """Serve a catalogue, and return what is at an address of it."""
    words = [str(word) for word in (*command, "serve", catalogue, "--port", "0")]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split(" open ")[1].split()[0]
        with urlopen(f"{address}/{name}") as answer:
            return str(answer.read().decode())
    finally:
        server.terminate()
        server.wait(30)


def main() -> None:
    """Use the console script and `python -m recallk` alike."""
    assert "site-packages" in str(recallk.__file__), f"not the installed package: {recallk.__file__}"
    command, module = (BIN / "recallk",), (sys.executable, "-m", "recallk")
    for words in (["--version"], ["--help"], ["recipes"], ["recipes", "show", "sop-resnet50"], ["data", "list"]):
        assert run(*command, *words) == run(*module, *words), words
    assert "published" in run(*command, "recipes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        for label in range(24):
            (folder / "data" / f"class{label}").mkdir(parents=True)
            pattern = random.integers(0, 255, (6, 6, 3))
            for number in range(6):
                noisy = (pattern + random.normal(0, 30, pattern.shape)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noisy).resize((40, 40)).save(folder / f"data/class{label}/{number}.png")
        data = ("--data", folder / "data")
        run(*command, "train", *data, *SMALL, "--run", folder / "run")
        assert "<html" in (folder / "run/report.html").read_text()
        assert "recall@1" in run(*command, "evaluate", folder / "run")
        picture = folder / "found.png"
        query = folder / "data/class0/0.png"
        run(*command, "search", folder / "run", query, "--gallery", folder / "data", "--picture", picture)
        assert picture.stat().st_size > 0
        assert recallk.load(folder / "run").embed([query]).shape == (1, 16)
        run(*command, "index", folder / "run", folder / "data", "-o", folder / "catalogue", "--workers", "0")
        assert '"similarity": 0.' in run(*command, "search", folder / "catalogue", query, "--json")
        assert "<html" in served(command, folder / "catalogue", "")
        for name in ("static/page.js", "static/page.css", "api", "about"):
            assert served(command, folder / "catalogue", name)
        ablation = ("compare", *data, *SMALL, "--seeds", "1", "--rates", "1", "--run", folder / "comparison")
        assert "mixup" in run(*command, *ablation, "--ablation", "mixup")
        assert "<html" in (folder / "comparison/comparison.html").read_text()
        assert "no ablation 'nothing'" in run(*command, *ablation, "--ablation", "nothing", expected=2)
        print(run(*command, "demo", "--run", folder / "demo"))
        assert "<html" in (folder / "demo/report.html").read_text()


if __name__ == "__main__":
    main()
