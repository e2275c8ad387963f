"""What the base install needs: the loss, the metrics and the search import PyTorch and NumPy alone."""

import subprocess
import sys

import pytest

BEYOND_THE_BASE = ["lightning_fabric", "timm", "faiss", "torchvision", "PIL", "pydantic", "scipy", "sklearn"]


@pytest.mark.parametrize(
    "module",
    [
        "recallk.core.relevance",
        "recallk.loss.recall_at_k",
        "recallk.loss.reached",
        "recallk.retrieval.exact",
        "recallk.evaluation",
        "recallk.evaluation.metrics",
    ],
)
def test_nothing_beyond_the_base_is_imported(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {BEYOND_THE_BASE} if name in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == ""


def test_what_evaluation_offers_is_there() -> None:
    program = (
        "import sys; from recallk.evaluation import average_precision_at_k, gap, nearest, nmi, retrieval_metrics;"
        "from recallk.evaluation import revisited_metrics; print('faiss' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "False"
