"""Networks that are compiled, or have their channels last, train as plain ones do, and are saved as these are."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recallk import InputError, RecallAtKLoss, large_batch_backward, load
from recallk.models.build import build
from recallk.models.compiled import compiled
from recallk.models.image_embedder import ImageEmbedder
from recallk.runs.config import make_config
from recallk.runs.folder import RunFolder
from recallk.training.plan import prepare
from recallk.training.step_memory import step_memory
from recallk.training.trainer import Trainer
from tests.cli.test_cli import recallk as command
from tests.rows import kind_of, losses_of
from tests.training.test_trainer import SMALL, save_patterns

has_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler for a CPU"
)
WAYS: dict[str, dict[str, bool]] = {"compile": {"compile": True}, "channels_last": {"channels_last": True}}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=8, images=6)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Have `torch.compile` trace and differentiate as it does, and generate no code, which takes minutes."""
    compile_it, calls = torch.compile, list[Any]()

    def quick(function: Callable[..., Any], **_: Any) -> Any:
        calls.append(function)
        return compile_it(function, backend="aot_eager")

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", quick)
    yield calls
    torch._dynamo.reset()


def embedders(dropout: float, **ways: bool) -> tuple[ImageEmbedder, ImageEmbedder]:
    """Return a plain network and a faster one of the same weights."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        embedder = build(make_config(SMALL, {"data": "nowhere"}), "none")
        assert isinstance(embedder, ImageEmbedder)
        embedder.backbone.layer3 = nn.Sequential(embedder.backbone.get_submodule("layer3"), nn.Dropout(dropout))
        made.append(embedder.train())
    made[1].speed_up(compile_it=ways.get("compile", False), channels_last=ways.get("channels_last", False))
    return made[0], made[1]


def gradients(embedder: nn.Module, policy: Any) -> dict[str, Tensor]:
    torch.manual_seed(1)
    random = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=random)
    chunks, labels = [images[:7], images[7:14], images[14:]], torch.arange(20) // 4
    large_batch_backward(embedder, chunks, labels, RecallAtKLoss(rank_temperature=0.1), batch_norm=policy)
    return {name: p.grad for name, p in embedder.named_parameters() if p.grad is not None}


def assert_same_gradients(ways: dict[str, bool], policy: str) -> None:
    # with the channels last, dropout takes its numbers in another order
    dropout = 0.0 if ways.get("channels_last") else 0.3
    plain, fast = (gradients(embedder, policy) for embedder in embedders(dropout, **ways))
    assert plain.keys() == fast.keys()
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    assert largest > 0
    for name, gradient in plain.items():
        torch.testing.assert_close(fast[name], gradient, rtol=1e-4, atol=1e-4 * largest)


@pytest.mark.parametrize("policy", ["frozen", "per-chunk"])
def test_gradients_with_the_channels_last_are_those_of_the_plain_network(policy: str) -> None:
    assert_same_gradients(WAYS["channels_last"], policy)


@pytest.mark.slow
@has_compiler
def test_gradients_of_a_traced_network_are_those_of_the_plain_one(traced: list[Any]) -> None:
    assert_same_gradients(WAYS["compile"], "per-chunk")
    assert len(traced) == 1


@has_compiler
@pytest.mark.slow
@pytest.mark.parametrize("ways", [WAYS["compile"], WAYS["compile"] | WAYS["channels_last"]], ids=str)
def test_gradients_of_a_compiled_network_are_those_of_the_plain_one(ways: dict[str, bool]) -> None:
    torch._dynamo.reset()
    assert_same_gradients(ways, "per-chunk")


def test_weights_and_chunks_have_their_channels_last() -> None:
    _, fast = embedders(0.0, channels_last=True)
    convolutions = [module for module in fast.modules() if isinstance(module, nn.Conv2d)]
    seen: list[Tensor] = []
    for convolution in convolutions:
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
        convolution.register_forward_hook(lambda _, given, out: seen.extend([given[0], out]))
    fast(fast.example(2))
    assert seen
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in seen)


def test_on_a_cpu_images_have_their_channels_last() -> None:
    plain, _ = embedders(0.0)
    seen: list[Tensor] = []
    for convolution in (module for module in plain.modules() if isinstance(module, nn.Conv2d)):
        convolution.register_forward_hook(lambda _, given, out: seen.extend([given[0], out]))
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    embeddings = plain.eval()(images)
    assert seen
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in seen)
    features = plain.backbone.forward_features((images - plain.mean) / plain.std)  # type: ignore[operator]
    usual = F.normalize(plain.head(plain.norm(plain.pool(features))), dim=1)
    torch.testing.assert_close(embeddings, usual, atol=1e-5, rtol=1e-5)


@has_compiler
@pytest.mark.parametrize(
    ("way", "changes"),
    [
        pytest.param("compile", {}, marks=pytest.mark.slow),
        ("channels_last", {}),
        ("channels_last", {"image_shape": "keep"}),
        pytest.param("compile", {"image_shape": "keep"}, marks=pytest.mark.slow),
    ],
)
def test_a_run_trains_is_measured_saved_and_resumed(
    pictures: Path, tmp_path: Path, traced: list[Any], way: str, changes: dict[str, Any]
) -> None:
    def trainer_of(**ways: bool) -> Trainer:
        config = make_config(SMALL, {"data": str(pictures), "batch_norm": "frozen"}, changes, ways)
        return Trainer(prepare(config), RunFolder(tmp_path / ("fast" if ways else "plain")))

    plain, fast = trainer_of(), trainer_of(**WAYS[way])
    assert 0.5 < step_memory(fast).chunk / step_memory(plain).chunk < 2
    rows = list(plain.rows())
    for row in fast.rows():
        if row.epoch == 2:
            break
    fast = trainer_of(**WAYS[way])
    list(fast.rows(resume=True))
    assert losses_of(fast.folder.history()) == pytest.approx(losses_of(rows), abs=1e-4)
    assert kind_of(fast.folder.history()[-1]) == "result"
    assert bool(traced) == (way == "compile")
    states = [load(trainer.folder.path).state_dict() for trainer in (plain, fast)]
    assert states[0].keys() == states[1].keys() == fast.embedder.state_dict().keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-2, atol=1e-3)


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="compile: the C\\+\\+ compiler no-such-compiler is not here; install one"):
        compiled(torch.relu, torch.device("cpu"))


@has_compiler
def test_what_cannot_be_compiled_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise torch._dynamo.exc.Unsupported("no such operator")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: refuse)
    with pytest.raises(InputError, match=r"compile: this network cannot be compiled here \(.*no such operator.*leave"):
        compiled(torch.relu, torch.device("cpu"))(torch.ones(1))


@has_compiler
def test_a_dry_run_waits_for_no_compiler(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--backbone",
        "test_resnet",
        "--weights",
        "none",
        "--image-size",
        "32",
        "--compile",
        "--chunk-size",
        "auto",
    ]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert command("train", "--data", pictures, *words, "--run", tmp_path / "run", "--dry-run") == 0
    assert "a step: " in capsys.readouterr().out
    assert not torch._dynamo.utils.counters["frames"]
