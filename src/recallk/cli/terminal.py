"""What is printed of a plan, a run and a comparison."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from recallk.cli.console import console, duration, say
from recallk.core import processes
from recallk.core.text import shown
from recallk.data.searches import Search
from recallk.data.unreadable import first_of
from recallk.evaluation.protocols import display_name
from recallk.losses.registry import describe
from recallk.models.batches import Cut
from recallk.runs.summary import Summary, percent
from recallk.training.activations import kept_activations
from recallk.training.choices import Choice
from recallk.training.pace import LONG, seconds_on_cpu
from recallk.training.step_memory import step_memory
from recallk.training.trainer import Trainer

if TYPE_CHECKING:
    from recallk.comparison.outcomes import Outcome

NOTES_SHOWN = 5


def show_plan(trainer: Trainer, explain: bool = False) -> None:
    """Print the data, the batches, the loss and the model of a run that is about to start."""
    plan, config, data = trainer.plan, trainer.config, trainer.plan.data
    test, noun = data.test.labelled, data.train.noun
    some = ", ".join(map(shown, test.classes[:3])) + (", …" if len(test.classes) > 3 else "")
    say(f"train     {data.train.counted}")
    if data.test.none:
        say("test      none (--test-fraction 0): nothing will tell how well it finds classes never seen")
    else:
        other = f"{config.tested_on}: {some}" if config.closed_set else f"other classes ({some})"
        say(f"test      {len(test):,} {noun} of {len(test.classes):,} {other}")
    for search in data.test.searches:
        if search.name or search.gallery is not None:
            among = "each other" if search.gallery is None else f"{len(search.gallery):,} gallery {noun}"
            name = f"{search.name}: " if search.name else ""
            say(f"search    {name}{len(search.queries):,} query {noun}, among {among}")
    if data.validation is not None and data.validation_given:
        say(f"validate  {data.validation.counted}, as given, to choose the best epoch (--select)")
    elif data.validation is not None:
        say(
            f"set aside {len(data.validation):,} {noun} of {len(data.validation.classes):,} training classes, "
            "to choose the best epoch (--select, --validation-fraction)"
        )
    elif data.why_no_validation:
        say(f"select    the last epoch: {data.why_no_validation}")
    for note in data.notes[:NOTES_SHOWN]:
        say(f"note      {note}")
    if len(data.notes) > NOTES_SHOWN:
        say(f"note      and {len(data.notes) - NOTES_SHOWN} more: recallk data check shows them")
    if plan.skipped is not None:
        say(f"skipped   {plan.skipped} (--on-bad-image), the first: {first_of(data.split.skipped)}")
    if data.opened < data.files:
        say(f"opened    {data.opened:,} of {data.files:,} {noun}, at random; all of them are there")
    if data.split_by_us and not data.test.none:
        say(
            f"split     by the classes' names: about {config.test_fraction:.0%} for testing, seed {config.split_seed}"
            " (--test-fraction, --split-seed)"
        )
    elif config.dataset == "own" and not data.split_by_us:
        say("split     as given with the data (--split classes: by the classes' names)")
    if plan.left_out.classes:
        say(
            f"left out  {plan.left_out.classes:,} training classes ({plan.left_out.items:,} {noun}) "
            f"with fewer than {config.of_a_class} {noun}"
        )
    if plan.smaller_batches is not None:
        say(f"note      {plan.smaller_batches}")
    steps = "–".join(f"{count:,}" for count in sorted({min(plan.batches), max(plan.batches)}))
    first = trainer.first_cut()
    parameters = sum(p.numel() for p in trainer.embedder.parameters())
    trained = sum(p.numel() for p in trainer.embedder.parameters() if p.requires_grad)
    say(f"batch     {plan.items_per_step:,} {noun}: {plan.sampler.contents}, {_chunks(first, trainer.chunk_size)}")
    if trainer.how_chunked:
        say(f"chunks    {trainer.how_chunked} (--chunk-size auto)")
    if (together := max(processes.count(), config.devices * config.nodes)) > 1:
        fewest, rest = divmod(len(first.chunks), together)
        say(f"processes {together:,}, each embeds {fewest:,}{f' or {fewest + 1:,}' if rest else ''} of the chunks")
    kept = kept_activations(trainer)
    if kept.share < 1:
        say(
            f"passes    activations of {kept.share:.0%} of a batch are kept: a step takes about {kept.cost:.2f} of the "
            f"time with all (--activation-memory-gb)"
        )
    say(f"steps     {plan.steps:,} in {plan.epochs} epochs, {steps} an epoch")
    if (seconds := seconds_on_cpu(trainer, kept.cost)) is not None:
        less = " (a smaller network or --image-size takes less)" if seconds > LONG and noun == "images" else ""
        say(f"time      about {duration(seconds)} of steps on this CPU, by a trial{less}")
    if plan.choices and not explain:
        chosen = ", ".join(map(_option, plan.choices))
        say(f"chosen    {chosen} (--explain: why)")
    for choice in plan.choices if explain else ():
        say(f"chosen    {_option(choice)}: {choice.why}")
    say(f"loss      {describe(config.loss)}{', with similarity mixup' if config.mixup else ''}")
    say(
        f"model     {config.network}, {parameters / 1e6:.1f} million parameters"
        + ("" if trained == parameters else f", {trained / 1e6:.1f} million of them trained")
    )


def _option(choice: Choice) -> str:
    """Return a choice as a person would type it."""
    name = choice.key.replace("_", "-")
    if isinstance(choice.value, bool):
        return f"--{name}" if choice.value else f"--no-{name}"
    return f"--{name} {choice.value}"


def show_memory(trainer: Trainer) -> None:
    """Print what memory a step needs."""
    memory, chunk = step_memory(trainer), min(trainer.chunk_size, trainer.plan.items_per_step)
    say(
        f"memory    about {_gigabytes(memory.total)} a step: {_gigabytes(memory.chunk)} for a chunk of {chunk}, "
        f"{_gigabytes(memory.parameters)} for weights, gradients and moments, "
        f"{_gigabytes(memory.embeddings)} for the batch's embeddings; there are {_gigabytes(memory.available)}"
    )
    if not memory.fits:
        seen = ": the result stays the same"
        if trainer.config.batch_norm_policy == "per-chunk":
            seen = ", which batch norm sees"
        say(f"          that does not fit: lower --chunk-size{seen}")
    say("dry run   nothing was trained and nothing written")


def _chunks(cut: Cut, chunk_size: int) -> str:
    kinds = set(cut.kinds)
    if kinds == {None}:
        return f"in chunks of {chunk_size}"
    shapes = f"{len(kinds):,} shape{'s' * (len(kinds) > 1)}"
    return f"{shapes} in {len(cut.chunks):,} chunks of at most {chunk_size}"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"


def show_result(summary: Summary, searches: Sequence[Search]) -> None:
    """Print the test metrics before and after, and beside them what was published for the recipe."""
    before, after, published = summary.before.metrics, summary.after.metrics, summary.published
    table = Table(f"on {summary.config.tested_on}", "before", "after", *(["published"] if published else []))
    for column in table.columns[1:]:
        column.justify = "right"
    for name in summary.metrics:
        row = [percent(before, name), percent(after, name)]
        if published:
            row.append(f"{published[name]:.1f}" if name in published else "")
        table.add_row(shown(display_name(name, searches)), *row)
    if summary.metrics:
        console.print(table)
    for warning in summary.warnings:
        say(f"warning   {warning}", style="bold")
    if summary.beside_published is not None:
        say(summary.beside_published)


def show_comparison(found: Sequence["Outcome"]) -> None:
    """Print the table of a comparison, and what is to be said of its rows."""
    from recallk.comparison.verdict import verdict
    from recallk.reporting.comparison import table_of

    columns, rows = table_of(found)
    recalls = [n for n, name in enumerate(columns) if name.startswith("recall@")]
    hidden = set(recalls[1:-1])  # the page has them all
    if len({row.cells[columns.index("items")] for row in rows if row.measured}) < 2:
        hidden.add(columns.index("items"))
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
