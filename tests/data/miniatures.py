"""A miniature of each benchmark in its official layout: real images, lists and .mat files, made in seconds.

Hard to tell apart, so that no search finds everything: classes share colours, and the images of one differ.
"""

import colorsys
import hashlib
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

CLASSES = 6
"""Classes a side."""

IMAGES = 5
"""Images a class."""

COLOURS = 3
"""Fewer than classes."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "cub": ("above", "top"),
    "cars": ("car_ims", "top", "devkit", "beside", "car_devkit", "twice"),
    "sop": ("above", "top"),
    "inaturalist": ("splits", "beside", "images below", "top"),
    "vehicleid": ("above", "top"),
    "inshop": ("Eval, Img/img", "Eval, img", "Eval, Img", "beside", "top"),
    "gldv2-clean": ("train", "beside", "inside", "metadata", "top"),
    "sfm120k": ("home", "top", "train"),
    "icons": ("above", "node_modules", "top"),
}
"""The layouts that are met, the usual one first."""


def make(name: str, root: Path, variant: str = "") -> Path:
    """Make the miniature of a benchmark below `root`; return the folder to give as --data."""
    root.mkdir(parents=True, exist_ok=True)
    return _MAKERS[name](root, variant or VARIANTS[name][0])


def jpeg(path: Path, number: int = 0) -> None:
    """Draw a noisy picture in the colour that a class shares with others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([number, *path.name.encode()])
    colour = np.array(colorsys.hsv_to_rgb(number % COLOURS / COLOURS, 0.5, 0.7)) * 255
    light = random.normal(0, 50, 3)  # of the whole image: noise of the pixels alone would average out
    grain = random.normal(0, 30, (10, 10, 3)).repeat(4, 0).repeat(5, 1)
    pixels = (colour + light + grain).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", quality=90)


def write(path: Path, lines: Sequence[str]) -> None:
    """Write a list, with a line end after each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), newline="")


def annotations(path: Path, field: str, rows: Sequence[tuple[object, object]]) -> None:
    """Write a .mat file as Stanford's are: an array of structures (file name, box, class)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = [(field, object), ("bbox_x1", object), ("bbox_y1", object), ("class", object)]
    array = np.empty((1, len(rows)), dtype=kinds)
    for number, (name, label) in enumerate(rows):
        array[0, number] = (name, np.uint16(1), np.uint16(1), label)
    savemat(path, {"annotations": array})


def _cub(root: Path, variant: str) -> Path:
    home = root / "CUB_200_2011"
    lines = list[str]()
    for number in (*range(1, 1 + CLASSES), *range(101, 101 + CLASSES)):
        for image in range(IMAGES):
            path = f"{number:03}.Bird_{number}/Bird_{number}_{image:04}.jpg"
            jpeg(home / "images" / path, number)
            lines.append(f"{len(lines) + 1} {path}")
    write(home / "images.txt", lines)
    return home if variant == "top" else root


def _cars(root: Path, variant: str) -> Path:
    home = root / "stanford_cars" if variant == "top" else root
    numbers = [number for number in (*range(1, 1 + CLASSES), *range(99, 99 + CLASSES)) for _ in range(IMAGES)]
    if variant in ("car_ims", "top"):
        rows = [(f"car_ims/{place:06}.jpg", np.uint8(number)) for place, number in enumerate(numbers, 1)]
        for name, number in rows:
            jpeg(home / name, int(number))
        annotations(home / "cars_annos.mat", "relative_im_path", rows)
        return root
    devkit = home / {"beside": "", "car_devkit": "car_devkit/devkit"}.get(variant, "devkit")
    # the devkit's two parts have all classes each: every other image
    for part, file in (("cars_train", "cars_train_annos.mat"), ("cars_test", "cars_test_annos_withlabels.mat")):
        folder = home / part / part if variant == "twice" else home / part
        mine = numbers[part == "cars_test" :: 2]
        rows = [(f"{place:05}.jpg", np.uint8(number)) for place, number in enumerate(mine, 1)]
        for name, number in rows:
            jpeg(folder / name, int(number))
        annotations(devkit / file, "fname", rows)
    return home


def _sop(root: Path, variant: str) -> Path:
    home = root / "Stanford_Online_Products"
    image_id = 0
    for name, first in (("Ebay_train.txt", 1), ("Ebay_test.txt", 11_319)):
        lines = ["image_id class_id super_class_id path"]
        for number in range(first, first + CLASSES):
            for image in range(IMAGES):
                image_id += 1
                kind, folder = ((1, "bicycle_final"), (2, "chair_final"))[number % 2]
                path = f"{folder}/{110_000_000_000 + number}_{image}.JPG"
                jpeg(home / path, number)
                lines.append(f"{image_id} {number} {kind} {path}")
        write(home / name, lines)
    return home if variant == "top" else root


def _inaturalist(root: Path, variant: str) -> Path:
    home = root / "inaturalist" if variant == "top" else root
    images = home / "inaturalist" if variant == "images below" else home
    lists = home if variant == "beside" else home / "Inat_dataset_splits"
    for split, first in (("train", 7_470), ("test", 20)):
        lines = []
        for number in range(first, first + CLASSES):
            for image in range(IMAGES):
                path = f"train_val2018/{('Plantae', 'Aves')[number % 2]}/{number}/{number:08x}{image:024x}.jpg"
                jpeg(images / path, number)
                lines.append(path)
        write(lists / f"Inaturalist_{split}_set1.txt", lines)
    return root


def _vehicleid(root: Path, variant: str) -> Path:
    home = root / "VehicleID_V1.0"
    lists = home / "train_test_split"

    def lines(numbers: range) -> list[str]:
        return [f"{10 * number + image:07} {number}" for number in numbers for image in range(IMAGES)]

    for name, numbers in (
        ("train_list", range(1, 1 + CLASSES)),
        ("test_list_800", range(200, 200 + CLASSES)),
        ("test_list_1600", range(200, 202 + CLASSES)),
        ("test_list_2400", range(200, 204 + CLASSES)),
    ):
        write(lists / f"{name}.txt", lines(numbers))
        for line in lines(numbers):
            image, number = line.split()
            jpeg(home / "image" / f"{image}.jpg", int(number))
    return home if variant == "top" else root


def _inshop(root: Path, variant: str) -> Path:
    home = root / "In-shop Clothes Retrieval Benchmark" if variant == "top" else root
    folder = {"Eval, img": "img", "Eval, Img": "Img", "beside": "img"}.get(variant, "Img/img")
    lines = []
    for number in range(1, 1 + 2 * CLASSES):
        for image in range(IMAGES):
            # two views of a tested item are queries, the others are in the gallery
            split = "train" if number <= CLASSES else "query" if image < 2 else "gallery"
            path = f"WOMEN/Dresses/id_{number:08}/02_{image}_front.jpg"
            jpeg(home / folder / path, number)
            lines.append(f"img/{path}    id_{number:08}    {split}")
    head = [str(len(lines)), "image_name item_id evaluation_status"]
    write(home / ("" if variant == "beside" else "Eval") / "list_eval_partition.txt", head + lines)
    return root


def _gldv2_clean(root: Path, variant: str) -> Path:
    home = root / "gldv2" if variant == "top" else root
    images = home if variant == "beside" else home / "train"
    lines = ["landmark_id,images"]
    for number in range(1, 1 + 2 * CLASSES):  # without test classes: a run splits them
        names = [f"{image:x}{number:02x}{number * image:013x}" for image in range(IMAGES)]
        for name in names:
            jpeg(images / name[0] / name[1] / name[2] / f"{name}.jpg", number)
        lines.append(f"{number},{' '.join(names)}")
    folder = {"inside": "train", "metadata": "metadata"}.get(variant, "")
    write(home / folder / "train_clean.csv", lines)
    return root


def sfm_tables() -> dict[str, dict[str, list[object]]]:
    """What the pickle of Retrieval-SfM-120k holds: the same numbers of clusters in both parts, of other sights."""
    tables: dict[str, dict[str, list[object]]] = {}
    for part, first in (("train", 1), ("val", 101)):
        clusters = [number for number in range(CLASSES) for _ in range(IMAGES)]
        cids = [f"{10 * (first + cluster) + place % IMAGES:032x}" for place, cluster in enumerate(clusters)]
        pairs = [place for place in range(len(cids)) if place % IMAGES]
        positives = [place - 1 for place in pairs]
        tables[part] = {"cids": [*cids], "cluster": [*clusters], "qidxs": [*pairs], "pidxs": [*positives]}
    return tables


def _sfm120k(root: Path, variant: str) -> Path:
    home = root / {"top": "retrieval-SfM-120k", "train": "train/retrieval-SfM-120k"}.get(variant, "")
    home.mkdir(parents=True, exist_ok=True)
    tables = sfm_tables()
    for number, table in enumerate(tables.values()):
        for cid, cluster in zip(table["cids"], table["cluster"], strict=True):
            assert isinstance(cid, str)
            assert isinstance(cluster, int)
            jpeg(home / "ims" / cid[-2:] / cid[-4:-2] / cid[-6:-4] / cid, 7 * number + cluster)
    (home / "retrieval-SfM-120k.pkl").write_bytes(pickle.dumps(tables, 2))
    return root


def icon_package(home: Path, sets: Mapping[str, Mapping[str, Any]], **told: Mapping[str, Any]) -> None:
    """Write a package of icon sets: `sets` are their files by prefix, `told` what the list says of some besides."""
    listed = {
        prefix: {
            "name": prefix.title(),
            "author": {"name": f"Author of {prefix}"},
            "license": {"title": "MIT", "spdx": "MIT"},
            "palette": False,
            **told.get(prefix, {}),
        }
        for prefix in sets
    }
    (home / "json").mkdir(parents=True, exist_ok=True)
    (home / "collections.json").write_text(json.dumps(listed, indent="\t"))
    for prefix, held in sets.items():
        (home / "json" / f"{prefix}.json").write_text(json.dumps({"prefix": prefix, **held}, indent="\t"))


def _icons(root: Path, variant: str) -> Path:
    home = root / "node_modules/@iconify/json"
    sides: dict[bool, list[str]] = {True: [], False: []}  # by the first bit of the name's hash
    for number in range(100):
        sides[hashlib.sha256(f"thing-{number}".encode()).digest()[0] < 128].append(f"thing-{number}")
    sets: dict[str, dict[str, Any]] = {}
    for image in range(IMAGES):
        icons = sets.setdefault(f"set{image}", {"width": 24, "height": 24, "icons": {}})["icons"]
        for names in sides.values():
            for number, name in enumerate(names[:CLASSES]):
                random = np.random.default_rng([image, *name.encode()])
                corners = np.random.default_rng(number % COLOURS).uniform(2, 22, (6, 2)) + random.normal(0, 3, (6, 2))
                points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
                icons[name] = {"body": f'<polygon fill="currentColor" points="{points}"/>'}
    icon_package(home, sets)
    return {"above": root, "node_modules": root / "node_modules", "top": home}[variant]


_MAKERS: dict[str, Callable[[Path, str], Path]] = {
    "cub": _cub,
    "cars": _cars,
    "sop": _sop,
    "inaturalist": _inaturalist,
    "vehicleid": _vehicleid,
    "inshop": _inshop,
    "gldv2-clean": _gldv2_clean,
    "sfm120k": _sfm120k,
    "icons": _icons,
}
