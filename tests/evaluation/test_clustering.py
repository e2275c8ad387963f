"""k-means and mutual information on data whose answer is known."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from recallk.core.errors import InputError
from recallk.evaluation.clustering import nmi


def clustered(classes: int, each: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 32, generator=generator)
    labels = torch.arange(classes * each) % classes
    return centres[labels] + noise * torch.randn(len(labels), 32, generator=generator), labels


def test_separate_classes_are_found() -> None:
    assert nmi(*clustered(8, 30, noise=0.01)) > 0.8  # k-means itself may merge two classes


def test_noise_lowers_it() -> None:
    values = [nmi(*clustered(20, 30, noise)) for noise in (0.1, 1.5, 100.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.9
    assert values[2] < 0.3


def test_every_item_its_own_class() -> None:
    rows = torch.eye(12)
    assert nmi(rows, torch.arange(12)) == pytest.approx(1.0)


def test_length_of_the_embeddings_does_not_matter() -> None:
    rows, labels = clustered(10, 20, noise=0.8)
    lengths = 2.0 ** torch.randint(-3, 4, (len(rows), 1))
    assert nmi(rows * lengths, labels) == pytest.approx(nmi(rows, labels), abs=1e-9)


def test_many_small_classes_are_quick_and_quiet_and_repeatable(capfd: pytest.CaptureFixture[str]) -> None:
    rows, labels = clustered(500, 3, noise=0.5)
    first = nmi(rows, labels, seed=3)
    assert first == nmi(rows.numpy(), labels.numpy(), seed=3)
    assert first != nmi(rows, labels, seed=4)
    assert capfd.readouterr() == ("", ""), "FAISS warns of small clusters unless told that they are meant"


def test_collapsed_embeddings_have_a_value() -> None:
    assert 0 <= nmi(torch.ones(40, 4), torch.arange(40) % 8) <= 1


@pytest.mark.slow
def test_torch_and_faiss_share_a_process() -> None:
    """Each brings its own OpenMP; a clash would end the process, so it runs in one of its own."""
    program = (
        "import torch; from recallk.evaluation.clustering import nmi;"
        "a = torch.randn(3000, 64, requires_grad=True); labels = torch.arange(3000) % 7;"
        "[((a @ a.T).logsumexp(1).sum().backward(), nmi(a, labels)) for _ in range(3)]; print('done')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "done"
    assert result.stderr == ""


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=r"labels have shape \(2,\), embeddings have 3 rows"):
        nmi(np.ones((3, 2)), np.zeros(2, dtype=int))
