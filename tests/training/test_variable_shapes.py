"""Training on images that keep their shape: gradients of one graph, labels in the order of the chunks, whole runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import recallk
from recallk import RecallAtKLoss, large_batch_backward, load
from recallk.cli.terminal import show_memory, show_plan
from recallk.models.batches import read_batches
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.settings import Augmentation, ImageSettings
from recallk.reporting.run import report
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.training.plan import prepare
from recallk.training.step_memory import step_memory
from recallk.training.trainer import Trainer
from tests.configs import of_images
from tests.rows import measured, without_time

SIDES = [(40, 30), (30, 40), (64, 20), (20, 64), (70, 70), (40, 30), (90, 45)]
KEEP: dict[str, Any] = {"image_shape": "keep", "image_size": 48, "embedding_size": 8}
CLASSES, ITEMS = 6, 4
LABELS = torch.arange(CLASSES).repeat_interleave(ITEMS)


# gradients


def pictures() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [
        random.integers(0, 256, (*SIDES[number % len(SIDES)], 3), dtype=np.uint8) for number in range(CLASSES * ITEMS)
    ]


def made(backbone: str) -> ImageEmbedder:
    torch.manual_seed(0)
    embedder = build(ImageSettings(backbone=backbone, **KEEP), "none")
    with torch.no_grad():  # statistics as after some training
        for module in embedder.modules():
            if isinstance(module, _BatchNorm):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return embedder.train()


def loss_of(embeddings: Tensor, labels: Tensor) -> Tensor:
    return RecallAtKLoss(ks=(1, 2), rank_temperature=0.1)(embeddings, labels)  # type: ignore[no-any-return]


def gradients(embedder: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in embedder.named_parameters() if p.grad is not None}
    assert len(found) == len(list(embedder.parameters()))
    embedder.zero_grad()
    return found


def of_one_graph(embedder: ImageEmbedder, items: list[Any], epoch: int) -> tuple[float, dict[str, Tensor]]:
    """Return the loss and the gradients of images that are embedded one by one, in one graph."""
    preparation = embedder.training_preparation(items, Augmentation(), seed=1, epoch=epoch)
    layers = [module for module in embedder.modules() if isinstance(module, _BatchNorm)]
    for layer in layers:
        layer.eval()
    loss = loss_of(torch.cat([embedder(preparation.prepare(n)[None]) for n in range(len(items))]), LABELS)
    torch.autograd.backward(loss)
    for layer in layers:
        layer.train()
    return float(loss.detach()), gradients(embedder)


@pytest.mark.parametrize("backbone", ["test_resnet", pytest.param("test_vit", marks=pytest.mark.slow)])
def test_gradients_are_those_of_one_graph_over_single_images(backbone: str) -> None:
    embedder, items = made(backbone).double(), pictures()
    expected_loss, expected = of_one_graph(embedder, items, epoch=3)
    assert expected_loss > 0.01
    preparation = embedder.training_preparation(items, Augmentation(), seed=1, epoch=3)
    assert len({preparation.kind(number) for number in range(len(items))}) >= 4
    for seed, chunk_size, budget in ((None, 1, 0), (None, 3, 1e9), (0, 100, 1e9), (1, 2, 20_000), (2, 1, 1e9)):
        order = np.arange(len(items)) if seed is None else np.random.default_rng(seed).permutation(len(items))
        (batch,) = read_batches(preparation, [order], chunk_size, budget, 0)
        loss = large_batch_backward(embedder, batch, LABELS[batch.items], loss_of)
        assert float(loss) == pytest.approx(expected_loss, rel=1e-6)
        for name, gradient in gradients(embedder).items():
            # what cancels out is held against the gradients as a whole; timm resamples positions in float32
            whole = torch.stack([other.norm() for other in expected.values()]).norm()
            assert (gradient - expected[name]).norm() <= 1e-6 * max(expected[name].norm(), 1e-2 * whole), name


# runs


def save_photos(root: Path, classes: int = 8, images: int = 6) -> Path:
    """Write classes that have a pattern of their own each, seen in images of different shapes."""
    random = np.random.default_rng(0)
    for label in range(classes):
        pattern = random.integers(0, 255, (5, 5, 3))
        (root / f"class{label}").mkdir(parents=True)
        for number in range(images):
            noisy = (pattern + random.normal(0, 40, pattern.shape)).clip(0, 255).astype(np.uint8)
            size = SIDES[(number + label) % len(SIDES)]
            Image.fromarray(noisy).resize(size).save(root / f"class{label}" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_photos(tmp_path_factory.mktemp("photos"))


SMALL: dict[str, Any] = {
    **KEEP,
    "backbone": "test_resnet",
    "weights": "none",
    "batch_norm": "frozen",
    "crop_scale": (0.5, 1.0),
    "batch_size": 8,
    "items_per_class": 2,
    "chunk_size": 3,
    "epochs": 2,
    "learning_rate": 2e-3,
    "select": "test",
    "workers": 0,
    "accelerator": "cpu",
}


def trainer_of(photos: Path, run: Path, **changes: Any) -> Trainer:
    return Trainer(prepare(make_config(SMALL, {"data": str(photos)}, changes)), RunFolder(run))


@pytest.mark.slow
def test_one_seed_gives_one_result_whoever_reads(photos: Path, tmp_path: Path) -> None:
    first = without_time(list(trainer_of(photos, tmp_path / "1").rows()))
    assert first == without_time(list(trainer_of(photos, tmp_path / "2", workers=2, host_memory_gb=0).rows()))


@pytest.mark.slow
def test_a_run_is_trained_resumed_evaluated_searched_and_reported(photos: Path, tmp_path: Path) -> None:
    recallk.train(SMALL | {"data": str(photos), "mixup": True}, tmp_path / "whole")
    whole = RunFolder(tmp_path / "whole").history()
    cut = RunFolder(tmp_path / "cut")
    for row in trainer_of(photos, cut.path, mixup=True).rows():
        if row.epoch == 2:
            break
    summary = recallk.resume(cut.path)
    assert without_time(cut.history()) == without_time(whole)
    result = measured(whole)[-1].metrics
    assert summary.after.metrics == result
    found = recallk.evaluate(cut.path)
    assert found.metrics["recall@1"] == pytest.approx(result["recall@1"], abs=1e-6)
    query = photos / "class0" / "0.png"
    answers = recallk.search(cut.path, [query], photos, k=3, workers=0)
    assert len(answers.ids[0]) == 3
    assert report(cut.path) == []
    assert "8 items in chunks of one shape, at most 3, 6 steps" in cut.report.read_text()
    assert of_images(cut.read_config()).image_shape == "keep"
    assert vars(load(cut.path).settings)["image_shape"] == "keep"


def test_an_earlier_configuration_is_of_squares(photos: Path, tmp_path: Path) -> None:
    trainer = trainer_of(photos, tmp_path / "run", image_shape="square", resize=48)
    list(trainer.rows())
    folder = RunFolder(tmp_path / "run")
    text = folder.config.read_text()
    folder.config.write_text(text.replace("image_shape: square\n", ""))
    assert folder.config.read_text() != text
    assert of_images(folder.read_config()).image_shape == "square"
    assert folder.read_config() == trainer.config


def test_labels_are_in_the_order_of_the_chunks(tmp_path: Path) -> None:
    for label in range(8):
        (tmp_path / "data" / f"class{label}").mkdir(parents=True)
        for number in range(4):
            image = Image.new("L", SIDES[(3 * label + number) % len(SIDES)], 20 + 25 * label)
            image.convert("RGB").save(tmp_path / "data" / f"class{label}" / f"{number}.png")
    trainer = trainer_of(tmp_path / "data", tmp_path / "run")
    chunks, labels = list[Tensor](), list[Tensor]()
    trainer.embedder.register_forward_pre_hook(lambda m, given: chunks.append(given[0]) if m.training else None)
    trainer.loss.register_forward_pre_hook(lambda _, given: labels.append(given[1]))
    list(trainer.rows())
    assert len(labels) > 2
    colour = torch.tensor([20 + 25 * int(name.removeprefix("class")) for name in trainer.plan.data.train.classes])
    for of_step in labels:
        passes = list[list[Tensor]]()
        for _ in range(2):
            taken = list[Tensor]()
            while sum(map(len, taken)) < len(of_step):
                taken.append(chunks.pop(0))
            passes.append(taken)
        assert len(passes[0]) == len(passes[1]) > 2
        assert all(torch.equal(*pair) for pair in zip(*passes, strict=True)), "replayed"
        assert len({chunk.shape[2:] for chunk in passes[0]}) > 1
        assert torch.equal(torch.cat([chunk[:, 0, 0, 0] for chunk in passes[0]]).long(), colour[of_step])
    assert not chunks


def test_the_plan_says_how_many_shapes_and_chunks(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recallk.data import headers
    from recallk.models import shaped_views

    asked = []

    def size_of(source: Any) -> tuple[int, int]:
        asked.append(source)
        return told(source)

    told = headers.upright_size
    monkeypatch.setattr(shaped_views, "upright_size", size_of)
    trainer = trainer_of(photos, tmp_path / "run")
    show_plan(trainer)
    assert len(asked) == 8, "the first batch's headers, and no others"
    made = trainer.first_cut()
    shapes, chunks = len(set(made.kinds)), len(made.chunks)
    assert 1 < shapes <= chunks <= 8
    line = f"batch     8 images: 2 of each of 4 classes, {shapes} shapes in {chunks} chunks of at most 3"
    assert line in capsys.readouterr().out.splitlines()
    seen = []
    trainer.embedder.register_forward_pre_hook(lambda m, given: seen.append(given[0].shape) if m.training else None)
    rows = trainer.rows()
    next(rows), next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert len(seen) == 2 * chunks
    assert len({shape[2:] for shape in seen}) == shapes
    assert len(asked) - 8 == len(trainer.plan.data.test.labelled), "of training, each header is read once"


def test_the_memory_of_a_step_is_that_of_the_largest_shape(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = step_memory(trainer_of(photos, tmp_path / "run"))
    square = step_memory(trainer_of(photos, tmp_path / "run", image_shape="square", resize=48))
    assert keep == square
    show_memory(trainer_of(photos, tmp_path / "run"))
    assert "for a chunk of 3" in capsys.readouterr().out
