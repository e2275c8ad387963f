"""Only the last blocks of a network are trained, and what is frozen is as at test."""

from typing import Any

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

from recallk import InputError
from recallk.models.freezing import freeze_all_but
from recallk.models.image_embedder import ImageEmbedder
from recallk.models.settings import ImageSettings
from tests.embedders import TextEmbedder

SIZES = {"test_resnet": 32, "test_vit": 160, "test_convnext": 64}
BLOCKS: dict[str, list[tuple[str, ...]]] = {
    "test_resnet": [("layer3.0.",), ("layer4.0.",)],
    "test_vit": [("blocks.4.",), ("blocks.5.",)],
    "test_convnext": [("stages.3.downsample.", "stages.3.blocks.0."), ("stages.3.blocks.1.",)],
}
BEHIND = {"test_resnet": (), "test_vit": ("norm.",), "test_convnext": ("head.norm.",)}


def made(name: str, **options: Any) -> ImageEmbedder:
    torch.manual_seed(0)
    size = SIZES[name]
    settings = ImageSettings(backbone=name, image_size=size, resize=size, embedding_size=8)
    return ImageEmbedder(settings, timm.create_model(name, num_classes=0, global_pool="", **options))


def trained(embedder: ImageEmbedder) -> set[str]:
    return {name for name, parameter in embedder.backbone.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", SIZES)
def test_the_last_blocks_and_what_is_behind_them_are_trained(name: str, count: int) -> None:
    embedder = made(name)
    freeze_all_but(embedder, count)
    last = (*sum(BLOCKS[name][-count:], ()), *BEHIND[name])
    expected = {each for each, _ in embedder.backbone.named_parameters() if each.startswith(last)}
    assert trained(embedder) == expected
    assert all(p.requires_grad for part in (embedder.pool, embedder.norm, embedder.head) for p in part.parameters())


def test_none_and_all_of_the_blocks() -> None:
    embedder = made("test_resnet")
    freeze_all_but(embedder, 4)
    assert {name for name, _ in embedder.backbone.named_parameters()} - trained(embedder) == {
        f"conv1.{name}" for name in ("0.weight", "1.weight", "1.bias", "3.weight", "4.weight", "4.bias", "6.weight")
    } | {"bn1.weight", "bn1.bias"}
    freeze_all_but(embedder, 0)
    assert not trained(embedder)


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(InputError, match=r"^trained_blocks=7: test_vit has 6; leave it out to train all$"):
        freeze_all_but(made("test_vit"), 7)


def test_a_network_of_which_no_blocks_are_known() -> None:
    embedder = made("test_resnet")
    embedder.backbone.__dict__["group_matcher"] = None
    with pytest.raises(InputError, match="timm does not say which the blocks of test_resnet are") as caught:
        freeze_all_but(embedder, 1)
    assert "\n" not in str(caught.value)
    freeze_all_but(embedder, 0)
    with pytest.raises(InputError, match="a network for texts has no blocks"):
        freeze_all_but(TextEmbedder(), 1)


def test_frozen_parts_are_as_at_test_while_the_others_train() -> None:
    embedder = made("test_vit", drop_path_rate=0.5)
    freeze_all_but(embedder, 2)
    for _ in range(2):
        embedder.train()
        paths = {n: part for n, part in embedder.named_modules() if isinstance(part, DropPath)}
        assert {n.split(".")[2] for n, part in paths.items() if part.training} == {"4", "5"}
        assert {n.split(".")[2] for n, part in paths.items() if not part.training} >= {"1", "2", "3"}
        assert embedder.training
        embedder.eval()
        assert not any(part.training for part in embedder.modules())


def test_embedding_leaves_frozen_parts_as_they_were() -> None:
    embedder = made("test_resnet").train()
    freeze_all_but(embedder, 1)
    modes = {name: part.training for name, part in embedder.named_modules()}
    assert not modes["backbone.layer3.0.bn1"]
    assert modes["backbone.layer4.0.bn1"]
    embedder.embed([torch.zeros(40, 40, 3, dtype=torch.uint8).numpy()])
    assert {name: part.training for name, part in embedder.named_modules()} == modes


def test_statistics_of_frozen_batch_norm_stay() -> None:
    embedder = made("test_resnet")
    freeze_all_but(embedder, 1)
    embedder.train()
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    embedder(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))
    moved = {name for name, value in embedder.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("backbone.layer4.") for name in moved)
    layers = [part for part in embedder.modules() if isinstance(part, nn.BatchNorm2d)]
    assert any(not layer.training for layer in layers)
