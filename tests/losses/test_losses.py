"""Every loss of the catalogue learns, repeats, resumes and fits two passes; a mistake is one line."""

import copy
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from recallk import InputError, large_batch_backward, recall_at_k_loss
from recallk.losses import registry as loss_catalogue
from recallk.losses.build import build_loss
from recallk.losses.registry import CATALOGUE, check_batch, describe, settings_of
from recallk.runs.config import make_config, read_config, to_yaml
from recallk.runs.folder import RunFolder
from recallk.training import trainer
from recallk.training.plan import Plan, prepare
from recallk.training.trainer import Trainer
from tests.cli.test_cli import recallk
from tests.training.test_trainer import SMALL, without_time

NAMES = list(CATALOGUE)
OWN_PARAMETERS = [name for name, entry in CATALOGUE.items() if entry.own_parameters]
CLASSES, ITEMS = 6, 4
FEW: dict[str, Any] = {**SMALL, "batch_size": 16, "epochs": 1, "select": "last", "evaluate_every": 9, "chunk_size": 16}


def with_short_memory(name: str, size: int = 40) -> str | dict[str, Any]:
    """The loss, with a memory that is full after two or three batches."""
    return {"name": name, "memory_size": size} if "memory_size" in CATALOGUE[name].settings else name


def module(name: str, **settings: Any) -> nn.Module:
    loss = {"name": name, **settings} if settings else with_short_memory(name)
    return build_loss(make_config({"data": "x", "embedding_size": 8, "loss": loss}), CLASSES, 8, 1)


def batch(seed: int, dimensions: int = 8) -> tuple[Tensor, Tensor]:
    """Unit rows (24, D) that lean towards their classes, and shuffled labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat_interleave(ITEMS)[torch.randperm(CLASSES * ITEMS, generator=generator)]
    centres = torch.randn(CLASSES, dimensions, generator=generator)
    rows = centres[labels] + torch.randn(len(labels), dimensions, generator=generator)
    return F.normalize(rows, dim=1), labels


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 classes of a colour each: its red and blue with noise over them, its green nothing but noise."""
    root: Path = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for label in range(24):
        colour = random.integers(0, 255, 2)
        (root / f"class{label}").mkdir()
        for number in range(8):
            pixels = random.integers(0, 255, (4, 4, 3))
            pixels[..., ::2] = (colour + random.normal(0, 30, (4, 4, 2))).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).resize((36, 36)).save(root / f"class{label}" / f"{number}.png")
    return root


def flags() -> list[object]:
    """`FEW` as a person types it."""
    given = {key: value for key, value in FEW.items() if key != "crop_scale"}
    return [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", value)]


def plan_of(pictures: Path, **changes: Any) -> Plan:
    return prepare(make_config(FEW, {"data": str(pictures)}, changes))


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_beats_the_untrained_network(pictures: Path, tmp_path: Path, name: str) -> None:
    changes = {"epochs": 6, "batch_size": 32, "chunk_size": 32, "loss": with_short_memory(name, 96)}
    training = Trainer(plan_of(pictures, **changes), RunFolder(tmp_path / "run"))
    own = [parameter.detach().clone() for parameter in training.loss.parameters()]
    rows = list(training.rows())
    assert rows[-1]["recall@1"] > rows[0]["recall@1"] + 0.05
    assert bool(own) == CATALOGUE[name].own_parameters
    for before, after in zip(own, training.loss.parameters(), strict=True):
        assert not torch.equal(before, after)
    rates = [group["lr"] for group in training.optimizer.param_groups]
    assert rates == pytest.approx([2e-3, 2e-2] if own else [2e-3])


def test_all_losses_see_the_same_data_and_begin_with_the_same_network(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def watch(model: nn.Module, images: Any, labels: Tensor, loss_fn: Any, **_: Any) -> Tensor:
        seen.extend([labels, *(chunk.clone() for chunk in images), torch.get_rng_state()])
        loss_fn(torch.randn(len(labels), 16, generator=torch.Generator().manual_seed(0)), labels)
        torch.set_rng_state(seen[-1])  # some losses draw
        return torch.zeros(())

    monkeypatch.setattr(trainer, "large_batch_backward", watch)
    found: dict[str, list[Tensor]] = {}
    for number, name in enumerate(NAMES):
        seen.clear()
        training = Trainer(plan_of(pictures, loss=name, limit_classes=4), RunFolder(tmp_path / str(number)))
        seen.append(torch.get_rng_state())
        seen.extend(value.clone() for value in training.embedder.state_dict().values())
        for _ in training.rows():
            pass
        found[name] = list(seen)
    first = found.pop("recall@k")
    assert len(first) > 10
    for name, other in found.items():
        assert len(other) == len(first)
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True)), name


@pytest.mark.parametrize("name", ["proxy-nca", "margin", "memory-multi-similarity", "memory-recall@k"])
def test_an_interrupted_run_goes_on_to_the_same_end(pictures: Path, tmp_path: Path, name: str) -> None:
    changes = {"epochs": 3, "loss": with_short_memory(name), "limit_classes": 4, "learning_rate": 1e-2}
    whole = Trainer(plan_of(pictures, **changes), RunFolder(tmp_path / "whole"))
    rows = without_time(list(whole.rows()))
    folder = RunFolder(tmp_path / "cut")
    for row in Trainer(plan_of(pictures, **changes), folder).rows():
        if row["epoch"] == 3:
            break
    resumed = Trainer(prepare(folder.read_config()), folder)
    list(resumed.rows(resume=True))
    assert without_time(folder.history()) == rows
    for one, other in ((whole.loss, resumed.loss), (whole.embedder, resumed.embedder)):
        state, again = one.state_dict(), other.state_dict()
        assert state.keys() == again.keys()
        for key, value in state.items():
            assert torch.equal(value, again[key]) if isinstance(value, Tensor) else value == again[key], key


@pytest.mark.parametrize("name", NAMES)
def test_two_passes_give_the_gradients_of_one(name: str) -> None:
    class Unit(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.normalize(super().forward(x), dim=1)

    torch.manual_seed(0)
    model, loss = Unit(12, 8), module(name)
    twin, twin_loss = copy.deepcopy(model), copy.deepcopy(loss)
    for step in range(3):  # a memory is empty in the first, and full in the last
        x, labels = batch(step, 12)
        value = loss(model(x), labels, generator=torch.Generator().manual_seed(step))
        value.backward()
        drawn = partial(twin_loss, generator=torch.Generator().manual_seed(step))
        torch.testing.assert_close(large_batch_backward(twin, x, labels, drawn, chunk_size=7), value.detach())
    pairs = zip([*model.parameters(), *loss.parameters()], [*twin.parameters(), *twin_loss.parameters()], strict=True)
    for one, two in pairs:
        assert one.grad is not None
        assert one.grad.abs().max() > 1e-6
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_follows_from_the_generator_and_moves_nothing_else(name: str) -> None:
    x, labels = batch(0)

    def values() -> list[float]:
        return [module(name)(x, labels, generator=torch.Generator().manual_seed(seed)).item() for seed in range(4)]

    before = torch.get_rng_state()
    first = values()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert values() == first
    assert (len(set(first)) > 1) == (name == "margin")


def test_own_parameters_follow_from_the_seed() -> None:
    def proxies(seed: int) -> Tensor:
        config = make_config({"data": "x", "loss": "proxy-nca", "seed": seed})
        return next(build_loss(config, CLASSES, config.embedding_size, config.seed).parameters())

    assert torch.equal(proxies(1), proxies(1))
    assert not torch.equal(proxies(1), proxies(2))


def test_smooth_ap_is_that_of_the_paper() -> None:
    x, labels = batch(3)
    similarities, total = x @ x.T, 0.0
    for q in range(len(x)):
        positives = [i for i in range(len(x)) if labels[i] == labels[q]]
        precision = 0.0
        for i in positives:

            def rank(among: list[int], i: int = i, q: int = q) -> float:
                return 1 + sum(float(torch.sigmoid((similarities[q, j] - similarities[q, i]) / 0.01)) for j in among)

            above = rank([j for j in positives if j != i])
            precision += above / rank([j for j in range(len(x)) if j != i])
        total += 1 - precision / len(positives)
    assert module("smooth-ap")(x, labels).item() == pytest.approx(total / len(x), rel=1e-4)
    with pytest.raises(InputError, match="equally many images"):
        module("smooth-ap")(x[1:], labels[1:])


def test_the_histogram_loss_is_that_of_the_paper() -> None:
    x, labels = batch(4)
    histograms = {True: np.zeros(101), False: np.zeros(101)}
    for i in range(len(x)):
        for j in range(i):
            place = (float(x[i] @ x[j]) + 1) * 50
            of = histograms[bool(labels[i] == labels[j])]
            of[int(place)] += 1 - place % 1
            of[int(place) + 1] += place % 1
    positive, negative = (h / h.sum() for h in (histograms[True], histograms[False]))
    assert module("histogram")(x, labels).item() == pytest.approx(float(negative @ positive.cumsum()), rel=1e-4)
    assert module("histogram")(x[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 1])).isfinite()  # duplicates: similarity 1


def test_recall_at_k_with_a_memory_ranks_the_latest_batches() -> None:
    loss = module("memory-recall@k", memory_size=40)
    batches = [batch(seed) for seed in range(4)]
    for number, (x, labels) in enumerate(batches):
        value = loss(x, labels)
        if number == 0:
            torch.testing.assert_close(value, recall_at_k_loss(x, labels))
            continue
        gallery = torch.cat([x for x, _ in batches[:number]])[-40:]
        gallery_labels = torch.cat([labels for _, labels in batches[:number]])[-40:]
        torch.testing.assert_close(value, recall_at_k_loss(x, labels, gallery, gallery_labels))
    strangers = labels + CLASSES
    torch.testing.assert_close(loss(x, strangers), recall_at_k_loss(x, strangers))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "arcfce"}, "loss='arcfce': no such loss: did you mean arcface.*the losses are recall@k, contrastive"),
        ({"loss": {"name": "zzz"}}, "the losses are recall@k"),
        ({"loss": {"margin": 3}}, "give a name, or in a recipe a table"),
        ({"loss": 3}, "loss=3: give a name"),
        ({"loss": {"name": "arcface", "margn": 3}}, "unknown setting 'margn' of arcface: its settings are margin, sc"),
        ({"loss": {"name": "n-pair", "margin": 3}}, "of n-pair: it has no settings"),
        ({"loss": {"name": "arcface", "scale": 0}}, "scale is a number above 0"),
        ({"loss": {"name": "triplet", "margin": "wide"}}, "margin is a number, 0 or more"),
        ({"loss": {"name": "histogram", "n_bins": 1.5}}, "n_bins is a whole number above 0"),
        ({"loss": "circle", "mixup": True}, "mixup=true goes with loss=recall@k alone, not with circle"),
        ({"loss": "memory-recall@k", "mixup": True}, "not with memory-recall@k"),
        ({"loss_rate_factor": 0}, "loss_rate_factor=0"),
    ],
)
def test_a_wrong_loss_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_config({"data": "x"}, values)
    assert "\n" not in str(caught.value)


def test_a_loss_with_settings_is_written_and_read(tmp_path: Path) -> None:
    config = make_config({"data": "x", "loss": {"name": "arcface", "margin": "2e1"}})
    assert settings_of(config.loss) == {"margin": 20.0, "scale": 64.0}
    assert describe(config.loss) == "arcface (margin 20, scale 64)"
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert make_config(read_config(tmp_path / "config.yaml")) == config
    assert make_config({"data": "x", "loss": {"name": "arcface"}}).loss == "arcface"


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.growth is not None])
@pytest.mark.parametrize("items", [2, 16])
def test_a_batch_too_large_for_a_loss_is_refused(name: str, items: int) -> None:
    largest = CATALOGUE[name].largest_batch(items)
    assert largest is not None
    check_batch(name, largest, items)
    with pytest.raises(InputError, match=f"loss={name}.* GB .*choose batch_size={largest} or less"):
        check_batch(name, largest + items, items)


def test_a_memory_holds_at_least_a_batch() -> None:
    with pytest.raises(InputError, match="a memory of 40 is smaller than the batch of 44 images: raise memory_size"):
        check_batch({"name": "memory-recall@k", "memory_size": 40}, 44, 4)


def test_too_large_a_batch_is_refused_before_training(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loss_catalogue, "MOST_BYTES", 1e4)
    assert recallk("train", "--data", pictures, "--run", tmp_path / "run", "--loss", "smooth-ap", *flags()) == 2
    error = capfd.readouterr().err.strip()
    assert error.startswith("recallk: loss=smooth-ap: a batch of ")
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_train_with_a_loss_by_name(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recallk("train", "--data", pictures, "--run", tmp_path / "run", "--loss", "arcface", *flags()) == 0
    assert "loss      arcface (margin 28.6, scale 64)" in capsys.readouterr().out
    assert "arcface (margin 28.6, scale 64)" in (tmp_path / "run" / "report.html").read_text()
    assert RunFolder(tmp_path / "run").read_config().loss == "arcface"
    assert recallk("train", "--resume", tmp_path / "run") == 0


def test_a_loss_that_diverges_says_so() -> None:
    x, labels = batch(0)
    with pytest.raises(InputError, match="loss=contrastive: the embeddings hold NaN"):
        module("contrastive")(x * torch.nan, labels)


def test_the_library_is_imported_for_its_own_losses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)  # an import fails
    module("recall@k")
    module("memory-recall@k")
    with pytest.raises(ImportError):
        module("circle")
