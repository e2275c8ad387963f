"""`Embedder.embed`: whatever an image is given as, the embedding is that of its pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recallk.models import saved
from recallk.models.build import build
from recallk.models.settings import ImageSettings
from tests.fuzz.case import Case, FaultError, Place, Rng, pick

SIZE = 32
load: Any = saved.load  # called with what its types forbid
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def embedder(size: int = SIZE) -> Any:
    """Return a small network, which sees images of `size` pixels as they are."""
    torch.manual_seed(0)
    settings = ImageSettings(backbone="test_resnet", embedding_size=16, image_size=size, resize=size)
    return build(settings, "none").eval()


def pixels(seed: int, size: int = SIZE) -> Pixels:
    """Return a picture of large and small patterns, which rounding does not change much."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (4, 4, 3)).repeat(-(-size // 4), 0).repeat(-(-size // 4), 1)[:size, :size]
    noise: Pixels = (0.8 * coarse + 0.2 * rng.integers(0, 255, coarse.shape)).astype(np.uint8)
    return noise


def of_pixels(model: Any, picture: Pixels) -> Tensor:
    """Return the embedding of RGB pixels `(S, S, 3)` of the network's size."""
    with torch.no_grad():
        found: Tensor = model(torch.from_numpy(picture).permute(2, 0, 1)[None])
    return found[0]


def _grey(picture: Pixels) -> Pixels:
    return picture[:, :, 0]


def _tripled(grey: Pixels) -> Pixels:
    return np.repeat(grey[:, :, None], 3, 2)


FORMS: dict[str, tuple[Any, Any]] = {
    "uint8 RGB": (lambda p: p, lambda p: p),
    "uint8 grey": (_grey, lambda p: _tripled(_grey(p))),
    "float grey from 0 to 1": (lambda p: (_grey(p) / 255).astype(np.float32), lambda p: _tripled(_grey(p))),
    "float64 RGB from 0 to 1": (lambda p: p / 255, lambda p: p),
    "uint16 grey": (lambda p: _grey(p).astype(np.uint16) * 257, lambda p: _tripled(_grey(p))),
    "uint16 RGB": (lambda p: p.astype(np.uint16) * 257, lambda p: p),
    "PIL RGB": (Image.fromarray, lambda p: p),
    "PIL grey": (lambda p: Image.fromarray(_grey(p)), lambda p: _tripled(_grey(p))),
    "PIL palette": (
        lambda p: Image.fromarray(p).convert("P", palette=Image.Palette.ADAPTIVE),
        lambda p: np.asarray(Image.fromarray(p).convert("P", palette=Image.Palette.ADAPTIVE).convert("RGB")),
    ),
    "tensor (H, W, 3)": (torch.from_numpy, lambda p: p),
    "tensor (3, H, W)": (lambda p: torch.from_numpy(p).permute(2, 0, 1), lambda p: p),
    "RGBA, opaque": (lambda p: np.dstack([p, np.full(p.shape[:2], 255, np.uint8)]), lambda p: p),
    "not contiguous": (lambda p: p[:, ::-1], lambda p: p[:, ::-1].copy()),
}


def form_of(name: str, seed: int = 0) -> Case:
    """Return an image in a form that an image may have in memory: it may be refused, but not be taken for another."""

    def act(place: Place) -> None:
        model, picture = embedder(), pixels(seed)
        given, right = FORMS[name][0](picture), FORMS[name][1](picture)
        check(model, model.embed([given]), [right])

    return Case(f"embed, {name}", act, "must not" if name in ("uint8 RGB", "uint8 grey", "PIL RGB") else "may")


def check(model: Any, found: Tensor, pictures: list[Pixels]) -> None:
    """Raise FaultError unless the embeddings are those of the pictures, give or take a grey level."""
    if found.shape != (len(pictures), 16) or found.dtype != torch.float32 or found.is_inference():
        raise FaultError(f"embeddings {found.dtype} of shape {tuple(found.shape)}, inference {found.is_inference()}")
    expected = torch.stack([of_pixels(model, picture) for picture in pictures])
    distance = float((found - expected).norm(dim=1).max())
    apart = float((of_pixels(model, pixels(98)) - of_pixels(model, pixels(99))).norm())
    if not distance <= 0.1 * apart:
        raise FaultError(f"embeddings are {distance:.4f} from the right ones (two pictures are {apart:.4f} apart)")


def _probe(place: Place) -> None:
    found = embedder().embed([pixels(0), pixels(1)])
    torch.nn.Linear(16, 2)(found).sum().backward()


def _modes(place: Place) -> None:
    model = embedder().train()
    model.backbone.eval()
    before = {name: module.training for name, module in model.named_modules()}
    model.embed([pixels(0)])
    try:
        model.embed([Path("nowhere.jpg")])
    finally:
        changed = [n for n, module in model.named_modules() if module.training != before[n]]
        if changed:
            raise FaultError(f"training or evaluation has changed in {len(changed)} modules, such as {changed[0]!r}")


def _floats(place: Place) -> None:
    model = embedder()
    model(torch.rand(2, 3, SIZE, SIZE))


ODD: dict[str, Any] = {
    "a bare string": "a.jpg",
    "a bare path": Path("a.jpg"),
    "None": None,
    "a list of None": [None],
    "a number": 3,
    "missing file": ["nowhere.jpg"],
    "4-D": [np.zeros((1, 2, 3, 3), np.uint8)],
    "two channels": [np.zeros((8, 8, 2), np.uint8)],
    "no pixels": [np.zeros((0, 8, 3), np.uint8)],
    "floats from 0 to 255": [np.linspace(0, 255, 192).reshape(8, 8, 3)],
    "negative floats": [np.linspace(-1, 1, 192).reshape(8, 8, 3)],
    "NaN": [np.full((8, 8), np.nan)],
    "complex": [np.ones((8, 8), np.complex64)],
    "objects": [np.array([[object()]])],
    "strings": [np.array([["a", "b"]])],
    "a path with a null byte": ["a\0b.jpg"],
    "a folder": ["."],
    "a pipe": ["pipe.jpg"],
}


def _bare_name(place: Place) -> None:
    """A name is no list of names, though its letters can be gone through."""
    Image.fromarray(pixels(0)).save(place.work / "x", format="PNG")
    embedder().embed("x")


def odd(name: str) -> Case:
    """Return what is no list of images."""

    def act(place: Place) -> None:
        import os

        os.mkfifo(place.work / "pipe.jpg")
        embedder().embed(ODD[name])

    return Case(f"embed, {name}", act, "must")


def plain(rng: Rng) -> Case:
    """Return several images at a time, in forms that are mixed, in chunks of any size; or what is no image."""
    if rng.random() < 0.4:
        return odd(pick(rng, list(ODD)))
    names = [pick(rng, ("uint8 RGB", "uint8 grey", "PIL RGB", "file", *FORMS)) for _ in range(int(rng.integers(0, 6)))]
    size = int(rng.integers(1, 8))
    seeds = rng.integers(0, 1000, len(names)).tolist()

    def act(place: Place) -> None:
        model, given, right = embedder(), [], []
        for name, seed in zip(names, seeds, strict=True):
            picture = pixels(seed)
            if name == "file":
                Image.fromarray(picture).save(place.work / f"{seed}.png")
                given.append(str(place.work / f"{seed}.png"))
            else:
                given.append(FORMS[name][0](picture))
            right.append(picture if name == "file" else FORMS[name][1](picture))
        found = model.embed(given, chunk_size=size)
        if names:
            check(model, found, right)
        elif found.shape != (0, 16):
            raise FaultError(f"no images give {tuple(found.shape)}")

    safe = set(names) <= {"uint8 RGB", "uint8 grey", "PIL RGB", "file"}
    return Case(f"embed {', '.join(names) or 'nothing'} in chunks of {size}", act, "must not" if safe else "may")


def loading(what: Any) -> Case:
    return Case(f"load({what!r})", lambda place: load(what), "must")


FIRST = [
    *map(loading, (None, 3, "", "nowhere", "../before.txt", "../beside", "a\0b", "~nobody/x", b"run")),
    *map(form_of, FORMS),
    Case("a probe learns on embeddings", _probe, "must not"),
    Case("embed gives modes back, also after an error", _modes, "must"),
    Case("floats to the network itself", _floats, "must"),
    Case("embed, a bare name of one letter", _bare_name, "must"),
    *map(odd, ("a bare string", "a pipe", "None")),
]
