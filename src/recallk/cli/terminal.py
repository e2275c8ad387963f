"""What a plan, a run and a comparison say on a terminal.

The console is the command line's, without markup; what somebody else wrote is shown, never acted on.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recallk.comparison.outcomes import Outcome
from recallk.comparison.verdict import verdict
from recallk.core.text import shown
from recallk.evaluation.protocols import spoken
from recallk.losses.registry import describe
from recallk.reporting.comparison import table_of
from recallk.reporting.run import percent, start_and_result
from recallk.runs.recipes import beside_published, origin
from recallk.training.selection import below_start
from recallk.training.step_memory import step_memory
from recallk.training.trainer import Trainer

NOTES_SHOWN = 5


def show_plan(console: Console, trainer: Trainer) -> None:
    """Print the data, the batches, the loss and the model of a run that is about to start."""
    plan, backbone = trainer.plan, trainer.embedder.settings.backbone
    parameters = sum(p.numel() for p in trainer.embedder.parameters())
    config, test_classes = plan.config, list(plan.test.part.classes)
    some = ", ".join(map(shown, test_classes[:3])) + (", …" if len(test_classes) > 3 else "")
    console.print(
        f"train     {len(plan.train.labels):,} images of {len(plan.train.classes):,} classes\n"
        f"test      {len(plan.test.part.labels):,} images of {len(test_classes):,} other classes ({some})",
        soft_wrap=True,
    )
    for search in plan.test.searches:
        if search.name or search.gallery is not None:
            among = "each other" if search.gallery is None else f"{len(search.gallery):,} gallery images"
            name = f"{shown(search.name)}: " if search.name else ""
            console.print(f"search    {name}{len(search.queries):,} query images, among {among}")
    if plan.validation is not None:
        console.print(
            f"set aside {len(plan.validation.labels):,} images of {len(plan.validation.classes):,} training classes, "
            "to choose the best epoch (--select, --validation-fraction)",
            soft_wrap=True,
        )
    elif config.select == "validation":
        console.print(f"select    the last epoch: {plan.why_last}", soft_wrap=True)
    for note in plan.data.notes[:NOTES_SHOWN]:
        console.print(f"note      {shown(note)}", soft_wrap=True)
    if len(plan.data.notes) > NOTES_SHOWN:
        console.print(f"note      and {len(plan.data.notes) - NOTES_SHOWN} more: recallk data check shows them")
    files = sum(isinstance(r.image, Path) for r in (*plan.data.train.records, *plan.test.part.records))
    if plan.opened < files:
        console.print(f"opened    {plan.opened:,} of {files:,} image files, at random; all of them are there")
    if plan.data.split_by_us:
        console.print(
            f"split     by the classes' names: about {config.test_fraction:.0%} for testing, seed {config.split_seed}"
            " (--test-fraction, --split-seed)"
        )
    if plan.left_out.classes:
        console.print(
            f"left out  {plan.left_out.classes:,} training classes ({plan.left_out.images:,} images) "
            f"with fewer than {config.items_per_class} images",
            soft_wrap=True,
        )
    if plan.cut is not None:
        console.print(f"note      {plan.cut}", soft_wrap=True)
    steps = "–".join(f"{count:,}" for count in sorted({min(plan.batches), max(plan.batches)}))
    classes = f"{config.items_per_class} of each of {plan.sampler.classes_per_batch:,} classes"
    console.print(
        f"batch     {plan.images_per_step:,} images: {classes}, in chunks of {config.chunk_size}\n"
        f"steps     {plan.steps:,} in {config.epochs} epochs, {steps} an epoch\n"
        f"loss      {shown(describe(config.loss))}{', with similarity mixup' if config.mixup else ''}\n"
        f"model     {shown(backbone)}, {config.pooling} pooling, {config.embedding_size} dimensions, "
        f"{parameters / 1e6:.1f} million parameters",
        soft_wrap=True,
    )


def show_memory(console: Console, trainer: Trainer) -> None:
    """Print what memory a step needs."""
    memory, chunk = step_memory(trainer), min(trainer.config.chunk_size, trainer.plan.images_per_step)
    console.print(
        f"memory    about {_gigabytes(memory.total)} a step: {_gigabytes(memory.chunk)} for a chunk of {chunk}, "
        f"{_gigabytes(memory.parameters)} for weights, gradients and moments, "
        f"{_gigabytes(memory.embeddings)} for the batch's embeddings; there are {_gigabytes(memory.available)}",
        soft_wrap=True,
    )
    if not memory.fits:
        seen = ", which batch norm sees" if trainer.config.batch_norm == "per-chunk" else ": the result stays the same"
        console.print(f"          that does not fit: lower --chunk-size{seen}", soft_wrap=True)
    console.print("dry run   nothing was trained and nothing written")


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"


def show_result(console: Console, trainer: Trainer) -> None:
    """Print the test metrics before and after, and beside them what was published for the recipe."""
    config = trainer.config
    before, after = start_and_result(trainer.folder)
    recipe = origin(config)
    published = recipe.published if recipe else {}
    table = Table("on classes never seen in training", "before", "after", *(["published"] if published else []))
    for column in table.columns[1:]:
        column.justify = "right"
    for name in trainer.plan.headline:
        row = [percent(before, name), percent(after, name)]
        if published:
            row.append(f"{published[name]:.1f}" if name in published else "")
        table.add_row(shown(spoken(name, trainer.plan.test.searches)), *row)
    console.print(table)
    for warning in below_start(before, after, config.evaluate_ks[0], trainer.plan.selection):
        console.print(f"warning   {warning}", style="bold", soft_wrap=True)
    if recipe and published:
        console.print(shown(beside_published(recipe, trainer.plan.differences)), soft_wrap=True)


def show_comparison(console: Console, found: Sequence[Outcome]) -> None:
    """Print the table of a comparison, and what is to be said of its rows."""
    columns, rows = table_of(found)
    recalls = [n for n, name in enumerate(columns) if name.startswith("recall@")]
    hidden = set(recalls[1:-1])  # the page has them all
    if len({row.cells[columns.index("images")] for row in rows if row.measured}) < 2:
        hidden.add(columns.index("images"))
    table = Table(*(name for n, name in enumerate(columns) if n not in hidden), box=SIMPLE_HEAD, padding=0)
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in rows:
        if row.measured:
            cells = (cell for n, cell in enumerate(row.cells) if n not in hidden)
            table.add_row(*cells, style="bold" if row.best else None)
        else:
            table.add_row(*row.cells, "–")
    console.print(table)
    for sentence in verdict(found):
        console.print(sentence, soft_wrap=True)
    for row in rows:
        for remark in row.remarks:
            console.print(f"{row.cells[0]}: {shown(remark)}", soft_wrap=True)
