"""What a person does with the base install alone, where no extra is: `make wheel` and `make test-oldest` run this.

Not a test of pytest's, which may not be there.
"""

import subprocess
import sys
import warnings
from importlib.util import find_spec

from recallk.core.extras import EXTRAS

MODULES = {module for brought in EXTRAS.values() for module in brought}
BROUGHT_BY_OTHERS = {"jinja2", "pydantic"}  # of PyTorch, and of typer since 0.29


def run(*words: str, expected: int = 0) -> str:
    """Run a command as typed; return what it printed."""
    print("$ recallk", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "recallk", *words], capture_output=True, text=True)
    assert done.returncode == expected, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def the_library() -> None:
    """Use the names of the base install; none of them imports a package of an extra."""
    import torch

    before = MODULES & sys.modules.keys()
    import recallk

    labels = torch.arange(8) // 2
    model = torch.nn.Linear(4, 4)
    with warnings.catch_warnings(action="error"):
        loss_fn = recallk.RecallAtKLoss(ks=(1, 2), mixup=recallk.SimilarityMixup())
        assert loss_fn(torch.randn(8, 4, requires_grad=True), labels).isfinite()
        recallk.large_batch_backward(model, torch.randn(8, 4), labels, loss_fn, chunk_size=3)
        metrics = recallk.evaluation.retrieval_metrics(torch.eye(8), labels, ks=(1,))
        assert metrics.keys() >= {"recall@1", "map@r"}
        assert recallk.evaluation.gap([1], [0.5], [1]) == 1
        from recallk.retrieval.exact import nearest

        assert nearest(torch.eye(3), torch.eye(3), 1).indexes.flatten().tolist() == [0, 1, 2]
    assert model.weight.grad is not None
    imported = MODULES & sys.modules.keys() - before
    assert not imported, f"imported with the base install alone: {', '.join(sorted(imported))}"


def what_is_missing() -> None:
    """Ask for a name that needs an extra; the error says which."""
    import recallk

    message = ""
    try:
        _ = recallk.load
    except recallk.MissingExtraError as error:
        message = str(error)
    assert message == "recallk.load needs timm, which is not installed: pip install 'recallk[train]'", message


def the_command() -> None:
    """Ask for help, and for each command; each says what is missing."""
    from recallk.cli.commands import COMMANDS

    assert run("--version").startswith("recallk ")
    listed = run("--help")
    for name, line in COMMANDS.items():
        assert name in listed
        missing = f"recallk: recallk {name} needs timm, which is not installed: pip install 'recallk[{line.extra}]'\n"
        for words in ([name], [name, "--help"]):
            assert run(*words, expected=2) == missing
    assert "Did you mean 'train'" in run("trian", expected=2)


if __name__ == "__main__":
    there = {module for module in MODULES - BROUGHT_BY_OTHERS if find_spec(module) is not None}
    assert not there, f"no base install: {', '.join(sorted(there))}"
    the_library()
    what_is_missing()
    the_command()
