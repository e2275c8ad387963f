"""`python -m benchmarks.loading`: images a second of the loader beside a bare decode-and-resize loop.

Both use as many processes. The bare loops know nothing of batches, of crops drawn at random, of tensors: they open,
decode, convert and scale; to the training size, or as for a test with the shorter side to 256.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from recallk.models.chunks import read_chunks
from recallk.models.settings import Augmentation
from recallk.models.views import TestViews, TrainViews

WIDTH, HEIGHT, SIZE, RESIZE, CHUNK = 500, 375, 224, 256, 100
REPEATS = 5


def main(
    images: Annotated[int, typer.Option(min=100, help="JPEG files to make and read")] = 2_000,
    workers: Annotated[int, typer.Option(min=1, help="processes that read")] = 2,
) -> None:
    """Measure both, alternating, and print median, least and most."""
    with tempfile.TemporaryDirectory() as folder:
        files = _make(Path(folder), images)
        chunks = np.array_split(np.arange(images), images // CHUNK)
        train = TrainViews(files, SIZE, "bilinear", Augmentation(crop_scale=(0.08, 1.0)), seed=1, epoch=1)
        test = TestViews(files, RESIZE, SIZE, "bilinear")

        def load(views: TrainViews | TestViews) -> Callable[[], object]:
            return lambda: sum(len(chunk) for chunk in read_chunks(views, chunks, workers))

        ways = {
            "bare loop, to 224 x 224": lambda: _bare(files, workers, (SIZE, SIZE)),
            "loader, training views": load(train),
            "bare loop, to 341 x 256": lambda: _bare(files, workers, (RESIZE * WIDTH // HEIGHT, RESIZE)),
            "loader, test views": load(test),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(REPEATS):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - started)
    print(f"{images:,} JPEG files of {WIDTH} x {HEIGHT}, {workers} processes\n")
    print(f"| | images a second | least to most | of the bare loop |\n{'|---' * 4}|")
    for name, times in seconds.items():
        if name.startswith("bare"):
            bare = statistics.median(times)
        rate, least, most = (images / t for t in (statistics.median(times), max(times), min(times)))
        print(f"| {name} | {rate:,.0f} | {least:,.0f} to {most:,.0f} | {bare / statistics.median(times):.2f} |")


def _make(folder: Path, images: int) -> list[Path]:
    """Write photographs of nothing: smooth colours with some grain, about 50 kB each as real ones are."""
    random = np.random.default_rng(0)
    files = []
    for number in range(images):
        coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = random.integers(-12, 12, (HEIGHT, WIDTH, 1))
        files.append(folder / f"{number}.jpg")
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def _bare(files: list[Path], workers: int, size: tuple[int, int]) -> None:
    with get_context("fork").Pool(workers) as pool:
        pool.map(partial(_decode_and_resize, size), [files[number::workers] for number in range(workers)])


def _decode_and_resize(size: tuple[int, int], files: list[Path]) -> None:
    for file in files:
        with Image.open(file) as image:
            np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))


if __name__ == "__main__":
    typer.run(main)
