"""What the base install needs: the loss, the metrics and the search import PyTorch and NumPy alone."""

import subprocess
import sys

BEYOND_THE_BASE = ["lightning_fabric", "timm", "faiss", "torchvision", "PIL", "pydantic", "scipy", "sklearn"]


IMPORTS = [
    "import recallk.core.relevance",
    "import recallk.loss.recall_at_k",
    "import recallk.loss.reached",
    "import recallk.retrieval.exact",
    "import recallk.evaluation",
    "import recallk.evaluation.metrics",
    "from recallk.evaluation import average_precision_at_k, gap, nearest, nmi, retrieval_metrics, revisited_metrics",
]
PROGRAM = f"""
import sys
for line in {IMPORTS}:
    for name in [name for name in sys.modules if name.partition(".")[0] == "recallk"]:
        del sys.modules[name]  # each as if it were the first
    exec(line)
    print(line, *(name for name in {BEYOND_THE_BASE} if name in sys.modules), sep="|")
"""


def test_nothing_beyond_the_base_is_imported() -> None:
    """By each of them; in one process, for PyTorch takes seconds to import."""
    assert subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).splitlines() == IMPORTS
