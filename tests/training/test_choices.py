"""What is chosen for a run where nobody says: batches that leave steps enough, and the reasons."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import recallk
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.recipes import differences, find_recipe
from recallk.runs.train_config import TrainConfig
from recallk.training.choices import (
    LARGEST,
    STEPS_AN_EPOCH,
    bounds_of,
    choose_batch,
    choose_items_per_class,
    choose_length,
)
from recallk.training.plan import prepare
from recallk.training.sampler import make_sampler
from tests.cli.test_cli import recallk as command
from tests.miniature_run import SMALL
from tests.training.test_trainer import save_patterns

OPEN = dict.fromkeys(
    ("items_per_class", "batch_size", "select", "epochs", "warmup_steps", "evaluate_every", "horizontal_flip", "mixup")
)


def config(**keys: Any) -> TrainConfig:
    return make_config({"data": "glyphs"}, keys)


def labels_of(classes: int, each: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.repeat(np.arange(classes), each)


SIZES = st.one_of(
    st.lists(st.integers(1, 60), min_size=2, max_size=400),
    st.builds(lambda classes, each: [each] * classes, st.integers(2, 3_000), st.integers(4, 40)),
    st.builds(lambda classes: [max(1, classes // rank) for rank in range(1, classes)], st.integers(3, 1_500)),
    st.builds(lambda some, alone: [4] * some + [1] * alone, st.integers(2, 300), st.integers(1, 5_000)),
)


@settings(deadline=None, max_examples=60)
@given(sizes=SIZES, items_per_class=st.integers(2, 5), weights=st.sampled_from(["none", "pretrained"]))
def test_there_are_steps_enough(sizes: list[int], items_per_class: int, weights: str) -> None:
    """Whatever the sizes of classes are, those that can never be drawn among them."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    if sum(size >= items_per_class for size in sizes) < 2:
        assert choose_batch(config(items_per_class=items_per_class, weights=weights), labels) == []
        return
    chosen = config(items_per_class=items_per_class, weights=weights)
    choices = choose_batch(chosen, labels)
    (size,) = (choice.value for choice in choices)
    assert isinstance(size, int)
    assert size % items_per_class == 0
    assert size <= max(LARGEST, 2 * items_per_class)
    sampler, _ = make_sampler(labels, size, items_per_class, seed=1)
    steps = sampler.batches(1)
    if size > max(bounds_of(chosen).smallest, 2 * items_per_class):
        assert steps >= STEPS_AN_EPOCH - 1
    length = {choice.key: choice.value for choice in choose_length(chosen, sampler)}
    assert steps * int(str(length["epochs"])) >= bounds_of(chosen).least_steps == (400 if weights == "none" else 200)
    assert int(str(length["epochs"])) >= 30


@pytest.mark.parametrize(
    ("classes", "each", "size", "epochs", "why"),
    [
        (10, 5, 40, 400, "all 10 classes of which 4 can be drawn (an epoch has 1)"),
        (30, 20, 64, 45, "the smallest unless you say less: smaller ones have too little to rank (an epoch has 9)"),
        (100, 60, 400, 30, "all 100 classes of which 4 can be drawn (an epoch has 15)"),
        (1_000, 12, 1_000, 34, "as large as leaves about a dozen steps (an epoch has 12)"),
        (20_000, 5, 4_000, 30, "the largest unless you say more (an epoch has 20)"),
    ],
)
def test_what_is_chosen_says_why(classes: int, each: int, size: int, epochs: int, why: str) -> None:
    labels = labels_of(classes, each)
    from_nothing = config(weights="none")
    (items,) = choose_items_per_class(from_nothing, labels)
    assert (items.value, items.why) == (4, "usual")
    (batch,) = choose_batch(from_nothing, labels)
    assert (batch.value, batch.why) == (size, why)
    sampler, _ = make_sampler(labels, size, 4, seed=1)
    length = {choice.key: choice for choice in choose_length(from_nothing, sampler)}
    assert length["epochs"].value == epochs
    steps = sampler.batches(1) * epochs
    assert length["warmup_steps"].value == round(steps / 20)
    assert length["evaluate_every"].value == math.ceil(epochs / 30)
    last = {choice.key: choice.value for choice in choose_length(config(select="last", weights="none"), sampler)}
    assert last["evaluate_every"] == math.ceil(epochs / 10), "where no epoch is chosen by them"


@pytest.mark.parametrize(
    ("classes", "each", "items", "size", "epochs"),
    [
        (10, 5, (4, "usual; only 0 of 10 classes have 8"), 40, 200),
        (10, 12, (8, "10 of 10 classes have so many"), 80, 200),
        (60, 12, (8, "60 of 60 classes have so many"), 128, 67),
        (60, 6, (4, "usual; only 0 of 60 classes have 8"), 128, 200),
        (1_000, 12, (8, "1,000 of 1,000 classes have so many"), 664, 30),
    ],
)
def test_from_pretrained_weights_batches_are_larger(
    classes: int, each: int, items: tuple[int, str], size: int, epochs: int
) -> None:
    labels = labels_of(classes, each)
    (of_a_class,) = choose_items_per_class(config(), labels)
    assert (of_a_class.value, of_a_class.why) == items
    chosen = config(items_per_class=items[0])
    assert choose_items_per_class(chosen, labels) == []
    (batch,) = choose_batch(chosen, labels)
    assert batch.value == size
    sampler, _ = make_sampler(labels, size, items[0], seed=1)
    assert {choice.key: choice.value for choice in choose_length(chosen, sampler)}["epochs"] == epochs


def test_items_of_a_class_fit_what_is_said_and_there() -> None:
    labels = np.concatenate([labels_of(3, 8), 3 + labels_of(3, 7)])
    assert choose_items_per_class(config(), labels)[0].value == 8
    assert choose_items_per_class(config(), np.append(labels, [6]))[0].value == 4
    assert choose_items_per_class(config(), np.array([0] * 8))[0].value == 4
    assert choose_items_per_class(config(batch_size=128), labels)[0].value == 8
    for size in (16, 120, 132):  # few classes, or none of a number
        assert choose_items_per_class(config(batch_size=size), labels)[0].value == 4
    assert choose_items_per_class(config(batch_size="all"), labels) == []


@pytest.mark.parametrize(("classes", "chosen"), [(190, "last"), (210, "validation")])
def test_an_epoch_is_chosen_on_classes_set_aside_where_they_are_enough(classes: int, chosen: str) -> None:
    plan = prepare(config(limit_classes=classes))
    assert plan.config.select == plan.selection == chosen
    aside = 0 if plan.data.validation is None else len(plan.data.validation.classes)
    assert aside == (21 if chosen == "validation" else 0)
    assert len(plan.data.train.classes) == classes - aside
    (choice,) = (choice for choice in plan.choices if choice.key == "select")
    few = "19 classes set aside would be too few to choose an epoch by (--select validation does it)"
    assert choice.why == ("21 classes set aside" if chosen == "validation" else few)


def test_fewer_classes_are_set_aside_when_asked_for() -> None:
    plan = prepare(config(limit_classes=60, select="validation"))
    assert plan.data.validation is not None
    assert len(plan.data.validation.classes) == 6
    assert plan.selection == "validation"
    assert "select" not in {choice.key for choice in plan.choices}


def test_images_are_mirrored_unless_that_makes_another_class_of_them(tmp_path: Path) -> None:
    letters = prepare(config(limit_classes=60))
    assert isinstance(letters.config, ImageTrainConfig)
    assert letters.config.horizontal_flip is False
    (choice,) = (choice for choice in letters.choices if choice.key == "horizontal_flip")
    told = r"mirror images are taken for other classes: \d+ of 240 have one of their own as the nearest, \d+ upright"
    assert re.fullmatch(told, choice.why)
    photographs = prepare(config(data=str(save_patterns(tmp_path, 6, 6)), dataset="own"))
    assert isinstance(photographs.config, ImageTrainConfig)
    assert photographs.config.horizontal_flip is True
    (choice,) = (choice for choice in photographs.choices if choice.key == "horizontal_flip")
    assert choice.why == "mirror images look as much like their class, or nearly"


@pytest.mark.parametrize("said", [{"horizontal_flip": True}, {"augment": "none"}])
def test_mirroring_that_is_said_or_of_no_use_is_not_looked_into(
    said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recallk.data.dataset.look_at_mirrored", None)
    assert "horizontal_flip" not in {choice.key for choice in prepare(config(limit_classes=8, **said)).choices}


def test_what_is_said_stays() -> None:
    said = {"batch_size": 8, "epochs": 2, "warmup_steps": 0, "evaluate_every": 2, "select": "validation"} | {
        "horizontal_flip": True,
        "mixup": False,
    }
    labels = labels_of(10, 8)
    sampler, _ = make_sampler(labels, 8, 4, seed=1)
    assert choose_batch(config(**said), labels) == choose_length(config(**said), sampler) == []
    plan = prepare(config(limit_classes=20, items_per_class=4, **said))
    assert plan.choices == []
    assert plan.epochs == 2
    assert [plan.evaluates_after(epoch) for epoch in (1, 2)] == [False, True]
    sampler, _ = make_sampler(labels, 40, 4, seed=1)
    whole = {choice.key: choice.value for choice in choose_length(config(weights="none"), sampler)}
    assert whole["epochs"] == 200


def test_a_plan_and_a_run_have_what_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {"data": "glyphs", "limit_classes": 8, "backbone": "test_resnet", "weights": "none", "image_size": 16}
    words = [word for key, value in keys.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    assert command("train", *words, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "chosen    --items-per-class 4, --batch-size 32, --select last, --epochs " in out
    assert "(--explain: why)" in out
    assert command("train", *words, "--dry-run", "--explain", "--epochs", "3") == 0
    out = capsys.readouterr().out
    assert "chosen    --batch-size 32: all 8 classes of which 4 can be drawn (an epoch has " in out
    assert "--epochs 3" not in out, "which was not chosen"
    assert command("train", "--resume", tmp_path, "--explain") == 2
    assert "beside it only" in capsys.readouterr().err

    summary = recallk.train({**keys, "epochs": 1, "workers": 0}, tmp_path / "run")
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["batch_size"] == 32
    assert isinstance(written["warmup_steps"], int)
    assert written["evaluate_every"] == 1
    assert written["select"] == "last"
    assert isinstance(written["horizontal_flip"], bool)
    assert summary.config.batch_size == 32


def test_a_run_from_before_goes_on_as_it_began(tmp_path: Path) -> None:
    """Whose configuration has no batch size, which was all classes."""
    values = {**SMALL, "data": "glyphs", "limit_classes": 40, "batch_size": None, "epochs": 1, "select": "last"}
    recallk.train(values | {"batch_size": 80}, tmp_path / "run")
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert "batch_size: 80" in written
    (tmp_path / "run" / "config.yaml").write_text(written.replace("batch_size: 80", "batch_size: null"))
    summary = recallk.resume(tmp_path / "run", {"epochs": 2})
    assert [step.items for step in summary.steps] == [80] * len(summary.steps)
    assert RunFolder(tmp_path / "run").read_config().epochs == 2


def test_the_rate_of_milestones_is_that_of_the_usual_epochs() -> None:
    labels = labels_of(10, 8)
    sampler, _ = make_sampler(labels, 40, 4, seed=1)
    for keys in ({"milestones": (15, 25), "schedule": "milestones"}, {"schedule": "exponential"}):
        chosen = {choice.key: choice.value for choice in choose_length(config(**keys), sampler)}
        assert chosen["epochs"] == 30
        assert chosen["evaluate_every"] == 1


def test_a_recipe_that_leaves_them_open_is_not_told_to_differ(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump({"about": {"published": {"recall@1": 50.0}}, **SMALL, **OPEN}))
    values = find_recipe(str(recipe)).values | {"data": "glyphs", "limit_classes": 8}
    plan = prepare(make_config(values))
    assert [choice.key for choice in plan.choices] == list(OPEN)
    assert differences(plan.config) == ["limit_classes 8 instead of none"]


def test_a_class_counts_as_often_as_it_can_be_drawn() -> None:
    """Ten large classes give a batch one group of items each, however many they have."""
    labels = np.repeat(np.arange(210), [400] * 10 + [4] * 200)
    (batch,) = choose_batch(config(weights="none"), labels)
    size = int(str(batch.value))
    assert make_sampler(labels, size, 4, seed=1)[0].batches(1) == 11
    assert make_sampler(labels, 2 * size, 4, seed=1)[0].batches(1) < 11


@pytest.mark.parametrize(
    ("keys", "mixed"),
    [
        ({"weights": "none"}, True),
        ({"weights": "weights.safetensors"}, False),
        ({"weights": "none", "mixup": False}, False),
        ({"weights": "weights.safetensors", "mixup": True}, True),
        ({"weights": "none", "loss": "contrastive"}, None),
    ],
)
def test_similarities_are_mixed_where_a_network_learns_from_random_weights(
    keys: dict[str, Any], mixed: bool | None
) -> None:
    plan = prepare(config(**keys, backbone="test_resnet", image_size=32, limit_classes=8))
    assert plan.config.mixup is mixed
    assert ("mixup" in {choice.key for choice in plan.choices}) == ("mixup" not in keys and "loss" not in keys)
