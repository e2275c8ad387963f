"""Words typed by a person -> calls of the rooms below. Heavy imports happen inside the commands."""

import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from recallk.errors import InputError, RecallkError
from recallk.training.config import TrainConfig, make_config, read_config

if TYPE_CHECKING:
    from recallk.training.trainer import Plan, Trainer

RECIPES = Path(__file__).parent / "recipes"
app = typer.Typer(
    name="recallk",
    help="Train embedding models for retrieval directly on recall@k.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)
# click's, wherever this version of typer keeps it
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    try:
        code = typer.main.get_command(app)(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except RecallkError as error:
        _fail(str(error))
    except _UsageError as error:
        _fail(error.format_message())  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        print("recallk: interrupted", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> None:
    print(f"recallk: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _with_config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each key of the configuration, as its `overrides`."""
    own = inspect.signature(command).parameters.values()
    parameters = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    for name, field in TrainConfig.model_fields.items():
        default = "" if field.default is None or field.default is PydanticUndefined else f"[{_as_typed(field.default)}]"
        choices = _choices(field.annotation)
        about = " ".join(filter(None, (field.description, choices and f"({choices})", default)))
        option = typer.Option(f"--{name.replace('_', '-')}", help=escape(about), show_default=False, metavar="VALUE")
        annotation = Annotated[str | None, option]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _as_typed(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _choices(annotation: object) -> str:
    return ", ".join(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ""


def _given(overrides: dict[str, str | None]) -> dict[str, Any]:
    """Return the options that were typed; commas make a list where the key takes several values."""
    given: dict[str, Any] = {}
    for name, text in overrides.items():
        if text is not None:
            several = "tuple" in str(TrainConfig.model_fields[name].annotation)
            given[name] = text.split(",") if several and ("," in text or name != "recall_temperature") else text
    return given


def _recipe(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return read_config(path)
    shipped = {file.stem: file for file in RECIPES.glob("*.yaml")}
    if name not in shipped:
        raise InputError(f"no recipe {name!r}: give a YAML file, or one of {', '.join(sorted(shipped))}")
    return read_config(shipped[name])


@app.command()
def demo(
    run: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/demo"),
    overwrite: Annotated[bool, typer.Option(help="replace an earlier run in this folder")] = False,
) -> None:
    """Train on characters in matplotlib's typefaces, without a download, in about three minutes."""
    import shutil

    config = make_config(_recipe("demo"))
    if overwrite and (run / "config.yaml").is_file():
        shutil.rmtree(run)
    _train(config, run, resume=False)


@app.command()
@_with_config_options
def train(
    recipe: Annotated[str | None, typer.Argument(help="a shipped recipe's name, or a YAML file")] = None,
    run: Annotated[Path | None, typer.Option(help="folder of the run  [runs/NAME]")] = None,
    resume: Annotated[Path | None, typer.Option(help="continue the interrupted run in this folder")] = None,
    **overrides: str | None,
) -> None:
    """Train on a folder of images (a folder per class), or on a CSV or Parquet table (path,label[,split])."""
    from recallk.training.checkpoint import RunFolder

    if resume is not None:
        if recipe or run or _given(overrides):
            raise InputError("--resume continues a run as it was configured: give no recipe and no other options")
        _train(RunFolder(resume).read_config(), resume, resume=True)
        return
    config = make_config(_recipe(recipe) if recipe else {}, _given(overrides))
    source = Path(config.data).expanduser()
    if source.exists():
        config = config.model_copy(update={"data": str(source.resolve())})
    name = (recipe and Path(recipe).stem) or source.stem
    _train(config, run or Path("runs") / name, resume=False)


def _train(config: TrainConfig, run: Path, resume: bool) -> None:
    if not resume and run.exists() and any(run.iterdir()):
        raise InputError(f"{run}: exists already; continue it with --resume {run}, or choose another --run")
    with console.status("reading the data"):
        from recallk.report.run import report_run
        from recallk.training.checkpoint import RunFolder
        from recallk.training.trainer import Trainer, prepare

        plan = prepare(config)
        trainer = Trainer(plan, RunFolder(run))
    _show_plan(plan, trainer.embedder.settings.backbone, sum(p.numel() for p in trainer.embedder.parameters()))
    started = time.perf_counter()
    try:
        _follow(trainer, resume)
    except KeyboardInterrupt:
        if trainer.folder.checkpoint.is_file():
            console.print(f"continue with   recallk train --resume {run}")
        raise
    with console.status("writing the report"):
        report_run(trainer)
    history = [row for row in trainer.folder.history() if row["kind"] == "evaluation"]
    table = Table("on classes never seen in training", "before", "after", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in _headline(config):
        table.add_row(name, f"{100 * history[0][name]:.1f}", f"{100 * history[-1][name]:.1f}")
    console.print(table)
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    console.print(f"{minutes} min {seconds:02d} s in all; the run is in {run}")
    console.print(f"look at   {run / 'report.html'}")
    console.print(f"search    recallk search {run} --gallery FOLDER IMAGE...")


def _follow(trainer: "Trainer", resume: bool) -> None:
    """Train, and show how it goes."""
    config = trainer.config
    with _progress() as progress:
        task = progress.add_task("training", total=trainer.plan.steps, note="evaluating the start")
        for row in trainer.rows(resume=resume):
            if row["kind"] == "step":
                rate = row["images"] / row["seconds"]
                note = f"epoch {row['epoch']}/{config.epochs}  loss {row['loss']:.4f}  {rate:,.0f} images/s"
                progress.update(task, completed=row["step"], note=note)
            else:
                when = f"epoch {row['epoch']}" if row["epoch"] else "untrained"
                recalls = "  ".join(f"{100 * row[f'recall@{k}']:4.1f}" for k in config.evaluate_ks)
                ks = ",".join(map(str, config.evaluate_ks))
                line = f"{when:<10}recall@{ks}  {recalls}  map@r  {100 * row['map@r']:4.1f}"
                progress.console.print(line, soft_wrap=True)
                progress.update(task, note="")


def _headline(config: TrainConfig) -> list[str]:
    return [*(f"recall@{k}" for k in config.evaluate_ks), "map@r"]


def _show_plan(plan: "Plan", backbone: str, parameters: int) -> None:
    config, test_classes = plan.config, list(plan.test.classes)
    shown = ", ".join(test_classes[:3]) + (", …" if len(test_classes) > 3 else "")
    console.print(
        f"train     {len(plan.train.labels):,} images of {len(plan.train.classes):,} classes\n"
        f"test      {len(plan.test.labels):,} images of {len(test_classes):,} other classes ({escape(shown)})",
        soft_wrap=True,
    )
    if plan.split_by_us:
        console.print(
            f"split     by class: {config.test_fraction:.0%} for testing, seed {config.split_seed}"
            " (--test-fraction, --split-seed)"
        )
    if plan.left_out.classes:
        console.print(
            f"left out  {plan.left_out.classes:,} training classes ({plan.left_out.images:,} images) "
            f"with fewer than {config.items_per_class} images",
            soft_wrap=True,
        )
    size = plan.sampler.classes_per_batch * config.items_per_class
    console.print(
        f"batch     {size:,} images: {config.items_per_class} of each of {plan.sampler.classes_per_batch:,} classes, "
        f"in chunks of {config.chunk_size}\n"
        f"steps     {plan.steps:,} in {config.epochs} epochs\n"
        f"model     {backbone}, {config.pooling} pooling, {config.embedding_size} dimensions, "
        f"{parameters / 1e6:.1f} million parameters",
        soft_wrap=True,
    )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    data: Annotated[
        str | None,
        typer.Option(help="other images, all of them queries and gallery; by default the run's test classes"),
    ] = None,
    ks: Annotated[str, typer.Option(help="the k's, with commas between")] = "1,2,4,8",
) -> None:
    """Measure a trained model: recall@k, precision@k, MAP@R, R-precision, MRR and NMI."""
    from recallk.data.source import check_images, check_test_positives, part, read_data, split_classes
    from recallk.evaluation.clustering import nmi
    from recallk.evaluation.metrics import retrieval_metrics
    from recallk.models.embedder import load
    from recallk.training.checkpoint import RunFolder
    from recallk.training.trainer import workers_of

    if not all(k.strip().isdigit() and int(k) for k in ks.split(",")):
        raise InputError(f"--ks {ks}: whole numbers from 1, with commas between")
    embedder = load(run)
    config = RunFolder(run).read_config()
    with console.status("reading the data"):
        if data is None:
            test = part(split_classes(read_data(config.data), config.test_fraction, config.split_seed), "test")
        else:
            test = part(read_data(data), None)
        check_test_positives(test)
        check_images(test.records)
    with _progress() as progress:
        task = progress.add_task("embedding", total=len(test.records), note="")
        embeddings = embedder.embed(
            test.images,
            chunk_size=config.chunk_size,
            workers=workers_of(config),
            advance=lambda n: progress.advance(task, n),
        )
    with console.status("ranking and clustering"):
        metrics = retrieval_metrics(embeddings, test.labels, ks=tuple(int(k) for k in ks.split(",")))
        metrics["nmi"] = nmi(embeddings, test.labels)
    table = Table(f"{len(test.labels):,} images of {len(test.classes):,} classes", "%")
    table.columns[1].justify = "right"
    for name, value in metrics.items():
        table.add_row(name, f"{100 * value:.2f}")
    console.print(table)


@app.command()
def search(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    queries: Annotated[list[Path], typer.Argument(metavar="QUERY...", help="images to look for")],
    gallery: Annotated[Path, typer.Option(help="folder of images to search, with all its subfolders")],
    k: Annotated[int, typer.Option(min=1, help="results for each query")] = 8,
    picture: Annotated[Path, typer.Option(help="where to draw the results")] = Path("search.png"),
) -> None:
    """Find the images of a folder that are most like the queries; print a table and draw a picture."""
    from recallk.data.folder import find_images
    from recallk.data.images import check_image, read_image
    from recallk.evaluation.search import nearest
    from recallk.models.embedder import load
    from recallk.report.pictures import Retrieval, Retrieved, search_picture
    from recallk.training.checkpoint import RunFolder
    from recallk.training.trainer import workers_of

    if picture.suffix.lower() != ".png" or not picture.parent.is_dir():
        raise InputError(f"--picture {picture}: the name of a .png file in a folder that exists")
    embedder = load(run)
    for query in queries:
        check_image(query)
    images = find_images(gallery)
    with _progress() as progress:
        task = progress.add_task("embedding the gallery", total=len(images), note="")
        embeddings = embedder.embed(
            images, workers=workers_of(RunFolder(run).read_config()), advance=lambda n: progress.advance(task, n)
        )
    place = {path.resolve(): number for number, path in enumerate(images)}
    found = nearest(embedder.embed(queries), embeddings, k, exclude=_places(queries, place))
    table = Table("query", "rank", "similarity", "image")
    drawn = []
    for query, similarities, indexes in zip(queries, found.similarities.tolist(), found.indexes.tolist(), strict=True):
        results = []
        for rank, (similarity, index) in enumerate(zip(similarities, indexes, strict=True), 1):
            name = images[index].relative_to(gallery).as_posix()
            label = images[index].parent.name
            table.add_row(
                escape(query.name) if rank == 1 else "",
                str(rank),
                f"{similarity:.3f}",
                escape(name),
            )
            results.append(Retrieved(read_image(images[index]), name, label, similarity, None))
        drawn.append(Retrieval(read_image(query), query.name, query.parent.name, results, ""))
    console.print(table)
    search_picture(drawn, picture)
    console.print(f"drawn in {picture}")


def _places(queries: list[Path], place: dict[Path, int]) -> Any:
    """Where a query is itself in the gallery, it is not its own result."""
    import torch

    return torch.tensor([place.get(query.resolve(), -1) for query in queries])


if __name__ == "__main__":
    main()
