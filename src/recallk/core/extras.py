"""Which packages come with which extra, and what is said where one of them is not installed."""

from importlib.util import find_spec
from typing import Literal

from recallk.core.errors import MissingExtraError

Extra = Literal[
    "train", "report", "compare", "serve", "push", "text", "icons", "tensorboard", "wandb", "pytorch-metric-learning"
]

_TRAIN = {
    "timm": "timm",
    "torchvision": "torchvision",
    "lightning_fabric": "lightning-fabric",
    "PIL": "pillow",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "faiss": "faiss-cpu",
    "imagehash": "imagehash",
    "matplotlib": "matplotlib",
    "fontTools": "fonttools",
    "sqlglot": "sqlglot",
}
_REPORT = _TRAIN | {"jinja2": "jinja2"}
_COMPARE = _REPORT | {"pytorch_metric_learning": "pytorch-metric-learning"}

EXTRAS: dict[Extra, dict[str, str]] = {
    "train": _TRAIN,
    "report": _REPORT,
    "compare": _COMPARE,
    "serve": _REPORT | {"starlette": "starlette", "uvicorn": "uvicorn", "python_multipart": "python-multipart"},
    "push": _TRAIN | {"qdrant_client": "qdrant-client", "lance": "pylance"},
    "text": _TRAIN | {"sentence_transformers": "sentence-transformers"},
    "icons": {"resvg_py": "resvg-py"},
    "tensorboard": {"tensorboard": "tensorboard"},
    "wandb": {"wandb": "wandb"},
    "pytorch-metric-learning": {"pytorch_metric_learning": "pytorch-metric-learning"},
}
"""The modules that an extra brings, each with the name of its package; pyproject.toml says the same with versions."""


def require(extra: Extra, what: str) -> None:
    """Raise MissingExtraError where `what`, a command, a name or a choice, lacks a package of an extra.

    Nothing is imported: asking takes a millisecond.
    """
    for module, package in EXTRAS[extra].items():
        if find_spec(module) is None:
            raise MissingExtraError(
                f"{what} needs {package}, which is not installed: pip install 'recallk[{extra}]'", name=module
            )
