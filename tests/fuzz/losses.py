"""The loss and similarity mixup: values and gradients against the reference, and what must be refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import recallk
from tests.fuzz import reference
from tests.fuzz.case import Case, FaultError, Place, Rng, pick

Kwargs = dict[str, Any]
loss_of: Any = recallk.recall_at_k_loss  # called with what its types forbid
Loss: Any = recallk.RecallAtKLoss
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-3}
"""Of a loss: at a temperature of 0.01 float32's rounding of a cosine moves a rank by 1e-5 for each item nearby."""


def classes_of(rng: Rng, most: int = 40) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return labels with at least one class of two."""
    labels = rng.integers(0, max(2, most // 4), int(rng.integers(3, most)))
    labels[1] = labels[0]
    names = np.unique(rng.integers(-(2**40), 2**40, 64))
    return rng.permutation(names[labels])


def points(rng: Rng, count: int, dimensions: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return rows in general position, or with duplicates, ties, or close together."""
    x = rng.standard_normal((count, dimensions))
    kind = rng.integers(4)
    if kind == 1:
        x = np.sign(x)
    elif kind == 2:
        x = x[rng.integers(0, max(1, count // 2), count)]
    elif kind == 3:
        x = 0.05 * x + 1
    return x


def settings_of(rng: Rng) -> Kwargs:
    """Return settings of the loss that go together."""
    ks = sorted({int(k) for k in rng.integers(1, 40, int(rng.integers(1, 5)))})
    several = [float(pick(rng, (0.05, 1.0, 3.0))) for _ in ks]
    return {
        "ks": tuple(ks),
        "rank_temperature": pick(rng, (0.01, 0.01, 0.1, 1.0)),
        "recall_temperature": several if rng.random() < 0.3 else several[0],
        "query_in_database": bool(rng.random() < 0.7),
    }


def check_loss(x: Tensor, labels: Any, kwargs: Kwargs, implementation: str, gradient: bool = True) -> None:
    """Compare value and gradient with the reference; `kwargs` may hold a gallery and mixup."""
    wide = x.detach().double().numpy()
    plain = {key: _array(value) for key, value in kwargs.items()}

    def expected(at: reference.Matrix) -> float:
        return float(np.mean(reference.losses(at, np.asarray(labels).astype(np.int64), **plain)))

    x = x.detach().requires_grad_()
    loss = loss_of(x, labels, **kwargs, implementation=implementation)
    if loss.shape != () or loss.dtype != (torch.float64 if x.dtype == torch.float64 else torch.float32):
        raise FaultError(f"the loss is {loss.dtype} of shape {tuple(loss.shape)}")
    tolerance = TOLERANCE.get(x.dtype, 2e-3)
    if not abs(loss.item() - expected(wide)) <= tolerance:
        raise FaultError(f"loss {loss.item()!r} instead of {expected(wide)!r} ({implementation}, {x.dtype})")
    each = loss_of(x.detach(), labels, **kwargs, implementation=implementation, reduction="none").double().numpy()
    right = np.array(reference.losses(wide, np.asarray(labels).astype(np.int64), **plain))
    if each.shape != right.shape or not np.abs(each - right).max() <= 5 * tolerance:
        raise FaultError(f"losses {each} instead of {right} ({implementation}, {x.dtype})")
    if not gradient:
        return
    loss.backward()
    assert x.grad is not None
    # along a random direction, in the rows' own measure
    direction = np.random.default_rng(0).standard_normal(wide.shape) * np.abs(wide).max(1, keepdims=True)
    slope = reference.slope(expected, wide, direction, 1e-6)
    found = float((x.grad.double().numpy() * direction).sum())
    allowed = (1e-5 if x.dtype == torch.float64 else 3e-2) * (1 + abs(slope))
    if not abs(found - slope) <= allowed:
        raise FaultError(f"slope {found!r} instead of {slope!r} ({implementation}, {x.dtype})")


def _array(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return (value.double() if value.is_floating_point() else value).numpy()


def plain(rng: Rng) -> Case:
    """Return a valid problem in one of the forms that are accepted."""
    labels, dimensions = classes_of(rng), int(rng.integers(1, 12))
    x = points(rng, len(labels), dimensions)
    kwargs = settings_of(rng)
    form = pick(rng, ("plain", "gallery", "mixup", "module"))
    if form == "gallery":
        kwargs["gallery"] = torch.from_numpy(points(rng, int(rng.integers(1, 25)), dimensions))
        kwargs["gallery_labels"] = torch.from_numpy(rng.choice(labels, len(kwargs["gallery"])))
        kwargs["gallery_labels"][0] = labels[0]
    elif form == "mixup":
        pairs, alpha = recallk.SimilarityMixup().draw(torch.from_numpy(labels), torch.Generator().manual_seed(1))
        kwargs |= {"mix_pairs": pairs, "mix_alpha": alpha, "mix_relatives": pick(rng, ("keep", "exclude"))}
        if kwargs["mix_relatives"] == "exclude" and np.unique(labels, return_counts=True)[1].max() < 3:
            kwargs["mix_relatives"] = "keep"  # else every positive may be a relative
    scale = float(pick(rng, (1.0, 1.0, 1e-30, 1e20, 1e30, 1e-38, 1e3)))
    dtype = pick(rng, (torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.float16))
    if dtype is torch.float16:
        scale = 1.0
    implementation = pick(rng, ("auto", "tiled", "definition"))
    name = f"loss, {form}, {len(labels)} x {dimensions}, {dtype}, times {scale:g}, {implementation}, {kwargs['ks']}"

    def act(place: Place) -> None:
        rows = torch.from_numpy(x * scale).to(dtype)
        given = {k: v.to(dtype) if k == "gallery" else v for k, v in kwargs.items()}
        if form == "module":
            check_forms(rows, labels, kwargs, rng)
        else:
            check_loss(
                rows,
                torch.from_numpy(labels),
                given,
                implementation,
                gradient=(scale < 1e25 and form != "mixup") or dtype is torch.float64,
            )

    return Case(name, act, "must not")


def mixup(rng: Rng) -> Case:
    """Return labels whose virtual items are drawn: every pair of a class up to 15 items, and only pairs of a class."""
    sizes = rng.integers(1, pick(rng, (6, 12, 16, 80)), int(rng.integers(1, 8)))
    labels = rng.permutation(np.repeat(rng.permutation(1000)[: len(sizes)] - 500, sizes))
    seed = int(rng.integers(1000))

    def act(place: Place) -> None:
        generator = torch.Generator().manual_seed(seed)
        pairs, alpha = recallk.SimilarityMixup().draw(torch.from_numpy(labels), generator)
        found = {tuple(sorted(pair)) for pair in pairs.tolist()}
        right = {(i, j) for i in range(len(labels)) for j in range(i + 1, len(labels)) if labels[i] == labels[j]}
        if len(found) != len(pairs) or not found <= right or (max(sizes) <= 15 and found != right):
            raise FaultError(f"{len(pairs)} pairs, {len(found)} different, of {len(right)}")
        if alpha.shape != (len(pairs),) or not ((alpha >= 0) & (alpha < 1)).all():
            raise FaultError(f"shares {alpha}")
        again = recallk.SimilarityMixup().draw(torch.from_numpy(labels), torch.Generator().manual_seed(seed))
        if not torch.equal(again[0], pairs) or not torch.equal(again[1], alpha):
            raise FaultError("drawn again from the same seed, it is another")

    return Case(f"mixup of classes of {sizes.tolist()}", act, "must not")


def check_forms(rows: Tensor, labels: Any, kwargs: Kwargs, rng: Rng) -> None:
    """The module, arrays, lists, other memory orders and label types all give the tensor's loss."""
    expected = loss_of(rows, torch.from_numpy(labels), **kwargs)
    module = Loss(**kwargs)
    small = np.unique(labels, return_inverse=True)[1]
    forms: dict[str, Callable[[], Tensor]] = {
        "module": lambda: module(rows, torch.from_numpy(labels)),
        "not contiguous": lambda: module(rows.T.contiguous().T, torch.from_numpy(labels)),
        "uint8 labels": lambda: module(rows, torch.from_numpy(small.astype(np.uint8))),
        "int16 labels": lambda: module(rows, torch.from_numpy((small - 3).astype(np.int16))),
    }
    if rows.dtype in (torch.float32, torch.float64):
        array = rows.numpy()
        forms |= {
            "arrays": lambda: module(array, labels),
            "array and list": lambda: module(array, labels.tolist()),
            "uint32 array": lambda: module(rows, small.astype(np.uint32)),
            "lists": lambda: module(rows.double().tolist(), labels.tolist()),
        }
    name = pick(rng, list(forms))
    found = forms[name]()
    if not abs(float(found) - float(expected)) <= 2e-3:
        raise FaultError(f"{name}: loss {float(found)} instead of {float(expected)}")


ODD_LABELS: dict[str, Any] = {
    "None": lambda labels: None,
    "too few": lambda labels: torch.from_numpy(labels[:-1]),
    "floats": lambda labels: torch.from_numpy(labels).double() + 0.5,
    "strings": lambda labels: [f"class {label}" for label in labels],
    "all different": lambda labels: torch.arange(len(labels)),
    "2-D": lambda labels: torch.from_numpy(labels)[:, None],
    "ragged": lambda labels: [[1], [2, 3]],
    "complex": lambda labels: torch.from_numpy(labels).to(torch.complex64),
    "a number": lambda labels: 3,
    "objects": lambda labels: np.array([object()] * len(labels)),
}
ODD_ROWS: dict[str, Any] = {
    "None": lambda x: None,
    "NaN": lambda x: torch.from_numpy(x).index_fill(0, torch.tensor([1]), torch.nan),
    "infinity": lambda x: torch.from_numpy(x).index_fill(0, torch.tensor([0]), torch.inf),
    "1-D": lambda x: torch.from_numpy(x)[:, 0],
    "3-D": lambda x: torch.from_numpy(x)[None],
    "no columns": lambda x: torch.from_numpy(x)[:, :0],
    "complex": lambda x: torch.from_numpy(x).to(torch.complex128),
    "bool": lambda x: torch.from_numpy(x) > 0,
    "a string": lambda x: "embeddings",
    "ragged": lambda x: [[1.0], [2.0, 3.0]],
    "strings": lambda x: np.array([["a"] * x.shape[1]] * len(x)),
    "a dictionary": lambda x: {"embeddings": x},
}
ODD_KS: tuple[Any, ...] = ((), (0,), (-1, 2), (1.5,), ("a",), None, (None,), "12a", (float("nan"),), (float("inf"),))
ODD_TEMPERATURES: tuple[Any, ...] = (0, -1.0, float("nan"), float("inf"), None, "warm", 1 + 2j, {}, object())
ODD_SETTINGS: list[Kwargs] = [
    *({"ks": ks} for ks in ODD_KS),
    *({"rank_temperature": t} for t in (*ODD_TEMPERATURES, [0.1])),
    *({"recall_temperature": t} for t in (*ODD_TEMPERATURES, (1.0, 2.0), (None,) * 5)),
    {"implementation": "quick"},
    {"implementation": None},
    {"reduction": "sum"},
    {"mix_relatives": "some"},
    {"gallery": torch.ones(3, 2)},
    {"gallery_labels": torch.ones(3)},
    {"gallery": torch.ones(3, 77), "gallery_labels": torch.zeros(3, dtype=torch.int64)},
    {"mix_pairs": torch.tensor([[0, 1]])},
    {"mix_pairs": torch.tensor([[0, 900]]), "mix_alpha": torch.tensor([0.5])},
    {"mix_pairs": torch.tensor([[0, -1]]), "mix_alpha": torch.tensor([0.5])},
    {"mix_pairs": torch.tensor([[0, 0]]), "mix_alpha": torch.tensor([1.5])},
    {"mix_pairs": torch.tensor([[0, 0]]), "mix_alpha": torch.tensor([float("nan")])},
    {"mix_pairs": torch.tensor([[0.0, 0.0]]), "mix_alpha": torch.tensor([0.5])},
    {"mix_pairs": torch.tensor([0, 0]), "mix_alpha": torch.tensor([0.5])},
]


def odd(rng: Rng) -> Case:
    """Return a problem with one thing in it that cannot be right."""
    labels = classes_of(rng)
    x = points(rng, len(labels), 4)
    what = pick(rng, ("labels", "rows", "settings", "settings", "mixup"))
    implementation = pick(rng, ("auto", "definition", "tiled"))
    rows: Any = torch.from_numpy(x)
    given: Any = torch.from_numpy(labels)
    kwargs: Kwargs = {}
    if what == "labels":
        name = pick(rng, list(ODD_LABELS))
        given = ODD_LABELS[name](labels)
    elif what == "rows":
        name = pick(rng, list(ODD_ROWS))
        rows = ODD_ROWS[name](x)
    elif what == "settings":
        kwargs = pick(rng, ODD_SETTINGS)
        name = str(kwargs)[:100]
    else:
        relatives: Any = pick(rng, ("drop", None, 3, ["keep"]))
        return Case(
            f"SimilarityMixup({relatives!r})", lambda place: recallk.SimilarityMixup(relatives=relatives), "must"
        )
    as_module = what != "settings" and rng.random() < 0.3

    def act(place: Place) -> None:
        if as_module:
            Loss(mixup=recallk.SimilarityMixup())(rows, given)
        else:
            loss_of(rows, given, **{"implementation": implementation, **kwargs})

    return Case(f"loss, {what}: {name}{', module' if as_module else ''}", act, "must")
