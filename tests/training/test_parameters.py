"""What the optimiser steps: all of the network alike, or its parts each in its own way; and heads that begin as a
whitening."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recallk import InputError, load
from recallk.losses.build import build_loss
from recallk.models.build import build
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.whitening import learned_whitening, pairs_of_classes, pca_whitening
from recallk.models.whitening_head import begin_as_whitening, first_classes
from recallk.runs.folder import RunFolder
from recallk.runs.train_config import TrainConfig
from recallk.training import network as training
from recallk.training.parameters import parameter_groups
from recallk.training.step_memory import step_memory
from recallk.training.trainer import Trainer
from tests.embedders import TextEmbedder
from tests.miniature_run import Miniature
from tests.rows import without_time

LANDMARK: dict[str, Any] = {
    **{"head": "whitening", "pooling_rate_factor": 10, "pooling_weight_decay": 0, "trained_blocks": 2},
    **{"schedule": "exponential", "epoch_factor": 0.9, "epochs": 2, "batch_size": None},
}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return Miniature(tmp_path_factory.mktemp("miniature"))


def trainer_of(mini: Miniature, folder: Path, **changes: Any) -> Trainer:
    return Trainer(mini.plan(**changes), RunFolder(folder))


def groups_of(config: TrainConfig) -> tuple[ImageEmbedder, list[tuple[list[nn.Parameter], float, float]]]:
    embedder = build(config, "none")
    assert isinstance(embedder, ImageEmbedder)
    embedder.backbone.get_parameter("bn1.bias").requires_grad_(False)  # as some networks of timm come
    loss = build_loss(config, 6, config.embedding_size, 1)
    groups = parameter_groups(embedder, loss, config)
    return embedder, [(group.parameters, group.rate_factor, group.weight_decay) for group in groups]


# groups of parameters


def test_without_keys_of_its_own_all_of_the_network_is_one_group(mini: Miniature) -> None:
    """As a checkpoint of an earlier version numbers its parameters."""
    embedder, groups = groups_of(mini.config(weight_decay=0.1))
    assert groups == [(list(embedder.parameters()), 1, 0.1)]
    embedder, groups = groups_of(mini.config(loss="proxy-nca", loss_rate_factor=5))
    assert groups[0][0] == list(embedder.parameters())
    assert groups[1][1:] == (5, 0)


def test_the_power_of_the_pooling_may_have_a_group_of_its_own(mini: Miniature) -> None:
    for keys, factor, decay in (
        ({"pooling_rate_factor": 10}, 10, 0.1),
        ({"pooling_weight_decay": 0}, 1, 0),
        ({"pooling_rate_factor": 10, "pooling_weight_decay": 0.3}, 10, 0.3),
    ):
        embedder, groups = groups_of(mini.config(weight_decay=0.1, loss="proxy-nca", **keys))
        power = embedder.get_parameter("pool.gem.p")
        others = [parameter for parameter in embedder.parameters() if parameter is not power]
        assert groups[:2] == [(others, 1, 0.1), ([power], factor, decay)]
        assert len(groups) == 3


def test_of_a_frozen_network_only_what_is_trained_reaches_the_optimiser(mini: Miniature, tmp_path: Path) -> None:
    trainer = trainer_of(mini, tmp_path, trained_blocks=1)
    names = {id(p): name for name, p in trainer.embedder.named_parameters()}
    stepped = {names[id(p)] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert stepped == {name for name in names.values() if not name.startswith("backbone.")} | {
        name for name in names.values() if name.startswith("backbone.layer4.")
    }
    assert step_memory(trainer).parameters < step_memory(trainer_of(mini, tmp_path)).parameters


def test_more_blocks_than_there_are_is_told_before_anything_is_written(mini: Miniature, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trained_blocks=5: test_resnet has 4"):
        trainer_of(mini, tmp_path / "run", trained_blocks=5)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("batch_norm", ["frozen", "per-chunk"])
def test_what_is_frozen_stays_as_it_was(mini: Miniature, batch_norm: str) -> None:
    seen = mini.watch(steps=2, trained_blocks=0, batch_norm=batch_norm)
    moved = {name for name in seen.after if seen.moved(name).any()}
    assert {"pool.gem.p", "norm.weight", "head.weight"} <= moved
    assert not [name for name in moved if name.startswith("backbone.")], "the statistics neither"


# a head that begins as a whitening


@pytest.mark.parametrize("method", ["pca", "learned"])
def test_a_head_begins_as_the_formula_has_it_and_is_then_trained(mini: Miniature, tmp_path: Path, method: str) -> None:
    trainer = trainer_of(mini, tmp_path / "run", head="whitening", whitening=method)
    embedder, train = trainer.embedder, trainer.plan.data.train
    assert isinstance(embedder, ImageEmbedder)
    features = embedder.without_head().embed(train.items, chunk_size=trainer.chunk_size)
    assert features.shape == (len(train), embedder.channels)
    expected = (
        pca_whitening(features, 8)
        if method == "pca"
        else learned_whitening(features, *pairs_of_classes(train.labels), 8)
    )
    rows = trainer.rows()
    next(rows)
    torch.testing.assert_close(embedder.embed(train.items), expected(features), rtol=0, atol=2e-5)
    before = embedder.get_parameter("head.weight").detach().clone()
    torch.testing.assert_close(before, expected.projection.float())
    for _ in rows:
        pass
    assert bool((embedder.get_parameter("head.weight") != before).any())
    assert load(tmp_path / "run").embed(train.items[:2]).shape == (2, 8)


def test_it_is_fitted_to_the_classes_that_come_first(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recallk.models.whitening_head.MOST_ITEMS", 10)
    train = mini.plan().data.train
    embedder = build(mini.config(head="whitening"), "none").eval()
    assert isinstance(embedder, ImageEmbedder)
    begin_as_whitening(embedder, train, "pca", chunk_size=4, workers=0)
    features = embedder.without_head().embed(train.items[:8], chunk_size=4)  # two classes of four
    torch.testing.assert_close(
        embedder.get_parameter("head.weight").detach(), pca_whitening(features, 8).projection.float()
    )


@pytest.mark.parametrize(
    ("labels", "most", "expected"),
    [
        ([0, 0, 1, 1, 2, 2], 4, [0, 1, 2, 3]),
        ([0, 0, 1, 1, 2, 2], 5, [0, 1, 2, 3]),
        ([2, 0, 2, 0, 1], 4, [0, 1, 2, 3]),
        ([1, 1, 1, 0], 2, [0, 1]),
        ([0, 1], 100, [0, 1]),
    ],
)
def test_whole_classes_are_taken(labels: list[int], most: int, expected: list[int]) -> None:
    assert first_classes(np.array(labels), most).tolist() == expected


def test_what_cannot_begin_is_one_line(mini: Miniature) -> None:
    white, noise = mini.plan(data="white").data.train, mini.plan().data.train
    embedder = build(mini.config(head="whitening"), "none")
    with pytest.raises(InputError, match=r"^head=whitening: \d+ descriptors, all alike"):
        begin_as_whitening(embedder, white, "pca", chunk_size=4, workers=0)
    with pytest.raises(InputError, match=r"^head=whitening: this network for texts has no such head"):
        begin_as_whitening(TextEmbedder(), noise, "pca", chunk_size=4, workers=0)


# all of it together


def test_a_run_of_all_these_keys_is_resumed_as_if_it_had_gone_on(
    mini: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = trainer_of(mini, tmp_path / "whole", **LANDMARK), tmp_path / "cut"
    rows = without_time(list(whole.rows()))
    for row in (rest := trainer_of(mini, cut, **LANDMARK).rows()):
        if row.epoch == 2:
            break
    rest.close()  # type: ignore[attr-defined]

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the checkpoint has the head")

    monkeypatch.setattr(training, "begin_as_whitening", never)
    resumed = without_time(list(trainer_of(mini, cut, **LANDMARK).rows(resume=True)))
    assert resumed == rows[-len(resumed) :]
    items = whole.plan.data.test.labelled.items
    assert torch.equal(load(cut).embed(items), load(tmp_path / "whole").embed(items))
    torch.testing.assert_close(F.normalize(load(cut).embed(items)), load(cut).embed(items))
