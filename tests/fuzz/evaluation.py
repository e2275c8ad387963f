"""Metrics, search, clustering and re-identification, against loops in float64."""

from typing import Any

import faiss
import numpy as np
import torch

from recallk.evaluation import clustering, protocols
from recallk.evaluation import metrics as evaluation_metrics
from recallk.retrieval import exact as search
from tests.fuzz import reference
from tests.fuzz.case import Case, FaultError, Place, Rng, pick
from tests.fuzz.losses import ODD_LABELS, ODD_ROWS, classes_of, points

# called with what their types forbid
retrieval_metrics: Any = evaluation_metrics.retrieval_metrics
nmi: Any = clustering.nmi
re_identification: Any = protocols.re_identification
nearest: Any = search.nearest


def check_metrics(rows: Any, labels: Any, gallery: Any, gallery_labels: Any, ks: tuple[int, ...], form: str) -> None:
    lowest, highest = reference.metrics(rows, labels, gallery, gallery_labels, ks)
    apart = (None, None) if gallery is None else (as_form(gallery, form), as_form(gallery_labels, form))
    found = retrieval_metrics(as_form(rows, form), as_form(labels, form), *apart, ks=ks)
    if found.keys() != lowest.keys():
        raise FaultError(f"metrics {sorted(found)} instead of {sorted(lowest)}")
    for name, value in found.items():
        if not lowest[name] - 1e-9 <= value <= highest[name] + 1e-9:
            raise FaultError(f"{name} is {value}, between {lowest[name]} and {highest[name]} is right")


def as_form(values: Any, form: str) -> Any:
    """Return an array as a tensor, an array or lists."""
    return values.tolist() if form == "lists" else torch.from_numpy(values) if form == "tensors" else values


def scaled(scale: float, form: str = "tensors") -> Case:
    def act(place: Place) -> None:
        rng = np.random.default_rng(0)
        check_metrics(rng.standard_normal((20, 4)) * scale, np.arange(20) // 4, None, None, (1, 3), form)

    return Case(f"metrics of rows times {scale:g}, {form}", act, "must not")


def plain(rng: Rng) -> Case:
    """Return a valid problem of one of the functions."""
    labels, dimensions = classes_of(rng, 60), int(rng.integers(1, 10))
    x = points(rng, len(labels), dimensions)
    what = pick(rng, ("metrics", "metrics", "metrics with a gallery", "nearest", "nmi", "re-identification"))
    form = pick(rng, ("tensors", "arrays", "lists"))
    ks = tuple(int(k) for k in rng.integers(1, 100, int(rng.integers(1, 4))))
    scale = float(pick(rng, (1.0, 1e-30, 1e30, 1e-200)))

    def act(place: Place) -> None:
        if what == "metrics":
            check_metrics(x * scale, labels, None, None, ks, form)
        elif what == "metrics with a gallery":
            items = points(rng, int(rng.integers(1, 30)), dimensions)
            check_metrics(x, labels, items, np.resize(labels, len(items)), ks, form)
        elif what == "nearest":
            check_nearest(rng, x.astype(np.float32), int(rng.integers(1, 80)))
        elif what == "nmi":
            check_nmi(x, labels, int(rng.integers(5)), form)
        else:
            check_re_identification(x, labels, ks)

    return Case(f"{what}, {len(labels)} x {dimensions}, {form}, ks {ks}, times {scale:g}", act, "must not")


def check_nearest(rng: Rng, rows: Any, k: int) -> None:
    """Every neighbour is as near as the reference's of the same rank, none comes twice, equal ones by index."""
    gallery = rows[rng.permutation(len(rows))[: max(2, len(rows) // 2)]]
    exclude = torch.from_numpy(rng.integers(-1, len(gallery), len(rows))) if rng.random() < 0.5 else None
    found = nearest(torch.from_numpy(rows), torch.from_numpy(gallery), k, exclude=exclude)
    size = min(k, len(gallery) - (exclude is not None))
    if found.indexes.shape != (len(rows), size):
        raise FaultError(f"{tuple(found.indexes.shape)} neighbours instead of {(len(rows), size)}")
    for q, row in enumerate(rows.astype(np.float64)):
        similar = gallery.astype(np.float64) @ row
        left_out = -1 if exclude is None else int(exclude[q])
        order = sorted((z for z in range(len(gallery)) if z != left_out), key=lambda z: -similar[z])[:size]
        mine, tolerance = found.indexes[q].tolist(), 1e-5 * max(1.0, np.abs(similar).max())
        if len(set(mine)) < len(mine) or left_out in mine:
            raise FaultError(f"query {q}: neighbours {mine}, {left_out} excluded")
        if np.abs(similar[mine] - similar[order]).max(initial=0) > tolerance:
            raise FaultError(f"query {q}: neighbours {mine} instead of {order}")
        if np.abs(found.similarities[q].numpy() - similar[mine]).max(initial=0) > tolerance:
            raise FaultError(f"query {q}: similarities {found.similarities[q]} instead of {similar[mine]}")


def check_nmi(x: Any, labels: Any, seed: int, form: str) -> None:
    """Cluster as it is documented, and compare by the definition."""
    rows = reference.unit(x).astype(np.float32)
    options = {"niter": 20, "seed": seed, "min_points_per_centroid": 1, "max_points_per_centroid": len(rows)}
    means = faiss.Kmeans(rows.shape[1], len(np.unique(labels)), **options)
    means.train(rows)
    expected = reference.mutual_information(labels, means.index.search(rows, 1)[1][:, 0])
    found = nmi(as_form(x, form), as_form(labels, form), seed)
    if not -1e-9 <= found <= 1 + 1e-9:
        raise FaultError(f"nmi {found}")
    if not abs(found - expected) <= 0.1:  # a row between two means falls to either, by its last digit
        raise FaultError(f"nmi {found} instead of {expected}")


def check_re_identification(x: Any, labels: Any, ks: tuple[int, ...]) -> None:
    """Recall rises with k and is a share; where classes are single points far apart, it is 1."""
    found = re_identification(torch.from_numpy(x), labels, ks)
    means = [found[f"recall@{k}"][0] for k in sorted(ks)]
    if means != sorted(means) or not all(0 <= m <= 1 and 0 <= s <= 0.5 + 1e-9 for m, s in found.values()):
        raise FaultError(f"{found}")
    number = np.unique(labels, return_inverse=True)[1]
    perfect = re_identification(torch.eye(len(labels))[torch.from_numpy(number)], labels, ks)
    if any(value != (1.0, 0.0) for value in perfect.values()):
        raise FaultError(f"classes of equal items: {perfect}")


def odd(rng: Rng) -> Case:
    """Return a call with one thing in it that cannot be right."""
    labels = classes_of(rng)
    x = points(rng, len(labels), 4)
    function: Any = pick(rng, (retrieval_metrics, nmi))
    wrong = pick(rng, ("labels", "rows", "ks", "search", "re-identification"))
    rows: Any = torch.from_numpy(x)
    given: Any = torch.from_numpy(labels)
    kwargs: dict[str, Any] = {}
    if wrong == "labels":
        name = pick(rng, list(ODD_LABELS))
        given = ODD_LABELS[name](labels)
        if name == "all different":
            function = retrieval_metrics  # to cluster them is no mistake
    elif wrong == "rows":
        name = pick(rng, list(ODD_ROWS))
        rows = ODD_ROWS[name](x)
    elif wrong == "ks":
        ks: Any = pick(rng, ((), (0,), (1.5,), ("a",), None, (True,), "12", (None,), {}))
        function, name, kwargs = retrieval_metrics, str(ks), {"ks": ks}
    elif wrong == "search":
        name, arguments = pick(rng, ODD_SEARCHES)
        return Case(f"nearest, {name}", lambda place: nearest(*arguments[:3], exclude=arguments[3]), "must")
    else:
        single = np.arange(len(labels))
        return Case("re-identification of single images", lambda place: re_identification(rows, single, (1,)), "must")
    return Case(f"{function.__name__}, {wrong}: {name}", lambda place: function(rows, given, **kwargs), "must")


_ROWS = torch.ones(3, 2)
ODD_SEARCHES: list[tuple[str, tuple[Any, Any, Any, Any]]] = [
    ("k 0", (_ROWS, _ROWS, 0, None)),
    ("k a string", (_ROWS, _ROWS, "3", None)),
    ("k None", (_ROWS, _ROWS, None, None)),
    ("NaN", (_ROWS * torch.nan, _ROWS, 1, None)),
    ("NaN in the gallery", (_ROWS, _ROWS * torch.nan, 1, None)),
    ("other dimensions", (_ROWS, torch.ones(3, 3), 1, None)),
    ("1-D", (torch.ones(3), _ROWS, 1, None)),
    ("integers", (torch.ones(3, 2, dtype=torch.int64), _ROWS, 1, None)),
    ("an empty gallery", (_ROWS, torch.ones(0, 2), 1, None)),
    ("None", (None, _ROWS, 1, None)),
    ("exclude too far", (_ROWS, _ROWS, 1, torch.tensor([0, 1, 3]))),
    ("exclude too short", (_ROWS, _ROWS, 1, torch.tensor([0]))),
]

FIRST = [
    scaled(1e30),
    scaled(1e-30),
    scaled(1.0, "lists"),
    scaled(1.0, "arrays"),
    Case("metrics of None", lambda place: retrieval_metrics(None, None), "must"),
    Case(
        "metrics of NaN", lambda place: retrieval_metrics(_ROWS * torch.nan, torch.zeros(3, dtype=torch.int64)), "must"
    ),
]
