"""Chunks as large as fit: found before a run, halved where memory runs out in it, alike in all processes."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recallk import InputError, load
from recallk.core import processes
from recallk.runs.config import make_config
from recallk.runs.embedding import embed_as_configured
from recallk.runs.folder import RunFolder
from recallk.runs.history import Row
from recallk.training import chunk_size as chunk_sizes
from recallk.training.chunk_size import largest_that_fits
from recallk.training.memory import MARGIN_ON_GPU, free_memory, left_by_an_item, memory_of
from recallk.training.plan import prepare
from recallk.training.state import load_state, save_state
from recallk.training.step_memory import step_memory
from recallk.training.trainer import Trainer
from tests.processes import in_processes
from tests.rows import losses_of, steps, without_time
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "epochs": 3, "evaluate_every": 3}
ITEMS = 16  # of a batch: 4 of each of 4 training classes


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=8, images=6)


def trainer_of(pictures: Path | str, run: Path, **changes: Any) -> Trainer:
    return Trainer(prepare(make_config(TINY, {"data": str(pictures)}, changes)), RunFolder(run))


@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("most", [2, 3, 16, 100])
def test_the_search_finds_the_largest_power_that_fits(least: int, most: int) -> None:
    for limit in range(1, 120):
        tried: list[int] = []

        def fits(size: int, limit: int = limit, tried: list[int] = tried) -> bool:
            tried.append(size)
            return size <= limit

        found = largest_that_fits(fits, least, most)
        powers = [size for size in (1, 2, 4, 8, 16, 32, 64, most) if least <= size <= min(limit, most)]
        assert found == max(powers, default=least)
        assert max(tried) <= most


def room_for(trainer: Trainer, items: int) -> int:
    """Return the free memory in which chunks of so many items just fit, with the margin."""
    memory = step_memory(trainer)
    needed = left_by_an_item(trainer.embedder, trainer.fabric) * (items + 0.5) / (1 - chunk_sizes.MARGIN_ON_CPU)
    return int(memory.parameters + memory.embeddings + needed)


@pytest.mark.parametrize(
    ("batch_norm", "room", "found", "how"),
    [
        pytest.param("frozen", 0, 1, "the largest found to fit; 50%", marks=pytest.mark.slow),
        ("per-chunk", 0, 2, "the largest found to fit; 50%"),
        ("frozen", 9, 8, "the largest found to fit; 50%"),
        pytest.param("frozen", 500, ITEMS, "the share of a process; 50%", marks=pytest.mark.slow),
    ],
)
def test_auto_is_what_fits_and_the_run_records_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_norm: str, room: int, found: int, how: str
) -> None:
    trainer = trainer_of(pictures, tmp_path / "run", chunk_size="auto", batch_norm=batch_norm)
    free = room_for(trainer, room)
    monkeypatch.setattr(chunk_sizes, "free_memory", lambda _: free)
    rows = without_time(list(trainer.rows()))
    assert trainer.how_chunked.replace(",", ";").startswith(how)
    assert trainer.chunk_size == trainer.folder.read_config().chunk_size == found
    plain = trainer_of(pictures, tmp_path / "plain", chunk_size=found, batch_norm=batch_norm)
    assert without_time(list(plain.rows())) == rows


def test_on_a_cpu_a_chunk_is_of_so_many_items_at_most(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk_sizes, "MOST_ON_CPU", 6)
    trainer = trainer_of(pictures, tmp_path / "run", chunk_size="auto", batch_norm="frozen")
    trainer.choose_chunk_size()
    assert trainer.chunk_size == 6
    assert trainer.how_chunked.startswith("more is no faster on a CPU; 50%")


def test_a_resumed_run_does_not_look_again(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(pictures, tmp_path / "run", chunk_size="auto")
    free = room_for(trainer, 5)
    monkeypatch.setattr(chunk_sizes, "free_memory", lambda _: free)
    for row in trainer.rows():
        if row.epoch == 2:
            break
    monkeypatch.setattr(chunk_sizes, "free_memory", lambda _: 2**50)
    resumed = Trainer(prepare(trainer.folder.read_config()), trainer.folder)
    list(resumed.rows(resume=True))
    assert resumed.chunk_size == 4


@pytest.mark.parametrize("batch_norm", ["frozen", "per-chunk"])
def test_on_a_gpu_chunks_are_tried(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_norm: str
) -> None:
    """The search as it is for CUDA, with a network on the CPU, and a GPU that has as much memory as is said."""
    trainer = trainer_of(pictures, tmp_path / "run", chunk_size="auto", batch_norm=batch_norm)
    memory, tried = step_memory(trainer), list[int]()
    trainer.embedder.register_forward_pre_hook(lambda m, given: tried.append(len(given[0])) if m.training else None)
    run_short_of_memory(trainer, rows=11, with_a_graph=False, in_process=0)
    before = {name: value.clone() for name, value in trainer.embedder.state_dict().items()}
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 1000)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 1000 + 100 * tried[-1])
    state = torch.get_rng_state()
    for items, found in ((5, 4), (500, 8)):
        needed = memory.parameters + memory.embeddings + 100 * items
        free = int(needed / (1 - MARGIN_ON_GPU)) + 1
        monkeypatch.setattr(chunk_sizes, "free_memory", lambda _, free=free: free)
        assert largest_that_fits(chunk_sizes._tried(trainer), 2, ITEMS) == found
    assert tried == [2, 4, 8, 2, 4, 8, ITEMS]
    assert all(torch.equal(value, before[name]) for name, value in trainer.embedder.state_dict().items())
    assert all(parameter.grad is None for parameter in trainer.embedder.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_memory_that_is_free() -> None:
    assert 0 < free_memory(torch.device("cpu")) <= memory_of(torch.device("cpu"))


def test_a_model_is_used_without_a_trial(pictures: Path, tmp_path: Path) -> None:
    trainer = trainer_of(pictures, tmp_path / "run")
    list(trainer.rows())
    config = make_config(TINY, {"data": str(pictures), "chunk_size": "auto"})
    assert len(embed_as_configured(load(tmp_path / "run"), config, [pictures / "class0" / "0.png"])) == 1


def found_together(pictures: str, run: str, room: tuple[int, int]) -> int:
    trainer = trainer_of(pictures, Path(run), chunk_size="auto", batch_norm="frozen")
    free = room_for(trainer, room[processes.number()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_sizes, "free_memory", lambda _: 2 * free)  # both are on one machine, and share it
        trainer.choose_chunk_size()
    return trainer.chunk_size


@pytest.mark.parametrize(("room", "found"), [((9, 3), 2), ((500, 500), ITEMS // 2)])
def test_processes_take_the_smallest_that_they_find(
    pictures: Path, tmp_path: Path, room: tuple[int, int], found: int
) -> None:
    assert in_processes(found_together, 2, str(pictures), str(tmp_path / "run"), room) == [found, found]


def run_short_of_memory(trainer: Trainer, rows: int, with_a_graph: bool, in_process: int) -> Trainer:
    """Have memory run out in chunks of more rows: in the second pass alone, or in both, of one process."""

    def forward(network: Any, given: Any) -> None:
        short = len(given[0]) > rows and processes.number() == in_process
        if short and network.training and (torch.is_grad_enabled() or not with_a_graph):
            raise torch.OutOfMemoryError("no room for 3 GB")

    trainer.embedder.register_forward_pre_hook(forward)
    return trainer


def trained(
    pictures: str, run: str, changes: dict[str, Any], short: dict[str, Any] | None
) -> tuple[dict[str, Tensor], list[Row]]:
    trainer = trainer_of(pictures, Path(run), **changes)
    if short is not None:
        run_short_of_memory(trainer, **short)
    rows = list(trainer.rows())
    return {name: value.clone() for name, value in trainer.embedder.state_dict().items()}, rows


FROZEN: dict[str, Any] = {"batch_norm": "frozen", "mixup": True}
PER_CHUNK: dict[str, Any] = {"batch_norm": "per-chunk"}


@pytest.mark.parametrize(
    ("count", "with_a_graph", "changes"),
    [
        (1, False, PER_CHUNK),
        (1, True, FROZEN),
        (2, True, FROZEN),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1, False, FROZEN), (1, True, PER_CHUNK), (2, False, FROZEN))
        ),
        *(pytest.param(2, with_a_graph, PER_CHUNK, marks=pytest.mark.slow) for with_a_graph in (False, True)),
    ],
    ids=str,
)
def test_a_step_that_runs_out_of_memory_is_repeated_in_smaller_chunks(
    pictures: Path, tmp_path: Path, changes: dict[str, Any], with_a_graph: bool, count: int
) -> None:
    short = {"rows": 2, "with_a_graph": with_a_graph, "in_process": count - 1}
    run = partial(in_processes, trained, count) if count > 1 else lambda *given: [trained(*given)]
    halved = run(str(pictures), str(tmp_path / "halved"), changes | {"chunk_size": 8}, short)
    small = run(str(pictures), str(tmp_path / "small"), changes | {"chunk_size": 2}, None)
    for (weights, rows), (expected, expected_rows) in zip(halved, small, strict=True):
        assert losses_of(rows) == losses_of(expected_rows)
        assert all(torch.equal(value, expected[name]) for name, value in weights.items())
        first, *others = [row.note for row in steps(rows)]
        assert others == [None, None]
        assert first is not None
        assert "repeated, and from here on, in chunks of 2" in first
        assert ("which batch norm sees" in first) == (changes["batch_norm"] == "per-chunk")
    assert RunFolder(tmp_path / "halved").read_config().chunk_size == 8


@pytest.mark.parametrize(("batch_norm", "least"), [("frozen", 1), ("per-chunk", 2)])
def test_where_chunks_cannot_be_smaller_the_run_ends(
    pictures: Path, tmp_path: Path, batch_norm: str, least: int
) -> None:
    trainer = trainer_of(pictures, tmp_path / "run", batch_norm=batch_norm, chunk_size=4)
    run_short_of_memory(trainer, rows=0, with_a_graph=False, in_process=0)
    told = rf"step 1: out of memory \(no room for 3 GB\) in chunks of {least}; lower --image-size"
    with pytest.raises(InputError, match=told):
        list(trainer.rows())


def test_a_resumed_run_has_the_halved_chunks(pictures: Path, tmp_path: Path) -> None:
    whole = trainer_of(pictures, tmp_path / "whole", chunk_size=8)
    rows = list(run_short_of_memory(whole, rows=4, with_a_graph=True, in_process=0).rows())
    cut = trainer_of(pictures, tmp_path / "cut", chunk_size=8)
    for row in run_short_of_memory(cut, rows=4, with_a_graph=True, in_process=0).rows():
        if row.epoch == 2:
            break
    resumed = trainer_of(pictures, tmp_path / "cut", chunk_size=8)
    list(resumed.rows(resume=True))
    assert without_time(resumed.folder.history()) == without_time(rows)
    again = trainer_of(pictures, tmp_path / "cut", chunk_size=8, epochs=4)
    state = load_state(again.folder.checkpoint)
    assert state["chunks"] == (8, 4)
    for spoilt in (None, (8,), (8, 0), (4, 8), (8, "4")):
        save_state(state | {"chunks": spoilt}, again.folder.checkpoint)
        with pytest.raises(InputError, match="does not say how the batches were cut; start the run anew"):
            list(again.rows(resume=True))


@pytest.mark.parametrize("size", ["0", "many", "-1", 1.5])
def test_other_sizes_are_refused(size: Any) -> None:
    with pytest.raises(InputError, match="chunk_size="):
        make_config({"data": "x", "chunk_size": size})
    assert make_config({"data": "x", "chunk_size": "64"}).chunk_size == 64
