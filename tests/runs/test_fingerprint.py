"""A fingerprint is another where descriptors would be."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recallk.data.item import ArchiveMember, Drawing, Item, Region
from recallk.models.whitening import Whitening
from recallk.runs.fingerprint import fingerprint
from tests.embedders import TextEmbedder


def test_the_fingerprint_is_of_all_that_descriptors_depend_on(tmp_path: Path) -> None:
    embedder, file = TextEmbedder(), tmp_path / "a.png"
    file.write_text("1")
    os.utime(file, ns=(1, 1))
    items: list[Item] = [file, Region(file, (0, 0, 5, 5)), np.zeros((2, 2), np.uint8), "text"]
    first = fingerprint(embedder, items, (1.0,))
    assert fingerprint(embedder, list(items), (1.0,)) == first
    others = [
        fingerprint(embedder, items, (1.0, 0.5)),
        fingerprint(embedder, items[::-1], (1.0,)),
        fingerprint(embedder, items[:3], (1.0,)),
        fingerprint(embedder, [file, Region(file, (0, 0, 5, 6)), *items[2:]], (1.0,)),
        fingerprint(embedder, [*items[:2], np.ones((2, 2), np.uint8), "text"], (1.0,)),
        fingerprint(embedder, [*items[:2], np.zeros((4, 1), np.uint8), "text"], (1.0,)),
    ]
    os.utime(file, ns=(2, 2))
    others.append(fingerprint(embedder, items, (1.0,)))
    file.write_text("12")
    os.utime(file, ns=(1, 1))
    others.append(fingerprint(embedder, items, (1.0,)))
    archive = [ArchiveMember(file, "a.png", 512, 100)]
    members = [
        fingerprint(embedder, archive, (1.0,)),
        fingerprint(embedder, [*archive, *archive], (1.0,)),
        fingerprint(embedder, [ArchiveMember(file, "a.png", 1024, 100)], (1.0,)),
    ]
    file.unlink()
    members.append(fingerprint(embedder, archive, (1.0,)))
    others.append(fingerprint(embedder, items, (1.0,)))
    drawing = Drawing("a:b", "<path/>", (0, 0, 24, 24), 64)
    changes: tuple[dict[str, Any], ...] = ({}, {"body": "<g/>"}, {"box": (0, 0, 24, 25)}, {"side": 65})
    others += [fingerprint(embedder, [replace(drawing, **change)], (1.0,)) for change in changes]
    assert fingerprint(embedder, [replace(drawing, name="a:c")], (1.0,)) == others[-4]  # which is not drawn
    before = fingerprint(embedder, ["text"], (1.0,))
    with torch.no_grad():
        embedder.head.bias[3] += 1e-6
    others += [before, fingerprint(embedder, ["text"], (1.0,))]
    embedder.whitening = Whitening(torch.zeros(8, dtype=torch.float64), torch.eye(8, dtype=torch.float64))
    others.append(fingerprint(embedder, ["text"], (1.0,)))
    embedder.whitening = replace(embedder.whitening, mean=torch.ones(8, dtype=torch.float64))
    others.append(fingerprint(embedder, ["text"], (1.0,)))
    assert len({first, *others, *members}) == 1 + len(others) + len(members)
