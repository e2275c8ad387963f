"""Data and a run that are as small as they can be."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzz.case import run_command

WORDS: tuple[object, ...] = (
    *("--backbone", "test_resnet", "--weights", "none", "--batch-norm", "per-chunk", "--embedding-size", "8"),
    *("--image-size", "32", "--resize", "32", "--crop-scale", "0.5,1", "--epochs", "1", "--workers", "0"),
    *("--items-per-class", "2", "--accelerator", "cpu", "--chunk-size", "8"),
)
"""Options of a run of a second."""


def save_images(root: Path, classes: int = 6, images: int = 3, size: int = 12) -> Path:
    """Write a folder of images for each class; return `root`."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(images):
            pixels = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def make_run(shared: Path) -> Path:
    """Return a finished run in `shared`, with its images beside it; made once. Import what its use needs each time.

    A process that finds the run made would else import it all in its first case, whose time is measured.
    """
    import recallk.training.train  # noqa: F401

    run, images = shared / "run", shared / "images"
    if not (run / "report.html").exists():
        save_images(images)
        words = ("train", "--data", images, "--run", run, *WORDS, "--epochs", "2", "--chunk-size", "2")
        code, _, error = run_command(list(map(str, words)))
        if code:
            raise RuntimeError(f"the miniature cannot be trained: {error}")
    return run
