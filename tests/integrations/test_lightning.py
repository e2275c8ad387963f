"""PyTorch Lightning: steps in two passes are those of one big batch, and batches are other ones in each epoch."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from recallk import InputError
from recallk.integrations.lightning import LargeBatchSteps
from tests.integrations.lightning_program import LABELS, OnePass, TwoPasses, batches, trainer

pytestmark = pytest.mark.xdist_group("integrations")
ROOT = Path(__file__).parents[2]


def fitted(module: Any, tmp_path: Path, **settings: Any) -> Tensor:
    """Return the weights after two epochs."""
    trainer(tmp_path, **settings).fit(module, batches(settings.get("precision") == "64-true"))
    weights: Tensor = module.network.weight.detach()
    return weights


@pytest.mark.parametrize("clip_norm", [None, 0.01])
@pytest.mark.parametrize(("interval", "frequency"), [("step", 1), ("step", 2), ("epoch", 1), ("epoch", 2)])
def test_steps_are_those_of_one_big_batch(
    clip_norm: float | None, interval: str, frequency: int, tmp_path: Path
) -> None:
    """With Lightning's own optimisation as the measure: clipping, momentum and scheduler."""
    settings: dict[str, Any] = {"interval": interval, "frequency": frequency, "clip_norm": clip_norm}
    two = fitted(TwoPasses(**settings), tmp_path, precision="64-true", max_epochs=3)
    one = fitted(OnePass(**settings), tmp_path, precision="64-true", max_epochs=3, gradient_clip_val=clip_norm)
    torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-12)
    without = fitted(TwoPasses(interval=interval, frequency=10**6), tmp_path, precision="64-true", max_epochs=3)
    assert not torch.allclose(two, without, rtol=1e-3)  # so that clipping and scheduler are seen to do something


def test_mixed_precision_is_that_of_one_big_batch(tmp_path: Path) -> None:
    """As far as bfloat16 goes, whose numbers have eight bits: chunks are rounded before they are added up."""
    start = TwoPasses().network.weight
    two, one, exact = (
        fitted(kind(), tmp_path, precision=precision, max_steps=1).sub(start)
        for kind, precision in ((TwoPasses, "bf16-mixed"), (OnePass, "bf16-mixed"), (OnePass, "32-true"))
    )
    assert float((two - one).norm() / one.norm()) < 2**-8
    assert not torch.equal(two, exact)


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"clip_norm": 0.1, "interval": "epoch"}
    straight, first, second = TwoPasses(**settings), TwoPasses(**settings), TwoPasses(**settings)
    expected = fitted(straight, tmp_path, max_epochs=4)
    stopped = trainer(tmp_path, max_epochs=2)
    stopped.fit(first, batches())
    stopped.save_checkpoint(tmp_path / "half.ckpt")
    assert not torch.equal(first.network.weight, expected)
    trainer(tmp_path, max_epochs=4).fit(second, batches(), ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(second.network.weight, expected)
    assert first.seen + second.seen == straight.seen


@pytest.mark.parametrize("kind", [OnePass, TwoPasses])
def test_lightning_tells_the_sampler_the_epoch(kind: type[OnePass], tmp_path: Path) -> None:
    module, expected = kind(), []
    fitted(module, tmp_path)
    sampler: Any = batches().batch_sampler
    for epoch in range(2):
        sampler.set_epoch(epoch)
        expected += [LABELS[batch].tolist() for batch in sampler]
    assert module.seen == expected
    assert module.seen[: len(module.seen) // 2] != module.seen[len(module.seen) // 2 :]


def test_the_trainers_hooks_are_called_once_a_step(tmp_path: Path) -> None:
    called = []

    class Hooked(TwoPasses):
        def on_before_backward(self, loss: Tensor) -> None:
            called.append("before")

        def on_after_backward(self) -> None:
            assert self.network.weight.grad is not None
            called.append("after")

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            called.append("step")

    fitted(Hooked(), tmp_path, max_steps=2)
    assert called == ["before", "after", "step"] * 2


def test_what_cannot_work_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoOptimizers(TwoPasses):
        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.1), torch.optim.SGD(self.parameters(), lr=0.1)]

    class Plateau(TwoPasses):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            waiting = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": waiting, "monitor": "loss"}}

    class OtherOrder(OnePass, LargeBatchSteps):
        training_step = TwoPasses.training_step

    with pytest.raises(InputError, match=r"^OtherOrder: Lightning makes the steps itself; name LargeBatchSteps before"):
        fitted(OtherOrder(), tmp_path)
    with pytest.raises(InputError, match=r"^configure_optimizers gives 2 optimizers: a large batch is a step of one$"):
        fitted(TwoOptimizers(), tmp_path)
    with pytest.raises(InputError, match=r"^ReduceLROnPlateau waits for a metric: choose a scheduler that goes by"):
        fitted(Plateau(), tmp_path)
    with pytest.raises(Exception, match="gradient_clip_val"):  # Lightning's own
        fitted(TwoPasses(), tmp_path, gradient_clip_val=1.0)
    module = TwoPasses()
    module.automatic_optimization = False  # which it is already
    with pytest.raises(InputError, match="automatic_optimization=True: steps in two passes are made by hand"):
        module.automatic_optimization = True
    for count in (1, 2):  # a model in parts, each of them another module or the same one
        module = TwoPasses()
        strategy = type("FSDPStrategy", (), {"model": module if count == 2 else torch.nn.Identity()})()
        monkeypatch.setattr(TwoPasses, "trainer", SimpleNamespace(strategy=strategy, world_size=count))
        with pytest.raises(InputError, match=r"^FSDPStrategy: large batches in two passes take one device, or"):
            module._whole_model()


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.integrations.lightning_program", str(tmp_path)]
    ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    first, second = (torch.load(tmp_path / f"{number}.pt") for number in range(2))
    assert torch.equal(first, second)
    alone = fitted(TwoPasses(clip_norm=0.05), tmp_path, precision="64-true")
    torch.testing.assert_close(first, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_processes_whose_batches_lightning_would_draw_are_told(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.integrations.lightning_program", str(tmp_path), "inject"]
    ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode != 0
    assert "use_distributed_sampler=False" in ended.stderr


def test_a_loader_of_another_kind_works_too(tmp_path: Path) -> None:
    """Without a batch sampler, as ever."""
    module = TwoPasses()
    data = TensorDataset(torch.randn(len(LABELS), 8), LABELS)
    trainer(tmp_path, max_epochs=1).fit(module, DataLoader(data, batch_size=len(LABELS)))
    assert len(module.seen) == 1
