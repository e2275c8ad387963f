"""The shipped recipes against tables that were written by hand from the paper's hyper-parameters and the leaderboards,
not from the files."""

import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from recallk import InputError
from recallk.cli.recipes import show_recipe
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.recipes import Recipe, differences, find_recipe, origin, shipped, unlike
from recallk.training.sampler import make_sampler
from recallk.training.schedule import learning_rate
from tests.configs import image_config

# name: (dataset, optimizer, learning rate, batch, epochs, milestones)
TABLE: dict[str, tuple[str, str, float, int, int, tuple[int, ...]]] = {
    "inaturalist-resnet50": ("inaturalist", "adam", 0.0001, 4000, 90, (40, 70)),
    "inaturalist-vit-b32": ("inaturalist", "adamw", 0.00005, 4000, 90, (10, 40, 70)),
    "inaturalist-vit-b16": ("inaturalist", "adamw", 0.00005, 4000, 90, (10, 40, 70)),
    "sop-resnet50": ("sop", "adam", 0.0002, 4000, 55, (25, 50)),
    "sop-vit-b32": ("sop", "adamw", 0.00005, 4000, 55, (25, 50)),
    "sop-vit-b16": ("sop", "adamw", 0.00005, 4000, 55, (25, 50)),
    "vehicleid-resnet50": ("vehicleid", "adam", 0.0001, 4000, 90, (40, 70)),
    "vehicleid-vit-b32": ("vehicleid", "adamw", 0.0001, 4000, 90, (40, 70)),
    "vehicleid-vit-b16": ("vehicleid", "adamw", 0.00005, 4000, 90, (40, 70)),
    "cars196-resnet50": ("cars", "adam", 0.0001, 392, 170, (80, 140)),
    "cars196-vit-b32": ("cars", "adamw", 0.00003, 392, 50, (20, 30, 40)),
    "cars196-vit-b16": ("cars", "adamw", 0.00001, 392, 50, (20, 30, 40)),
    "cub200-resnet50": ("cub", "adam", 0.0001, 400, 40, (10, 20, 30)),
    "cub200-vit-b32": ("cub", "adamw", 0.00003, 400, 40, (10, 20, 30)),
    "cub200-vit-b16": ("cub", "adamw", 0.00001, 400, 40, (10, 20, 30)),
    # the paper has none: as Stanford Online Products
    "inshop-resnet50": ("inshop", "adam", 0.0002, 4000, 55, (25, 50)),
    "inshop-vit-b32": ("inshop", "adamw", 0.00005, 4000, 55, (25, 50)),
    "inshop-vit-b16": ("inshop", "adamw", 0.00005, 4000, 55, (25, 50)),
}
SMALL = [name for name in TABLE if name.startswith(("cars196", "cub200"))]
NAMES = [*TABLE, *(f"{name}-simix" for name in SMALL)]
DRAWN = ("demo", "glyphs", "places")  # their data is; nothing was published for them
OF_LANDMARKS = ("gldv2-dinov2-vit-b14", "gldv2-resnet101", "sfm120k-resnet101")
EVALUATED = {
    "inaturalist": (1, 4, 16, 32),
    "sop": (1, 10, 100, 1000),
    "vehicleid": (1, 5),
    "cars": (1, 2, 4, 8, 16),
    "cub": (1, 2, 4, 8, 16),
    "inshop": (1, 10, 20, 30),
}
PUBLISHED: dict[str, dict[str, float]] = {
    "inaturalist-resnet50": {"recall@1": 71.8, "recall@4": 84.7, "recall@16": 91.9, "recall@32": 94.3},
    "inaturalist-vit-b16": {"recall@1": 83.0, "recall@4": 92.1, "recall@16": 95.9, "recall@32": 97.2},
    "vehicleid-resnet50": {"recall@1": 95.7, "recall@5": 97.9, "large recall@1": 93.8, "large recall@5": 96.6},
    "vehicleid-vit-b16": {"recall@1": 96.2, "recall@5": 98.0, "large recall@1": 94.7, "large recall@5": 97.1},
    "cars196-resnet50": {"recall@1": 80.7, "recall@2": 88.3, "recall@4": 92.8, "recall@8": 95.7},
    "cars196-resnet50-simix": {"recall@1": 88.3},
    "cars196-vit-b16-simix": {"recall@1": 89.5},
    "sop-vit-b16": {"recall@1": 88.0},
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # for every network, whatever its weights were made with
SPELLED_OUT = {
    *("dataset", "backbone", "pooling", "head", "embedding_size", "image_size", "image_shape", "resize"),
    *("weights", "batch_norm", "ks", "rank_temperature", "recall_temperature", "query_in_database", "mixup"),
    *("augment", "crop_scale", "horizontal_flip", "loss", "mixup_relatives", "mean", "std", "interpolation"),
    *("batch_size", "items_per_class", "chunk_size", "epochs", "optimizer", "learning_rate", "weight_decay"),
    *("schedule", "milestones", "milestone_factor", "warmup_steps", "select", "evaluate_every", "evaluate_ks"),
    *("precision", "seed"),
}
RECIPES = {recipe.name: recipe for recipe in shipped()}


def config_of(recipe: Recipe) -> ImageTrainConfig:
    return image_config(recipe.values, {"data": "x"})


def test_there_is_one_recipe_for_each_row() -> None:
    assert len(NAMES) == 24
    assert sorted(RECIPES) == sorted([*NAMES, *DRAWN, *OF_LANDMARKS])


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_valid_and_says_what_it_is(name: str) -> None:
    recipe = RECIPES[name]
    config = config_of(recipe)
    assert config.recipe == name
    assert "about" not in recipe.values
    assert len(recipe.title) > len(name)
    assert "\n" not in recipe.title + recipe.source
    assert recipe.source or name in DRAWN
    if name not in DRAWN:
        assert "data" not in recipe.values, "the user says where the data lies"
        assert timm.models.is_model_pretrained(config.backbone)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_the_hyper_parameters_of_its_row(name: str) -> None:
    dataset, optimizer, rate, batch, epochs, milestones = TABLE[name.removesuffix("-simix")]
    config = config_of(RECIPES[name])
    assert (config.dataset, config.optimizer, config.learning_rate) == (dataset, optimizer, rate)
    assert (config.batch_size, config.epochs, config.milestones) == (batch, epochs, milestones)
    assert config.mixup == name.endswith("-simix")
    assert config.evaluate_ks == EVALUATED[dataset]
    backbone, pooling, chunk = {
        "resnet50": ("resnet50.tv_in1k", "gem", 200),
        "b32": ("vit_base_patch32_224.augreg_in21k", "token", 200),
        "b16": ("vit_base_patch16_224.augreg_in21k", "token", 100),
    }[name.removesuffix("-simix").split("-")[-1]]
    assert (config.backbone, config.pooling, config.chunk_size) == (backbone, pooling, chunk)


@pytest.mark.parametrize("name", NAMES)
def test_what_all_rows_have_in_common(name: str) -> None:
    config = config_of(RECIPES[name])
    assert (config.items_per_class, config.embedding_size, config.seed) == (4, 512, 1)
    assert (config.weight_decay, config.schedule, config.milestone_factor) == (0.0004, "milestones", 0.3)
    assert config.warmup_steps == 0
    assert (config.image_size, config.resize, config.crop_scale, config.horizontal_flip) == (224, 256, (0.08, 1), True)
    assert (config.mean, config.std, config.interpolation) == (*IMAGENET, "bilinear")
    assert (config.weights, config.batch_norm, config.precision) == ("pretrained", "frozen", "32-true")
    assert (config.ks, config.rank_temperature, config.recall_temperature) == ((1, 2, 4, 8, 16), 0.01, 1.0)
    assert config.query_in_database
    assert config.select == "test"


@pytest.mark.parametrize("name", DRAWN)
def test_the_documented_results_stay_what_they_are(name: str) -> None:
    """They were made when every network was shown images like this."""
    config = config_of(RECIPES[name])
    assert (config.mean, config.std, config.interpolation) == (*IMAGENET, "bilinear")
    assert config.resize == config.image_size


@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_counts_is_left_to_a_default(name: str) -> None:
    assert set(RECIPES[name].values) == SPELLED_OUT | {"recipe"}
    # the machine's, and those of own data and of a validation split
    assert set(ImageTrainConfig.model_fields) - SPELLED_OUT == {
        *("recipe", "data", "limit_classes", "split", "closed_set", "test_fraction", "split_seed"),
        *("columns", "root", "validation_fraction"),
        *("host_memory_gb", "workers", "logger", "accelerator", "devices", "nodes", "checkpoint_minutes"),
        *("compile", "channels_last", "on_non_finite", "activation_memory_gb"),
        *("items", "on_bad_image", "max_bad_images", "measure_before", "measure_after"),
        "loss_rate_factor",  # recall@k has no parameters
        *("whitening", "epoch_factor"),  # of another head, and of another schedule
        *("pooling_rate_factor", "pooling_weight_decay", "trained_blocks"),  # all of the network is trained alike
    }


@pytest.mark.parametrize("name", [*NAMES, *DRAWN, *OF_LANDMARKS])
def test_published_numbers_are_the_listed_ones(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.published == PUBLISHED.get(name, {})
    assert bool(recipe.rows) == (name == "gldv2-resnet101")
    measured = {f"recall@{k}" for k in config_of(recipe).evaluate_ks}
    assert {metric.removeprefix("large ") for metric in recipe.published} <= measured
    if name in ("cars196-resnet50-simix", "cars196-vit-b16-simix"):
        assert "with SiMix" in recipe.source
    if name == "cars196-resnet50":
        assert "without SiMix" in recipe.source


# mAP on revisited Oxford (medium, hard) and Paris (medium, hard), of ResNet-101s trained on Google Landmarks v2, clean
ROWS = {
    "SOLAR": (79.7, 60.0, 88.6, 76.2),
    "DELG global": (78.6, 60.9, 88.6, 76.1),
    "Token": (82.2, 65.8, 89.4, 78.4),
    "DOLG": (82.4, 64.9, 91.0, 81.7),
}
AMONG_A_MILLION = {"DOLG": (73.6, 51.6, 80.4, 63.0)}


def test_the_rows_of_other_methods_are_the_listed_ones() -> None:
    expected: dict[str, dict[str, float]] = {}
    for table, suffix in ((ROWS, ""), (AMONG_A_MILLION, "+1m")):
        for method, values in table.items():
            names = [
                f"{place}{suffix} {part} map" for place in ("roxford5k", "rparis6k") for part in ("medium", "hard")
            ]
            expected.setdefault(method, {}).update(zip(names, values, strict=True))
    assert RECIPES["gldv2-resnet101"].rows == expected


def test_the_landmark_recipes_follow_the_papers_set_up() -> None:
    paper = config_of(RECIPES["gldv2-resnet101"])
    assert (paper.backbone, paper.pooling, paper.head, paper.whitening) == (
        *("resnet101.tv_in1k", "gem", "whitening", "learned"),
    )
    assert (paper.embedding_size, paper.image_size, paper.image_shape) == (2048, 1024, "keep")
    assert (paper.batch_size, paper.items_per_class, paper.batch_norm) == (4096, 4, "frozen")
    assert (paper.optimizer, paper.learning_rate, paper.weight_decay) == ("adam", 1e-4, 1e-6)
    assert (paper.pooling_rate_factor, paper.pooling_weight_decay) == (10, 0)
    assert paper.schedule == "exponential"
    assert paper.epoch_factor == pytest.approx(math.exp(-0.01), abs=1e-4)
    assert (paper.crop_scale, paper.horizontal_flip) == ((1, 1), False)
    sfm = config_of(RECIPES["sfm120k-resnet101"])
    assert set(unlike(sfm, paper, besides=["test_fraction"])) == {
        "dataset sfm120k instead of gldv2-clean",
        "batch_size 1024 instead of 4096",
        "epochs 30 instead of 2",
        "evaluate_every 5 instead of 1",
    }
    dino = config_of(RECIPES["gldv2-dinov2-vit-b14"])
    assert (dino.dataset, dino.trained_blocks, dino.image_shape, dino.pooling) == ("gldv2-clean", 2, "keep", "token")


@pytest.mark.parametrize("name", OF_LANDMARKS)
def test_a_landmark_recipe_says_in_what_it_is_not_the_papers(name: str) -> None:
    said = [line for line in RECIPES[name].text.splitlines() if line.startswith("# - ")]
    assert len(said) >= 4
    other_schedule = {"milestones", "milestone_factor"}
    assert SPELLED_OUT - other_schedule | {"whitening", "trained_blocks"} <= set(RECIPES[name].values)


def test_rows_are_tables_of_percentages(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("about: {published: {recall@1: 80.7, Theirs: {roxford5k easy map: 90}}, source: us}")
    recipe = find_recipe(str(path))
    assert (recipe.published, recipe.rows) == ({"recall@1": 80.7}, {"Theirs": {"roxford5k easy map": 90}})
    assert recipe.values["recipe"] == str(path)
    for wrong in ("{Theirs: {roxford5k easy map: high}}", "{Theirs: {roxford5k: {easy: 90}}}", "{Theirs: {a: 101}}"):
        path.write_text(f"about: {{published: {wrong}}}")
        with pytest.raises(InputError, match="published, a number for each metric"):
            find_recipe(str(path))


def test_how_many_recipes_have_a_published_number() -> None:
    """As README says."""
    assert sum(bool(RECIPES[name].published) for name in NAMES) == len(PUBLISHED)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"{len(PUBLISHED)} of the {len(NAMES)} recipes" in readme


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_differs_from_itself_in_nothing(name: str) -> None:
    config = config_of(RECIPES[name])
    assert differences(config) == []
    for_speed = {"workers": 3, "chunk_size": 7, "host_memory_gb": 1, "logger": "wandb", "accelerator": "cpu"}
    assert name in DRAWN or differences(image_config(config.model_dump(), for_speed)) == []


def test_what_differs_is_said() -> None:
    values = RECIPES["sop-resnet50"].values
    changed = {
        "epochs": 1,
        "milestones": (1,),
        "weights": "none",
        "limit_classes": 50,
        "mixup": True,
        "crop_scale": (0.5, 1),
    }
    assert sorted(differences(image_config(values, {"data": "x"}, changed))) == [
        "crop_scale 0.5,1.0 instead of 0.08,1.0",
        "epochs 1 instead of 55",
        "limit_classes 50 instead of none",
        "milestones 1 instead of 25,50",
        "mixup true instead of false",
        "weights none instead of pretrained",
    ]
    per_chunk = image_config(values, {"data": "x", "batch_norm": "per-chunk", "chunk_size": 50})
    assert differences(per_chunk) == [
        "chunk_size 50 instead of 200",
        "batch_norm per-chunk instead of frozen",
    ]
    assert differences(image_config({"data": "x"})) == []


def test_a_copied_recipe_is_found_by_its_path_and_held_against_the_original(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_recipe("sop-resnet50")
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out.replace("epochs: 55", "epochs: 5"))
    mine = find_recipe(str(tmp_path / "mine.yaml"))
    assert (config_of(mine).epochs, config_of(mine).recipe) == (5, "sop-resnet50")
    assert mine.title == find_recipe("sop-resnet50").title
    assert differences(config_of(mine)) == ["epochs 5 instead of 55"]
    with pytest.raises(InputError, match=r"no recipe 'sop'.*sop-resnet50"):
        find_recipe("sop")


def test_own_published_numbers_are_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("about: {published: {recall@1: 80.7}, source: us}\nepochs: 3\n")
    config = config_of(find_recipe(str(tmp_path / "mine.yaml")))
    recipe = origin(config)
    assert recipe is not None
    assert recipe.published == {"recall@1": 80.7}
    (tmp_path / "mine.yaml").unlink()
    assert origin(config) is None
    assert differences(config) == []


@pytest.mark.parametrize("text", ["recipe: nope", "about: {published: 80.7}", "about: {published: {recall@1: high}}"])
def test_a_wrong_origin_is_told_before_anything_runs(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=r"no recipe .nope.|published, a number for each metric"):
        find_recipe(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("name", ["inaturalist-vit-b32", "sop-resnet50", "cub200-vit-b16"])
def test_the_rate_falls_when_pytorchs_does(name: str) -> None:
    """Where a MultiStepLR is stepped once at the end of each epoch, as by the paper's authors."""
    config = config_of(RECIPES[name])
    assert config.epochs is not None
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(config.milestones), gamma=0.3)
    for epoch in range(1, config.epochs + 1):
        assert learning_rate(config, epoch, epoch, config.epochs) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_an_epoch_of_unequal_classes_by_hand() -> None:
    """3, 4, 5, 8 and 11 images are 0, 1, 1, 2 and 2 groups of four: 6 groups, 3 batches of two classes each."""
    labels = np.repeat(np.arange(5), [3, 4, 5, 8, 11])
    sampler, left_out = make_sampler(labels, 8, 4, seed=1)
    assert (left_out.classes, left_out.items) == (1, 3)
    for epoch in range(1, 30):
        batches = list(sampler.epoch(epoch))
        assert len(batches) == sampler.batches(epoch) == 3
        for batch in batches:
            assert sorted(np.unique(labels[batch], return_counts=True)[1].tolist()) == [4, 4]
        drawn = np.concatenate(batches)
        assert len(set(drawn.tolist())) == len(drawn) == 24
        assert np.bincount(labels[drawn]).tolist() == [0, 4, 4, 8, 8]


def test_an_epoch_of_cub_ends_with_its_smallest_class() -> None:
    """A batch has 4 images of all 100 classes, so 41 images of the smallest class make 10 batches."""
    config = config_of(RECIPES["cub200-resnet50"])
    labels = np.repeat(np.arange(100), 41 + np.arange(100) % 20)
    assert isinstance(config.batch_size, int)
    sampler, _ = make_sampler(labels, config.batch_size, config.of_a_class, config.seed)
    batches = list(sampler.epoch(1))
    assert [len(batch) for batch in batches] == [400] * 10
    assert all(np.bincount(labels[batch]).tolist() == [4] * 100 for batch in batches)
