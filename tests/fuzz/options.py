"""Area 2: configurations, and the command line with options that nobody would type, or that somebody did."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recallk.runs.config import make_config, to_yaml
from recallk.runs.image_config import ImageTrainConfig
from tests.fuzz.case import Case, FaultError, Place, Rng, pick
from tests.fuzz.miniature import WORDS, make_run
from tests.fuzz.options_seen import FIRST

TEXTS = (
    *("", " ", "²", "٣", "nan", "inf", "-inf", "-1", "0", "-0.0", "1e39", "1e-46", "1e400", "10000000000", "1_000"),
    *("0x10", "9" * 400, "None", "null", "~", "[]", "{}", "[1,2", "a,b", "1,,2", ",", "1,2,4", "true", "yes", "off"),
    *("\x1b[31mred", "z[/red]", "[bold]", "$\\foo$", "<b>", "~nobody/x", "../../x", "/dev/zero", "a\nb", "\u202eabc"),
    *("k", "cosine", "adamw", "test", "last", "16-mixed", "bf16-mixed", "tpu", "cpu", "gem", "token", "contrastive"),
)
"""What is typed for an option: for most of them nonsense."""

NUMBERS = (
    *("0", "1", "2", "3", "-1", "-0.0", "0.5", "1.0", "1e-46", "1e-320", "1e39", "3.5e38", "1e400", "inf", "nan", "²"),
    *("٣", "10000000000", "9223372036854775808", "9" * 400, "1_000", "0x10", "1e3", " 3 ", "+3", "1,2", "3,3", "None"),
)
"""What is typed where a number belongs."""

VALUES: tuple[Any, ...] = (
    *TEXTS,
    *(None, True, False, 0, 1, 2, 3, 7, -1, 2**31, 2**63, 2**64, 10**30, -(10**400), 0.0, 0.5, 1.0, 1.5, -0.0),
    *(float("nan"), float("inf"), -float("inf"), 1e-45, 1e-320, 3.5e38, 1e300, (), [], {}, (1,), (1, 2), [0], [1, [2]]),
    *({"name": "contrastive"}, {"name": None}, {"name": "contrastive", "x": 1}, {"x": {"y": {}}}, b"bytes", 1 + 2j),
    *(object, {1, 2}, np.float64(0.5), np.int64(3), np.array([1, 2]), Path("x"), "\udcff", [None] * 3, "x" * 10_000),
)
"""What a key is set to in a program."""

GOOD: dict[str, tuple[Any, ...]] = {
    "backbone": ("test_resnet", "test_vit", "test_efficientnet"),
    "pooling": ("average", "gem"),
    "head": ("linear", "whitening", "none"),
    "embedding_size": (1, 3, 64),
    "image_size": (32, 64),
    "image_shape": ("square", "keep"),
    "limit_classes": (2, 3),
    "test_fraction": (0.01, 0.5, 0.99),
    "augment": ("none", "standard", "strong"),
    "crop_scale": ("0.1,1", "1,1"),
    "horizontal_flip": (True, False),
    "batch_norm": ("frozen", "per-chunk"),
    "whitening": ("pca", "learned"),
    "trained_blocks": (0, 1, 100),
    "pooling_rate_factor": (1, 10),
    "pooling_weight_decay": (0, 1),
    "loss": ("recall@k", "contrastive", "cosface", "triplet"),
    "ks": ("1", "1,2,4"),
    "rank_temperature": (0.01, 1),
    "recall_temperature": ("k", "1", 0.5),
    "batch_size": (4, 6, 100000),
    "chunk_size": (2, 3, 1000),
    "host_memory_gb": (0, 0.001, 100),
    "epochs": (1, 2, 50),
    "optimizer": ("adam", "adamw"),
    "learning_rate": (1e-6, 1e-2),
    "schedule": ("milestones", "cosine", "exponential"),
    "warmup_steps": (0, 1, 1000),
    "select": ("validation", "test", "last"),
    "evaluate_every": (1, 3),
    "evaluate_ks": ("1", "1,5"),
    "checkpoint_minutes": (1e-9, 0.5, 15),
    "devices": (1, 2, 1024),
    "nodes": (1, 2),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
    "seed": (0, 5),
}
"""Values that are allowed, though perhaps not together."""

HEAVY = ("image_size", "resize", "embedding_size", "workers", "recipe", "weights", "backbone")
"""Keys whose allowed values may take much memory or many processes: nonsense for them is tried without building."""


def prepare(shared: Path) -> None:
    """Make the images and the run that commands are given."""
    make_run(shared)


def case(rng: Rng, number: int) -> Case:
    """Return case `number`: the fixed ones first."""
    if number < len(FIRST):
        return FIRST[number]
    return pick(rng, (configuration, configuration, configuration, dry_run, dry_run, evaluate, search, other))(rng)


def odd_text(rng: Rng) -> str:
    """Return what is typed for an option by mistake: half of it are numbers, or nearly."""
    return pick(rng, NUMBERS) if rng.random() < 0.5 else pick(rng, TEXTS)


def configuration(rng: Rng) -> Case:
    """Return a configuration of which one key, or none, has a strange value, and the others have good ones."""
    values: dict[str, Any] = {"data": "images"}
    for key in rng.choice(list(GOOD), int(rng.integers(0, 4)), replace=False).tolist():
        values[key] = pick(rng, GOOD[key])
    if rng.random() < 0.9:
        key = pick(rng, list(ImageTrainConfig.model_fields))
        values[key] = pick(rng, NUMBERS) if rng.random() < 0.3 else pick(rng, VALUES)
    if rng.random() < 0.05:
        values[pick(rng, ("epochz", "", "\x1b[2J", "model_fields", "__class__"))] = 1

    def act(place: Place) -> None:
        config = make_config(values)
        for key in ImageTrainConfig.model_fields:
            numbers = np.array([v for v in _flat(getattr(config, key)) if isinstance(v, int | float)], dtype=float)
            if not np.isfinite(numbers).all():
                raise FaultError(f"{key} may be {getattr(config, key)}")
        if not config.learning_rate < 3.5e38:
            raise FaultError(f"a learning rate of {config.learning_rate} is beyond float32")
        again = make_config(yaml.safe_load(to_yaml(config)))
        if again != config:
            different = [k for k in ImageTrainConfig.model_fields if getattr(again, k) != getattr(config, k)]
            raise FaultError(f"written and read again, other values of {different}")

    shown = ", ".join(f"{key}={value!r:.30}" for key, value in values.items())
    return Case(f"make_config({shown})", act)


def _flat(value: Any) -> list[Any]:
    return [x for part in value for x in _flat(part)] if isinstance(value, tuple | list) else [value]


def dry_run(rng: Rng) -> Case:
    """Return a plan with some options: allowed values for most, nonsense for one."""
    words: list[object] = []
    for key in rng.choice(list(GOOD), int(rng.integers(0, 4)), replace=False).tolist():
        words += as_typed(key, pick(rng, GOOD[key]))
    light = [
        key
        for key in ImageTrainConfig.model_fields
        if key not in (*HEAVY, "data", "horizontal_flip", "mixup", "query_in_database")
    ]
    if rng.random() < 0.6:
        words += [f"--{pick(rng, light).replace('_', '-')}", odd_text(rng)]
    data = "images" if rng.random() < 0.9 else pick(rng, TEXTS)
    train = rng.random() < 0.04 and not {"--devices", "--nodes"} & set(words)  # which start processes: `options_seen`

    def act(place: Place) -> None:
        of = place.shared / "images" if data == "images" else data
        given = ("--data", of, *WORDS, *words, *(() if train else ("--dry-run",)))
        place.train(*given) if train else place.command("train", *given, "--run", "run")

    return Case(f"train {'' if train else '--dry-run '}--data {data} {words}", act)


def as_typed(key: str, value: Any) -> list[object]:
    """Return an option as it is typed; a flag has no value."""
    option = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{option}"]
    return [f"--{option}", value]


def evaluate(rng: Rng) -> Case:
    """Return an evaluation of the finished run, with one option that is strange or none."""
    odd = pick(rng, ("ks", "ks", "data", "protocol", "nothing"))
    words: list[object] = ["--ks", odd_text(rng) if odd == "ks" else pick(rng, ("1", "1,2,4", "2, 3", "100"))]
    words += ["--protocol", pick(rng, TEXTS) if odd == "protocol" else pick(rng, ("benchmark", "re-identification"))]
    data = pick(rng, ("run", "run/config.yaml", *TEXTS)) if odd == "data" else pick(rng, (None, "images"))

    def act(place: Place) -> None:
        run = place.shared / "run"
        of = data if data is None or data in TEXTS else place.shared / data
        printed = place.command("evaluate", run, *words, *(() if of is None else ("--data", of)))
        if "recall@" not in printed and "precision@" not in printed:
            raise FaultError(f"no recall is told: {printed[-300:]!r}")

    return Case(f"evaluate {words} --data {data}", act)


def search(rng: Rng) -> Case:
    """Return a search with the finished run, with one thing that is strange or none."""
    odd = pick(rng, ("queries", "gallery", "k", "picture", "nothing"))
    queries = ["images/class0/0.png", "images/class1/1.png"][: int(rng.integers(1, 3))]
    if odd == "queries":
        queries = [*queries[: int(rng.integers(0, 2))], pick(rng, ("images", "run/config.yaml", *TEXTS))]
    gallery = pick(rng, ("run", *TEXTS)) if odd == "gallery" else pick(rng, ("images", "images/class1"))
    k = odd_text(rng) if odd == "k" else pick(rng, ("1", "3", "1000"))
    names = ("nowhere/found.png", "found.jpg", ".png", ".", "x" * 300 + ".png", "../before.txt", *TEXTS)
    picture = pick(rng, names) if odd == "picture" else pick(rng, ("found.png", "FOUND.PNG"))

    def act(place: Place) -> None:
        def path(name: str) -> object:
            return name if name in TEXTS else place.shared / name

        words = ["search", place.shared / "run", *map(path, queries), "--gallery", path(gallery), "--k", k]
        place.command(
            *words, "--picture", picture, writable=[place.work / picture] if picture.lower().endswith(".png") else []
        )

    return Case(f"search {queries} --gallery {gallery} --k {k} --picture {picture:.20}", act)


def other(rng: Rng) -> Case:
    """Return one of the commands that train nothing."""
    text = odd_text(rng)
    words = pick(
        rng,
        (
            ("recipes", "show", text),
            ("recipes", text),
            ("data", "check", text, "--data", "."),
            ("data", "check", pick(rng, ("cub", "cars", "sop", "inaturalist", "vehicleid", "inshop")), "--data", text),
            ("data", "list"),
            ("compare", "--from", text, "--run", "comparison"),
            ("compare", "glyphs", "--losses", text, "--data", "nowhere"),
            (
                "compare",
                "glyphs",
                "--sweep",
                f"{pick(rng, list(ImageTrainConfig.model_fields))}={text}",
                "--data",
                "nowhere",
            ),
            ("compare", "glyphs", "--ablation", text, "--data", "nowhere"),
            ("compare", "glyphs", "--losses", "contrastive", "--data", "nowhere", "--rates", text),
            ("compare", "glyphs", "--losses", "contrastive", "--data", "nowhere", "--budget", text),
            ("compare", "glyphs", "--losses", "contrastive", "--data", "nowhere", "--seeds", text),
            ("train", text, "--data", "nowhere", "--run", "run"),
            ("train", "--resume", text),
            ("evaluate", text),
            (text,),
        ),
    )
    return Case(" ".join(words), lambda place: place.command(*words, told=True))
