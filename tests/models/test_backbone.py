"""A network of timm can embed images of the size that is set, or one line says why not before anything is read."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from recallk import InputError
from recallk.models.build import build
from recallk.models.settings import ImageSettings


@pytest.mark.parametrize(
    ("backbone", "size", "message"),
    [
        ("halonet26t", 64, r"cannot embed images of image_size=64 \(.*; its own size is 256"),
        ("efficientformer_l1", 64, r"cannot embed images of image_size=64 \(.*; its own size is 224"),
        ("inception_v3", 64, r"cannot embed images of image_size=64 \(.*; its own size is 299"),
        ("test_vit", 40, r"cannot embed images of image_size=40 \(.*; its own size is 160"),
        ("xcit_nano_12_p8_224", 9, "timm cannot build it"),
        ("efficientvim_m1", 64, "cannot embed images"),  # gives several features, for several heads
        ("crossvit_tiny_240", 240, "timm cannot build it"),  # has two class tokens, and can only average or take them
        ("efficientvit_b0", 224, "timm cannot build it"),
    ],
)
def test_a_network_that_cannot(backbone: str, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(ImageSettings(backbone=backbone, image_size=size, embedding_size=8), "none")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("convnext_atto", 64),
        ("mambaout_femto", 64),  # channels last
        ("edgenext_xx_small", 64),
        ("hiera_tiny_224", 64),
        ("levit_128s", 64),
        ("mobilevit_xxs", 64),
        ("xcit_nano_12_p8_224", 64),
        ("test_resnet", 4_096),  # shapes alone: seconds and gigabytes if it were computed
    ],
)
def test_a_network_that_can(backbone: str, size: int) -> None:
    torch.manual_seed(3)
    embedder = build(ImageSettings(backbone=backbone, image_size=size, embedding_size=8), "none")
    assert all(part.training for part in embedder.modules()), "trying it out has left it in another mode"
    assert not any(tensor.is_meta for tensor in embedder.state_dict().values())
    if size == 64:
        with torch.inference_mode():
            assert embedder.eval()(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, 8)


def test_trying_a_network_out_draws_no_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn() -> torch.Tensor:
        torch.manual_seed(3)
        build(ImageSettings(backbone="test_resnet", image_size=32, embedding_size=8), "none")
        return torch.rand(3)

    tried = drawn()
    monkeypatch.setattr("recallk.models.image_embedder._try_out", lambda embedder: None)
    assert torch.equal(drawn(), tried)


def test_settings_with_every_key_need_no_timm() -> None:
    """A run's configuration is read in no time."""
    given: dict[str, Any] = ImageSettings(backbone="test_resnet", image_size=32).model_dump()
    program = f"""
import sys
from recallk.models.settings import ImageSettings
ImageSettings(**{given})
assert "timm" not in sys.modules and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
