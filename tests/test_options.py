"""Every key of the configuration does what it promises: none is without a test that fails where it does nothing."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from torch import Tensor
from torch.nn import functional as F

from recallk import InputError
from recallk.data.records import files_of
from recallk.models.build import build as build_any
from recallk.models.image_embedder import build_image_embedder as build
from recallk.models.views import train_view
from recallk.runs import recipes
from recallk.runs.config import KEYS, make_config
from recallk.runs.folder import RunFolder
from recallk.training.launch import in_processes_of
from recallk.training.plan import prepare
from recallk.training.trainer import Trainer
from tests.data import miniatures
from tests.miniature_run import SMALL, Miniature
from tests.miniature_texts import save_sentence_model, save_texts
from tests.rows import kind_of, measured

Observation = Callable[..., Any]
"""Takes a miniature and changes of its configuration; returns what is to be seen of them."""


@dataclass(frozen=True)
class Effect:
    """What is seen of a key: for either of two values an observation, and what is promised of the two."""

    values: tuple[Any, Any]
    observe: Observation
    promised: Callable[[Any, Any], bool]
    beside: Mapping[str, Any] = field(default_factory=dict)
    """Other keys, without which this one would have nothing to do."""


def embedding(mini: Miniature, **changes: Any) -> Tensor:
    config = mini.config(**changes)
    torch.manual_seed(0)
    return build(config, config.weights).embed([next(mini.data("noise").rglob("*.png"))])


def backbone(mini: Miniature, **changes: Any) -> str:
    return type(build(mini.config(**changes), "none").backbone).__name__


def pooled(mini: Miniature, **changes: Any) -> float:
    embedder = build(mini.config(**changes), "none")
    features = torch.tensor([0.0, 0, 0, 1]).reshape(1, 1, 2, 2).expand(1, embedder.channels, 2, 2)
    return float(embedder.pool(features).detach().mean())


def layers_after_pooling(mini: Miniature, **changes: Any) -> list[str]:
    names = build(mini.config(**changes), "none").state_dict()
    return [name for name in names if not name.startswith(("backbone.", "pool."))]


def begins_with_directions_at_right_angles(mini: Miniature, **changes: Any) -> bool:
    """Return whether the last layer's rows are, before training: those of PCA."""
    trainer = Trainer(mini.plan(**changes), RunFolder(mini.root / f"begun-{changes['whitening']}"))
    rows = trainer.rows()
    next(rows)
    weight = trainer.embedder.get_parameter("head.weight").detach().clone()
    rows.close()  # type: ignore[attr-defined]
    shutil.rmtree(trainer.folder.path, ignore_errors=True)
    products = F.normalize(weight, dim=1) @ F.normalize(weight, dim=1).T
    return bool((products - torch.eye(len(weight))).abs().max() < 1e-3)


def stages_that_moved(mini: Miniature, **changes: Any) -> set[str]:
    seen = mini.watch(steps=1, **changes)
    return {name.split(".")[1] for name in seen.after if name.startswith("backbone.") and seen.moved(name).any()}


def power_of_the_pooling(mini: Miniature, **changes: Any) -> float:
    """Return GeM's power after a step; it begins as 3."""
    return float(mini.watch(steps=1, **changes).after["pool.gem.p"])


def first_weights_are_those_of_the_file(mini: Miniature, **changes: Any) -> bool:
    from safetensors.torch import load_file

    seen = mini.watch(steps=1, **changes)
    return all(torch.equal(seen.before[f"backbone.{name}"], value) for name, value in load_file(mini.weights).items())


def sides(mini: Miniature, **changes: Any) -> tuple[set[int], int]:
    """Return the sizes of images in training, and at test."""
    seen = mini.watch(steps=1, **changes)
    return {chunk.shape[-1] for chunk in seen.chunks}, mini.shown("noise", **changes)[0].shape[-1]


def shapes(mini: Miniature, **changes: Any) -> tuple[set[tuple[int, ...]], tuple[int, ...]]:
    """Return height and width in training, and at test, of images twice as wide as high."""
    seen = mini.watch("wide", steps=1, **changes)
    return {tuple(chunk.shape[2:]) for chunk in seen.chunks}, tuple(mini.shown("wide", **changes)[0].shape[1:])


def darkest(mini: Miniature, **changes: Any) -> int:
    return int(mini.shown("frame", **changes)[0].min())


def lightest(mini: Miniature, **changes: Any) -> tuple[int, int]:
    """Return the lightest pixel at an edge between 64 and 192: at test, and in training."""
    seen = mini.watch("edge", steps=1, **changes)
    return int(mini.shown("edge", **changes)[0].max()), max(int(chunk.max()) for chunk in seen.chunks)


def of_white(mini: Miniature, **changes: Any) -> list[float]:
    """Return what the first layer sees of white, in red, green and blue."""
    return [round(float(value), 3) for value in mini.shown("white", **changes)[1][:, 0, 0]]


def classes(mini: Miniature, **changes: Any) -> tuple[int, int]:
    plan = mini.plan(**changes)
    return len(plan.data.train.classes), len(plan.data.test.labelled.classes)


def test_classes(mini: Miniature, **changes: Any) -> set[str]:
    return set(mini.plan(**changes).data.test.labelled.classes)


def test_classes_in_folders(mini: Miniature, **changes: Any) -> set[str]:
    """Return the test classes where the data has the folders train and test, every second class in each."""
    root = mini.root / "sides"
    for number, folder in enumerate(sorted(mini.data("noise", 8).iterdir()) if not root.exists() else []):
        shutil.copytree(folder, root / ("test" if number in (1, 3) else "train") / folder.name)
    return test_classes(mini, data=str(root), **changes)


def table_of_noise(mini: Miniature) -> str:
    """Return a table beside the pictures, whose column label is their folder, and class another."""
    data = mini.data("noise", 4)
    rows = [
        f"{file.relative_to(data.parent)},{file.parent.name},x{file.parent.name[-1]}" for file in data.rglob("*.png")
    ]
    (data.parent / "noise.csv").write_text("\n".join(["path,label,class", *sorted(rows)]))
    return str(data.parent / "noise.csv")


def classes_of_a_table(mini: Miniature, **changes: Any) -> set[str]:
    return train_classes(mini, data=table_of_noise(mini), **changes)


def images_of_a_table(mini: Miniature, **changes: Any) -> set[str]:
    """Return in which folder the pictures of a table are found, there or where its paths are said to start."""
    table, root = table_of_noise(mini), changes.pop("root")
    folder = mini.data("noise", 4).parent
    if not (folder / "elsewhere").exists():
        shutil.copytree(mini.data("noise", 4), folder / "elsewhere" / mini.data("noise", 4).name)
    place = None if root is None else str(folder / root)
    names = files_of(mini.plan(data=table, root=place, **changes).data.train.records).names
    return {"elsewhere" if "elsewhere" in name else "noise" for name in names}


def classes_on_both_sides(mini: Miniature, **changes: Any) -> set[str] | str:
    """Return the classes that are trained and tested on, or why there can be none, where folders have one on both."""
    root = mini.root / "closed"
    for number, folder in enumerate(sorted(mini.data("noise", 8).iterdir()) if not root.exists() else []):
        for side in ("train", "test") if number == 0 else ("train",) if number < 3 else ("test",):
            shutil.copytree(folder, root / side / folder.name)
    try:
        plan = mini.plan(data=str(root), **changes)
    except InputError as error:
        return str(error)
    return {*plan.data.train.classes} & {*plan.data.test.labelled.classes}


test_classes.__test__ = False  # type: ignore[attr-defined]
test_classes_in_folders.__test__ = False  # type: ignore[attr-defined]


def train_classes(mini: Miniature, **changes: Any) -> set[str]:
    return set(mini.plan(**changes).data.train.classes)


def split_of_birds(mini: Miniature, **changes: Any) -> set[str]:
    """Return the training classes of a miniature of CUB, read as what the key says."""
    root = mini.root / "birds"
    if not root.exists():
        miniatures.make("cub", root)
    return train_classes(
        mini, data=str(root / "CUB_200_2011" / "images" if changes["dataset"] == "own" else root), **changes
    )


def range_of_values(mini: Miniature, **changes: Any) -> float:
    """Return how much of a picture that grows lighter a training image shows, on average."""
    images = torch.cat(mini.watch("ramp", steps=2, **changes).chunks).flatten(1).float()
    return float((images.amax(1) - images.amin(1)).mean())


def mirrored(mini: Miniature, **changes: Any) -> float:
    """Return the share of training images that grow darker to the right."""
    images = torch.cat(mini.watch("ramp", **changes).chunks).float()
    return float((images[..., -1] < images[..., 0]).all(-1).all(-1).float().mean())


def running_mean_moved(mini: Miniature, **changes: Any) -> bool:
    seen = mini.watch(steps=1, **changes)
    names = [name for name in seen.before if name.endswith("running_mean")]
    return any(bool(seen.moved(name).any()) for name in names)


LABELS = torch.arange(6).repeat_interleave(4)


def loss_of(mini: Miniature, spread: float = 0.4, seed: int = 0, **changes: Any) -> float:
    """Return the loss of six classes that overlap a little."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(6, 8, generator=random)[LABELS]
    embeddings = F.normalize(centres + spread * torch.randn(24, 8, generator=random), dim=1)
    return float(mini.loss(**changes)(embeddings, LABELS, generator=torch.Generator().manual_seed(seed)))


def loss_of_a_perfect_ranking(mini: Miniature, **changes: Any) -> float:
    return loss_of(mini, spread=0.01, **changes)


def depends_on_the_draw(mini: Miniature, **changes: Any) -> bool:
    return len({loss_of(mini, seed=seed, **changes) for seed in range(3)}) > 1


def images_of_a_class(mini: Miniature, **changes: Any) -> set[int]:
    return set(Counter(mini.watch(steps=1, **changes).labels[0].tolist()).values())


def images_of_a_step(mini: Miniature, **changes: Any) -> int:
    return len(mini.watch(steps=1, **changes).labels[0])


def largest_chunk(mini: Miniature, **changes: Any) -> int:
    return max(len(chunk) for chunk in mini.watch(steps=1, **changes).chunks)


def times_read(mini: Miniature, **changes: Any) -> set[int]:
    """Return how often each image is read from the disk; but for the first, which may be read to learn its size."""
    with mock.patch("recallk.models.views.train_view", wraps=train_view) as read:
        images = sum(row.items for row in mini.watch(**changes).steps)
    times = Counter(call.kwargs["item"] for call in read.call_args_list)
    assert len(times) == images
    del times[read.call_args_list[0].kwargs["item"]]
    return set(times.values())


def shares_kept(mini: Miniature, **changes: Any) -> set[float | None]:
    return {row.kept for row in mini.watch(steps=1, **changes).steps}


def readers(mini: Miniature, **changes: Any) -> int:
    return mini.watch(steps=1, **changes).readers


def epochs(mini: Miniature, **changes: Any) -> list[int]:
    return sorted({row.epoch for row in mini.watch(**changes).steps})


def of_the_norm(mini: Miniature, **changes: Any) -> float:
    """Return the mean of a layer's scale after a step; it begins as 1."""
    return float(mini.watch(steps=1, **changes).after["norm.weight"].mean())


def length_of_a_step(mini: Miniature, **changes: Any) -> float:
    """Return how far the first step moved a layer's scale, at most."""
    return float(mini.watch(steps=1, **changes).moved("norm.weight").abs().max())


def rates(mini: Miniature, **changes: Any) -> list[float]:
    """Return the optimiser's learning rate, one for each epoch's first step."""
    seen = mini.watch(**changes)
    first = {row.epoch: rate[0] for row, rate in reversed(list(zip(seen.steps, seen.rates, strict=True)))}
    return [first[epoch] for epoch in sorted(first)]


def first_rates(mini: Miniature, **changes: Any) -> list[float]:
    """Return the optimiser's learning rate in the first steps."""
    return [rate[0] for rate in mini.watch(steps=3, **changes).rates]


def rate_of_the_others(mini: Miniature, **changes: Any) -> float:
    """Return the learning rate of what is trained otherwise, the loss's or the pooling's own, in the network's."""
    (network, own), *_ = mini.watch(steps=1, **changes).rates
    return own / network


def judged_by(mini: Miniature, **changes: Any) -> set[str]:
    """Return the kinds of rows that epochs end with."""
    return {kind_of(row) for row in mini.watch(data=str(mini.data("noise", 40, 12)), **changes).rows if row.epoch}


def set_aside(mini: Miniature, **changes: Any) -> int:
    validation = mini.plan(data=str(mini.data("noise", 40, 12)), **changes).data.validation
    return 0 if validation is None else len(validation.classes)


def drawn(mini: Miniature, **changes: Any) -> tuple[float, list[int], float]:
    """Return something of the first weights, the first batch, and a crop."""
    seen = mini.watch("ramp", steps=1, **changes)
    return float(seen.before["head.weight"].sum()), seen.labels[0].tolist(), float(seen.chunks[0].float().mean())


def evaluations(mini: Miniature, **changes: Any) -> int:
    return len(mini.watch(**changes).of("evaluation"))


def measured_epochs(mini: Miniature, **changes: Any) -> list[int]:
    return [row.epoch for row in measured(mini.watch(**changes).rows, "evaluation")]


def measured_results(mini: Miniature, **changes: Any) -> set[str]:
    return set(measured(mini.watch(data=str(mini.data("noise", 40, 12)), **changes).rows, "result")[0].metrics)


def depths(mini: Miniature, **changes: Any) -> set[str]:
    first = measured(mini.watch(steps=1, **changes).rows)[0]
    return {name for name in first.metrics if name.startswith("recall@")}


def starts(mini: Miniature, **changes: Any) -> bool:
    """Return whether the run finds its device."""
    try:
        mini.watch(steps=1, **changes)
    except InputError:
        return False
    return True


def images_left(mini: Miniature, **changes: Any) -> int | str:
    """Return how many there are where three of 96 are broken; or what keeps them from being read."""
    root = mini.root / "broken"
    if not root.exists():
        shutil.copytree(mini.data("noise"), root)
        for number in range(3):
            (root / f"noise{number:02}" / "0.png").write_bytes(b"")
    try:
        return mini.plan(data=str(root), **changes).data.files
    except InputError as error:
        return str(error)


def event_files(mini: Miniature, **changes: Any) -> bool:
    """Return whether there are some besides the history of a run."""
    plan, folder = mini.plan(**changes), RunFolder(mini.root / f"logged-{changes['logger']}")
    shutil.rmtree(folder.path, ignore_errors=True)
    list(Trainer(plan, folder).rows())
    return any(folder.tensorboard.glob("events.*"))


def ends_with_a_result(mini: Miniature, **changes: Any) -> bool:
    """Return whether a run does that has lost its first step to a loss that is no number."""
    trainer = Trainer(mini.plan(**changes), RunFolder(mini.root / f"spoilt-{changes['on_non_finite']}"))
    shutil.rmtree(trainer.folder.path, ignore_errors=True)
    calls = iter(range(1000))
    trainer.loss.register_forward_hook(lambda _module, _given, loss: loss * torch.nan if not next(calls) else None)
    try:
        return kind_of(list(trainer.rows())[-1]) == "result"
    except InputError:
        return False


def checkpoints(mini: Miniature, **changes: Any) -> int:
    """Return how many are written in an epoch of some steps."""
    with mock.patch("recallk.training.checkpoint.save_state") as saving:
        mini.watch(**changes)
    return saving.call_count


def who_trains(mini: Miniature, **changes: Any) -> str:
    """Return "alone", or where the others are who would be started, or waited for."""
    try:
        with mock.patch("subprocess.Popen", side_effect=OSError), in_processes_of(mini.config(**changes), {}):
            return "alone"
    except OSError:
        return "this machine"
    except InputError as error:
        return "other machines" if "MASTER_ADDR" in str(error) else str(error)


def compilations(mini: Miniature, **changes: Any) -> int:
    with mock.patch("torch.compile", side_effect=lambda function, **_: function) as compiling:
        mini.watch(steps=1, **changes)
    return compiling.call_count


def layouts(mini: Miniature, **changes: Any) -> set[bool]:
    """Return whether the weights of convolutions are laid out with the channels last."""
    seen, hook = set[bool](), torch.nn.modules.module.register_module_forward_hook

    def see(module: torch.nn.Module, _given: Any, _out: Any) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.training and min(module.weight.shape[1:]) > 1:
            seen.add(module.weight.stride(1) == 1)

    with hook(see):
        mini.watch(steps=1, **changes)
    return seen


def precisions(mini: Miniature, **changes: Any) -> set[torch.dtype]:
    return mini.watch(steps=1, **changes).precisions


def differences(mini: Miniature, **changes: Any) -> list[str]:
    return recipes.differences(mini.config(**changes))


def both(first: Any, second: Any) -> Callable[[Any, Any], bool]:
    """Promise one observation for the first value, another for the second."""
    return lambda a, b: bool(a == first and b == second)


def near(first: float, second: float, tolerance: float) -> Callable[[Any, Any], bool]:
    return lambda a, b: abs(a - first) < tolerance and abs(b - second) < tolerance


def less(a: Any, b: Any) -> bool:
    return bool(a < b)


def more(a: Any, b: Any) -> bool:
    return bool(a > b)


FEW = {"batch_size": None}  # steps of an epoch
STEADY = {"schedule": "milestones"}  # and none of them
TWO = FEW | {"epochs": 2}
ABSENT = "mps" if torch.cuda.is_available() else "cuda"
RATE = SMALL["learning_rate"]

EFFECT: dict[str, Effect] = {
    # the network and what it sees
    "backbone": Effect(
        ("test_resnet", "test_vit"), backbone, both("ResNet", "VisionTransformer"), {"image_size": 32, "resize": 32}
    ),
    "pooling": Effect(("average", "gem"), pooled, near(0.25, 0.25 ** (1 / 3), 0.01)),
    "head": Effect(
        ("linear", "whitening"),
        layers_after_pooling,
        both(["norm.weight", "norm.bias", "head.weight", "head.bias"], ["head.weight", "head.bias"]),
    ),
    "embedding_size": Effect((8, 16), embedding, lambda a, b: bool(a.shape == (1, 8) and b.shape == (1, 16))),
    "image_size": Effect((16, 32), sides, both(({16}, 16), ({32}, 32)), {"resize": 32}),
    "image_shape": Effect(("square", "keep"), shapes, both(({(16, 16)}, (16, 16)), ({(8, 16)}, (8, 16)))),
    "resize": Effect((16, 32), darkest, both(0, 255)),
    "interpolation": Effect(
        ("bilinear", "bicubic"),
        lightest,
        lambda a, b: bool(max(a) <= 192 < min(b)),
        {"image_size": 48, "resize": 48, "crop_scale": (1, 1)},
    ),
    "mean": Effect(((0, 0, 0), (0, 0.5, 1)), of_white, both([2, 2, 2], [2, 1, 0]), {"std": (0.5, 0.5, 0.5)}),
    "std": Effect(((0.5, 0.5, 0.5), (1, 0.5, 0.25)), of_white, both([2, 2, 2], [1, 2, 4]), {"mean": (0, 0, 0)}),
    # data
    "recipe": Effect(
        (None, "cub200-resnet50"),
        differences,
        lambda a, b: bool(not a and f"embedding_size {SMALL['embedding_size']} instead of 512" in b),
    ),
    "data": Effect(
        ("noise", "ramp"),
        train_classes,
        lambda a, b: bool({name[:4] for name in a} == {"nois"} and {name[:4] for name in b} == {"ramp"}),
    ),
    "dataset": Effect(
        ("own", "cub"),
        split_of_birds,
        lambda a, b: bool(len(b) == 6 and all(int(name[:3]) <= 100 for name in b) and a != b),
    ),
    "limit_classes": Effect((None, 4), classes, lambda a, b: bool(min(a) > 4 and b == (4, 4))),
    "test_fraction": Effect((0.25, 0.75), classes, lambda a, b: bool(a[0] > a[1] and b[0] < b[1])),
    "columns": Effect(
        ("label=class", "label=label"),
        classes_of_a_table,
        lambda a, b: bool(a == {"x0", "x1", "x2", "x3"} and b == {"noise00", "noise01", "noise02", "noise03"}),
        {"test_fraction": 0, "select": "last"},
    ),
    "root": Effect(
        (None, "elsewhere"),
        images_of_a_table,
        lambda a, b: bool(a == {"noise"} and b == {"elsewhere"}),
        {"test_fraction": 0, "select": "last"},
    ),
    "closed_set": Effect(
        (False, True),
        classes_on_both_sides,
        lambda a, b: bool("is in the train and in the test split" in a and b == {"noise00"}),
        FEW,
    ),
    "split": Effect(
        ("given", "classes"),
        test_classes_in_folders,
        lambda a, b: bool(a == {"noise01", "noise03"} and len(b) > 0 and a != b),
        FEW,
    ),
    "split_seed": Effect((0, 1), test_classes, lambda a, b: bool(a - b and b - a)),
    "augment": Effect(("none", "standard"), range_of_values, more, {"crop_scale": (0.1, 0.1)}),
    "crop_scale": Effect(((0.1, 0.1), (1, 1)), range_of_values, lambda a, b: bool(a < 140 < 200 < b)),
    "horizontal_flip": Effect((False, True), mirrored, lambda a, b: bool(a == 0 and 0.2 < b < 0.8), FEW),
    # model
    "weights": Effect(("none", "FILE"), first_weights_are_those_of_the_file, both(False, True)),
    "batch_norm": Effect(("frozen", "per-chunk"), running_mean_moved, both(False, True)),
    "whitening": Effect(
        ("pca", "learned"), begins_with_directions_at_right_angles, both(True, False), {"head": "whitening"}
    ),
    "trained_blocks": Effect((1, 2), stages_that_moved, both({"layer4"}, {"layer3", "layer4"})),
    # loss
    # all are found among so many, for recall@k
    "loss": Effect(("recall@k", "contrastive"), loss_of, lambda a, b: bool(a < 1e-6 and b > 0.01), {"ks": (100,)}),
    "loss_rate_factor": Effect((2, 20), rate_of_the_others, near(2, 20, 1e-6), {"loss": "proxy-nca"}),
    "ks": Effect(((1,), (4,)), loss_of, more),
    "rank_temperature": Effect((0.01, 1), loss_of_a_perfect_ranking, less),
    "recall_temperature": Effect((0.1, 10), loss_of_a_perfect_ranking, less, {"ks": (16,)}),
    "query_in_database": Effect((False, True), loss_of_a_perfect_ranking, less, {"ks": (1,)}),
    "mixup": Effect((False, True), depends_on_the_draw, both(False, True)),
    "mixup_relatives": Effect(("keep", "exclude"), loss_of, less, {"mixup": True}),
    # batches
    "batch_size": Effect((8, 12), images_of_a_step, both(8, 12)),
    "items_per_class": Effect((2, 4), images_of_a_class, both({2}, {4})),
    "chunk_size": Effect((2, 4), largest_chunk, both(2, 4)),
    "activation_memory_gb": Effect((0, 100), shares_kept, both({0}, {1})),
    "host_memory_gb": Effect((0, 4), times_read, both({2}, {1}), FEW),
    "workers": Effect((0, 2), readers, both(0, 2)),
    # optimisation
    "epochs": Effect((1, 2), epochs, both([1], [1, 2]), FEW),
    "optimizer": Effect(("adam", "adamw"), of_the_norm, near(0.99, 0.9, 0.02), {"weight_decay": 10}),
    "learning_rate": Effect((1e-3, 1e-2), length_of_a_step, near(1e-3, 1e-2, 1e-4), {"weight_decay": 0}),
    "weight_decay": Effect((0, 10), of_the_norm, near(1, 0.9, 0.02), {"optimizer": "adamw"}),
    "pooling_rate_factor": Effect((2, 20), rate_of_the_others, near(2, 20, 1e-6)),
    "pooling_weight_decay": Effect((0, 10), power_of_the_pooling, near(3, 2.7, 0.05), {"optimizer": "adamw"}),
    "schedule": Effect(
        ("milestones", "cosine"),
        rates,
        lambda a, b: bool(a == [RATE, RATE] and b[0] == RATE and b[1] < 0.6 * RATE),
        TWO,
    ),
    "milestones": Effect(((), (1,)), rates, lambda a, b: bool(a == [RATE, RATE] and b[0] == RATE > b[1]), TWO | STEADY),
    "milestone_factor": Effect(
        (0.5, 0.1), rates, lambda a, b: bool(a[1] == RATE * 0.5 and b[1] == RATE * 0.1), TWO | {"milestones": (1,)}
    ),
    "epoch_factor": Effect(
        (0.5, 0.1),
        rates,
        lambda a, b: bool(a == [RATE, RATE * 0.5] and b == [RATE, RATE * 0.1]),
        TWO | {"schedule": "exponential"},
    ),
    "warmup_steps": Effect((0, 4), first_rates, both([RATE] * 3, [RATE / 4, RATE / 2, RATE * 3 / 4]), STEADY),
    # by default one of a hundred may be left out, and no more
    "on_bad_image": Effect(
        ("stop", "skip"),
        images_left,
        lambda a, b: bool("3 of 96" not in str(a) and "3 of 96 images cannot be" in str(b)),
    ),
    "max_bad_images": Effect(
        (0.02, 0.04),
        images_left,
        lambda a, b: bool("3 of 96 images cannot be read" in str(a) and b == 93),
        {"on_bad_image": "skip"},
    ),
    # selection
    "select": Effect(
        ("validation", "test"),
        judged_by,
        both({"step", "validation", "result"}, {"step", "evaluation", "result"}),
        FEW | {"validation_fraction": 0.6},
    ),
    "validation_fraction": Effect((0.55, 0.8), set_aside, lambda a, b: bool(0 < a < b), {"select": "validation"}),
    # run
    "seed": Effect((1, 2), drawn, lambda a, b: all(one != other for one, other in zip(a, b, strict=True))),
    "measure_before": Effect((True, False), measured_epochs, both([0, 1], [1]), FEW | {"epochs": 1, "select": "test"}),
    "measure_after": Effect(
        (True, False),
        measured_results,
        lambda a, b: bool("recall@1" in a and not b),
        FEW | {"epochs": 1, "select": "validation", "validation_fraction": 0.6},
    ),
    "evaluate_every": Effect((1, 2), evaluations, both(4, 2), FEW | {"epochs": 4}),
    "evaluate_ks": Effect(((1,), (1, 3)), depths, both({"recall@1"}, {"recall@1", "recall@3"})),
    "logger": Effect(("none", "tensorboard"), event_files, both(False, True)),
    "checkpoint_minutes": Effect((1e-9, 1e6), checkpoints, lambda a, b: bool(a > b > 0), FEW | {"epochs": 1}),
    "accelerator": Effect(("cpu", ABSENT), starts, both(True, False)),
    "devices": Effect((1, 2), who_trains, both("alone", "this machine")),
    "nodes": Effect((1, 2), who_trains, both("alone", "other machines")),
    # of a single place, PyTorch's convolution in bfloat16 gives NaN now and then: a gradient from memory never written
    "precision": Effect(
        ("32-true", "bf16-mixed"), precisions, both({torch.float32}, {torch.bfloat16}), {"image_size": 32, "resize": 32}
    ),
    "compile": Effect((False, True), compilations, both(0, 1)),
    "channels_last": Effect((False, True), layouts, both({False}, {True}), {"image_size": 64, "resize": 64}),
    "on_non_finite": Effect(("stop", "skip"), ends_with_a_result, both(False, True)),
}


def begun(mini: Miniature, **changes: Any) -> Trainer:
    """Return a run before its first step, on a table that has a vector of six numbers for each image."""
    path = mini.root / "vectors.parquet"
    if not path.exists():
        images = sorted(mini.data("noise").rglob("*.png"))
        vectors = np.random.default_rng(0).standard_normal((len(images), 6)).astype(np.float32)
        columns = {"path": map(str, images), "label": [image.parent.name for image in images]}
        table = {name: list(values) for name, values in columns.items()} | {"embedding": list(vectors)}
        parquet.write_table(pyarrow.table(table), path)
    given = {key: SMALL[key] for key in ("embedding_size", "batch_size", "items_per_class", "select", "accelerator")}
    if changes.get("items") == "images":
        given = dict(SMALL)
    config = make_config(given, {"data": str(path)}, changes)
    shutil.rmtree(mini.root / "begun", ignore_errors=True)
    return Trainer(prepare(config), RunFolder(mini.root / "begun"))


def noun(mini: Miniature, **changes: Any) -> str:
    trainer = begun(mini, **changes)
    assert trainer.embedder.noun == trainer.plan.data.train.noun
    return trainer.embedder.noun


def layers_of_the_head(mini: Miniature, **changes: Any) -> int:
    return sum(isinstance(part, torch.nn.Linear) for part in begun(mini, **changes).embedder.modules())


def vectors_that_are_taken(mini: Miniature, **changes: Any) -> str:
    """Return "these", or what is said of vectors of six numbers."""
    rows = begun(mini, **changes).rows()
    try:
        next(rows)
    except InputError as error:
        return str(error)
    rows.close()  # type: ignore[attr-defined]
    return "these"


EFFECT_ON_VECTORS: dict[str, Effect] = {
    "items": Effect(("images", "vectors"), noun, both("images", "vectors")),
    "head": Effect(("linear", "mlp"), layers_of_the_head, both(1, 2)),
    "input_size": Effect(
        (6, 5), vectors_that_are_taken, lambda a, b: bool(a == "these" and "(items, 5) is needed" in b)
    ),
}


def tokens_seen(mini: Miniature, **changes: Any) -> int:
    """Return how many tokens of a long text a network of texts is shown."""
    if not (mini.root / "sentence").exists():
        save_sentence_model(mini.root / "sentence")
    table = save_texts(mini.root / "texts.csv")
    model = {"data": str(table), "backbone": str(mini.root / "sentence" / "model")}
    embedder = build_any(make_config(model, changes))
    return int(embedder.preparation(["red " * 100]).collate(["red " * 100])["input_ids"].shape[1])


EFFECT_ON_TEXTS: dict[str, Effect] = {"max_length": Effect((None, 5), tokens_seen, both(32, 5))}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return Miniature(tmp_path_factory.mktemp("miniature"))


def test_every_key_of_the_configuration_has_an_effect_that_is_tested() -> None:
    assert EFFECT.keys() | EFFECT_ON_VECTORS.keys() | EFFECT_ON_TEXTS.keys() == KEYS.keys()


@pytest.mark.parametrize(
    ("key", "effect"),
    [
        *EFFECT.items(),
        *((f"{key} of vectors", effect) for key, effect in EFFECT_ON_VECTORS.items()),
        *((f"{key} of texts", effect) for key, effect in EFFECT_ON_TEXTS.items()),
    ],
)
def test_a_key_does_what_it_promises(mini: Miniature, key: str, effect: Effect) -> None:
    key = key.removesuffix(" of vectors").removesuffix(" of texts")
    first, second = (effect.observe(mini, **effect.beside, **{key: value}) for value in effect.values)
    assert effect.promised(first, second), f"{key}: {effect.values} gave {first} and {second}"
    # a key without an effect would have given one of the two twice
    assert not effect.promised(first, first)
    assert not effect.promised(second, second)
