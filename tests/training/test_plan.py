"""What is known of a run before it starts."""

import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from recallk import InputError
from recallk.data import sides
from recallk.data.benchmarks.catalogue import BENCHMARKS
from recallk.runs.config import make_config
from recallk.runs.train_config import TrainConfig
from recallk.training.plan import Plan, prepare

SMALL: dict[str, Any] = {"backbone": "test_resnet", "weights": "none", "image_size": 32, "epochs": 2}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("pictures")
    for label in range(30):
        (root / f"{label:02}").mkdir()
        for number in range(1 if label % 10 == 9 else 4):
            Image.new("RGB", (9, 9)).save(root / f"{label:02}" / f"{number}.png")
    return root


@pytest.fixture
def few_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight validation queries are taken for enough."""
    monkeypatch.setattr(sides, "FEWEST_QUERIES", 8)


def plan_of(pictures: Path, **changes: Any) -> Plan:
    return prepare(make_config(SMALL, {"data": str(pictures)}, changes))


@pytest.mark.usefixtures("few_suffice")
def test_validation_classes_are_training_classes_set_aside(pictures: Path) -> None:
    plan, without = plan_of(pictures, select="validation"), plan_of(pictures, select="test")
    train, validation = plan.data.train, plan.data.validation
    assert validation is not None
    assert plan.selection == "validation"
    assert without.data.validation is None
    assert len(validation.classes) == 2
    assert set(validation.classes).isdisjoint(train.classes)
    assert set(validation.classes) | set(train.classes) == set(without.data.train.classes)
    assert plan.data.test.labelled.classes == without.data.test.labelled.classes
    assert min(np.bincount(validation.labels)) > 1
    assert plan.sampler.labels is train.labels


@pytest.mark.usefixtures("few_suffice")
def test_more_classes_can_be_set_aside_but_never_nearly_all(pictures: Path) -> None:
    most = plan_of(pictures, select="validation", validation_fraction=0.99, items_per_class=2)
    assert most.data.validation is not None
    assert len(most.data.train.classes) >= 2


def test_with_few_classes_the_last_epoch_is_kept(pictures: Path) -> None:
    plan = plan_of(pictures, limit_classes=8)
    assert plan.data.validation is None
    assert plan.selection == "last"
    assert len(plan.data.train.classes) == len(plan.data.test.labelled.classes) == 8


def test_of_many_images_a_sample_is_opened_but_all_must_be_there(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from recallk.data import dataset, opening

    assert plan_of(pictures).data.opened == 27 * 4 + 3
    for name in ("SAMPLE", "_BLOCK"):
        monkeypatch.setattr(opening, name, 10)
    monkeypatch.setattr(dataset, "MINUTE", 0)
    assert plan_of(pictures).data.opened == 10
    rows = [f"{path},{path.parent.name}" for path in sorted(pictures.rglob("*.png"))]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows, f"{tmp_path}/gone.png,00"]))
    with pytest.raises(InputError, match=r"gone.png: no such image"):
        plan_of(tmp_path / "t.csv")


@pytest.mark.usefixtures("few_suffice")
def test_a_batch_shrinks_where_classes_were_left_out(pictures: Path) -> None:
    with pytest.raises(InputError, match="choose 8 to 44"):
        plan_of(pictures, batch_size=400, select="test")
    assert plan_of(pictures, batch_size=400, limit_classes=6, select="test").items_per_step < 6 * 4 + 1
    plan = plan_of(pictures, batch_size=400, recipe="cub200-resnet50", select="validation")
    assert plan.data.validation is not None
    assert plan.items_per_step < 400
    assert plan.smaller_batches == (
        f"batches of {plan.items_per_step} images, and not of the 400 asked for: "
        f"only {plan.items_per_step // 4} training classes have 4 images"
    )
    assert plan.smaller_batches in plan.differences
    assert plan_of(pictures, batch_size=plan.items_per_step, select="validation").smaller_batches is None


def test_every_benchmark_can_be_configured() -> None:
    assert set(get_args(TrainConfig.model_fields["dataset"].annotation)) == {"own", *BENCHMARKS}


def test_a_plan_says_why_the_last_epoch_is_kept(pictures: Path) -> None:
    assert plan_of(pictures).selection == "last"
    assert (
        plan_of(pictures, select="validation").how_chosen
        == "the last: 8 validation queries are too few to choose an epoch by (100 are needed)"
    )
    assert plan_of(pictures, select="last").how_chosen == "the last"
    few = plan_of(pictures, limit_classes=8)
    assert few.how_chosen.startswith("the last: ")
    assert few.how_chosen.endswith(" training classes are too few to set some aside (10 are needed)")


def test_a_long_run_is_planned_at_once(pictures: Path) -> None:
    started = time.perf_counter()
    plan = plan_of(pictures, epochs=100_000, batch_size=16)
    assert plan.steps >= 100_000
    assert min(plan.batches) <= max(plan.batches)
    assert time.perf_counter() - started < 15
    with pytest.raises(InputError, match="epochs=10000000"):
        plan_of(pictures, epochs=10_000_000)


@pytest.mark.usefixtures("few_suffice")
def test_a_batch_of_all_has_classes_of_any_size(pictures: Path) -> None:
    plan = plan_of(pictures, batch_size="all")
    assert plan.items_per_step == len(plan.data.train) != 4 * len(plan.data.train.classes)
    assert (plan.steps, plan.batches, plan.items_seen) == (2, (1, 1), 2 * len(plan.data.train))
    assert (plan.smaller_batches, plan.left_out.classes) == (None, 0)
    with pytest.raises(InputError, match="loss=smooth-ap needs classes of one size, and batch_size=all leaves them"):
        plan_of(pictures, batch_size="all", loss="smooth-ap")
    with pytest.raises(InputError, match=r"batch_size=.any.: "):
        plan_of(pictures, batch_size="any")
