"""`python -m benchmarks.gpu`: all that a GPU has to show; without one, the same at small sizes in Triton's interpreter.

1. The fused kernels beside the tiled ones: values, gradients, whether two runs agree to the bit, time beside three
   products of the same size, memory.
2. A step of training in two passes, profiled: images a second, and which shares the loss, the reading and the second
   embedding have.

`results/gpu_kernels.csv` and `results/gpu_step.csv` hold a row for each, with the name of the card.
"""

import argparse
import csv
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
DEVICE = torch.device("cuda" if ON_GPU else "cpu")

from benchmarks.cases import Case, batch_of  # noqa: E402 (the line above comes first)
from recallk.loss.mixup import SimilarityMixup  # noqa: E402
from recallk.loss.recall_at_k import RecallAtKLoss, recall_at_k_loss  # noqa: E402
from recallk.training.large_batch import large_batch_backward  # noqa: E402


@dataclass(frozen=True)
class Sizes:
    """What is measured: batches of the loss with their dimensions, and the step."""

    batches: Sequence[int]
    dimensions: int
    repeats: int
    backbone: str
    pixels: int
    batch: int
    chunk: int
    precision: torch.dtype


FULL = Sizes((4_000, 16_000, 65_536), 512, 10, "resnet50", 224, 4_000, 200, torch.bfloat16)
SMALL = Sizes((24, 48), 16, 2, "test_resnet", 32, 32, 8, torch.bfloat16)


def device_name() -> str:
    """Say on what is measured."""
    return torch.cuda.get_device_name() if ON_GPU else "Triton's interpreter on a CPU"


def _waited() -> float:
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def times_of(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of some calls, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        begun = _waited()
        call()
        times.append(_waited() - begun)
    return times


def peak_of(call: Callable[[], object]) -> float:
    """Return the MB that a call takes at most beyond what is there before, of a GPU; NaN without one."""
    if not ON_GPU:
        return float("nan")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def kernel_row(sizes: Sizes, batch: int, mixup: bool) -> dict[str, Any]:
    """Measure the loss of one batch, forward and backward, with either kernel."""
    case = Case("tiled", batch, mixup=mixup, dimensions=sizes.dimensions)
    embeddings, labels = (tensor.to(DEVICE) for tensor in batch_of(case))
    mix_pairs, mix_alpha = None, None
    if mixup:
        mix_pairs, mix_alpha = SimilarityMixup().draw(labels.cpu(), torch.Generator().manual_seed(3))

    def solve(implementation: Any) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = embeddings.clone().requires_grad_()
        loss = recall_at_k_loss(leaf, labels, mix_pairs=mix_pairs, mix_alpha=mix_alpha, implementation=implementation)
        torch.autograd.backward(loss)
        assert leaf.grad is not None
        return loss.detach(), leaf.grad

    def products() -> None:
        similarities = embeddings @ embeddings.T
        similarities @ embeddings
        similarities.T @ embeddings

    (loss, gradient), (twin, twin_gradient) = solve("fused"), solve("tiled")
    again = solve("fused")
    row: dict[str, Any] = {
        "device": device_name(),
        "items": batch,
        "dimensions": sizes.dimensions,
        "mixup": mixup,
        "loss_error": f"{abs(float(loss - twin)) / float(twin):.1e}",
        "gradient_error": f"{float((gradient - twin_gradient).norm() / twin_gradient.norm()):.1e}",
        "same_twice": bool(torch.equal(loss, again[0]) and torch.equal(gradient, again[1])),
    }
    floor = statistics.median(times_of(products, sizes.repeats)) if batch <= 16_000 else float("nan")
    row["three_products_ms"] = round(1e3 * floor, 2)
    for name in ("fused", "tiled"):
        times = times_of(lambda name=name: solve(name), sizes.repeats)  # type: ignore[misc]
        row |= {
            f"{name}_ms": round(1e3 * statistics.median(times), 2),
            f"{name}_least_ms": round(1e3 * min(times), 2),
            f"{name}_most_ms": round(1e3 * max(times), 2),
            f"{name}_mb": round(peak_of(lambda name=name: solve(name)), 1),  # type: ignore[misc]
        }
    return row


def step_row(sizes: Sizes) -> dict[str, Any]:
    """Measure a step of training in two passes on random pixels that wait in memory, and what its parts take."""
    from recallk.models.build import build
    from recallk.models.settings import ImageSettings

    settings = ImageSettings(backbone=sizes.backbone, image_size=sizes.pixels, resize=sizes.pixels)
    embedder = build(settings, "none").to(DEVICE).train()
    optimizer = torch.optim.Adam(embedder.parameters())
    images = [torch.randint(0, 255, (sizes.chunk, 3, sizes.pixels, sizes.pixels), dtype=torch.uint8) for _ in range(4)]
    chunks = [images[number % len(images)] for number in range(sizes.batch // sizes.chunk)]
    labels = torch.arange(sizes.batch) // 4
    loss_fn = RecallAtKLoss()
    loss_seconds: list[float] = []

    def timed_loss(embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        begun = _waited()
        loss: torch.Tensor = loss_fn(embeddings, targets)
        loss_seconds.append(_waited() - begun)
        return loss

    class _Autocast(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = embedder

        def forward(self, chunk: torch.Tensor) -> torch.Tensor:
            with torch.autocast(DEVICE.type, sizes.precision):
                embeddings: torch.Tensor = self.network(chunk)
            return embeddings

    network = _Autocast()

    def step() -> None:
        optimizer.zero_grad()
        large_batch_backward(network, chunks, labels, timed_loss)
        optimizer.step()

    def embed() -> None:
        with torch.no_grad():
            for chunk in chunks:
                network(chunk.to(DEVICE, non_blocking=True))

    times = times_of(step, max(2, sizes.repeats // 3))
    first_pass = statistics.median(times_of(embed, 2))
    whole = statistics.median(times)
    return {
        "device": device_name(),
        "backbone": sizes.backbone,
        "pixels": sizes.pixels,
        "batch": sizes.batch,
        "chunk": sizes.chunk,
        "precision": str(sizes.precision).removeprefix("torch."),
        "step_s": round(whole, 3),
        "least_s": round(min(times), 3),
        "most_s": round(max(times), 3),
        "images_per_s": round(sizes.batch / whole, 1),
        "loss_share": round(statistics.median(loss_seconds) / whole, 4),
        "first_pass_share": round(first_pass / whole, 4),
        "peak_mb": round(peak_of(step), 1),
    }


def reading_row(sizes: Sizes) -> dict[str, Any]:
    """Train for a few steps from files, so that the reading is in it."""
    from PIL import Image

    import recallk

    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        side, classes = sizes.pixels + 32, max(12, sizes.batch // 40)
        for label in range(classes):
            (photos / f"class{label}").mkdir(parents=True)
            noise = torch.randint(0, 255, (side, side, 3), dtype=torch.uint8).numpy()
            for number in range(8):
                Image.fromarray(noise).save(photos / f"class{label}" / f"{number}.jpg")
        config = {
            "data": str(photos),
            "backbone": sizes.backbone,
            "weights": "none",
            "image_size": sizes.pixels,
            "resize": sizes.pixels,
            "epochs": 2,
            "select": "last",
            "chunk_size": sizes.chunk,
            "precision": "bf16-mixed",
        }
        recallk.train(config, Path(folder) / "run")
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"][1:]  # the first waits for the readers
    rate = statistics.median(line["items"] / line["seconds"] for line in steps)
    return {"files_images_per_s": round(rate, 1), "files_batch": steps[0]["items"]}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS if ON_GPU else None, help="folder of the CSV files")
    out: Path | None = parser.parse_args(arguments).out
    sizes = FULL if ON_GPU else SMALL
    print(f"measured on {device_name()}" + ("" if ON_GPU else ": this shows that it works, and no speed"))
    kernels = []
    for batch in sizes.batches:
        for mixup in (False, True):
            kernels.append(kernel_row(sizes, batch, mixup))
            print(json.dumps(kernels[-1]), flush=True)
    step = step_row(sizes) | reading_row(sizes)
    print(json.dumps(step))
    if out is not None:
        write(out / "gpu_kernels.csv", kernels)
        write(out / "gpu_step.csv", [step])


if __name__ == "__main__":
    main()
