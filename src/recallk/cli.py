"""Words typed by a person -> calls of the rooms below. Heavy imports happen inside the commands."""

import inspect
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from recallk.core.errors import InputError, RecallkError
from recallk.training.config import TrainConfig, make_config
from recallk.training.contenders import (
    MIXUP,
    ablation_as_contenders,
    ablations,
    losses_as_contenders,
    sweep_as_contenders,
)
from recallk.training.loss_catalogue import OURS
from recallk.training.recipes import find, shipped

if TYPE_CHECKING:
    from recallk.training.trainer import Trainer

PROBLEMS_SHOWN = 5
INTERRUPTED = 130
app = typer.Typer(
    name="recallk",
    help="Train embedding models for retrieval directly on recall@k.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
recipes_app = typer.Typer(
    help="The recipes: one for each published row, and two on characters, which need no download."
)
app.add_typer(recipes_app, name="recipes")
data_app = typer.Typer(
    help="The benchmarks of the field: what they are, and whether yours is whole.", no_args_is_help=True
)
app.add_typer(data_app, name="data")
console = Console(highlight=False)
Protocol = Literal["benchmark", "re-identification"]
# click's, wherever this version of typer keeps it
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    try:
        code = typer.main.get_command(app)(standalone_mode=False)
        if code == INTERRUPTED:  # some versions of typer say it so
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except RecallkError as error:
        _fail(str(error))
    except _UsageError as error:
        _fail(error.format_message())  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        print("recallk: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _fail(message: str) -> None:
    print(f"recallk: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _with_config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option for each key of the configuration, as its `overrides`."""
    own = inspect.signature(command).parameters.values()
    parameters = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    for name, field in TrainConfig.model_fields.items():
        if name == "recipe":  # a command's argument
            continue
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


@app.command()
def demo(
    run: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/demo"),
    overwrite: Annotated[bool, typer.Option(help="replace an earlier run in this folder")] = False,
) -> None:
    """Train on characters in matplotlib's typefaces, without a download, in about three minutes."""
    import shutil

    config = make_config(find("demo").values)
    if overwrite and (run / "config.yaml").is_file():
        shutil.rmtree(run)
    _train(config, run, resume=False)


@app.command()
@_with_config_options
def train(
    recipe: Annotated[str | None, typer.Argument(help="a shipped recipe's name, or a YAML file")] = None,
    run: Annotated[Path | None, typer.Option(help="folder of the run  [runs/NAME]")] = None,
    resume: Annotated[Path | None, typer.Option(help="continue the interrupted run in this folder")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check everything, print the plan, train nothing")] = False,
    **overrides: str | None,
) -> None:
    """Train on a folder of images (a folder per class), or on a CSV or Parquet table (path,label[,split])."""
    from recallk.training.checkpoint import RunFolder

    if resume is not None:
        if recipe or run or dry_run or _given(overrides):
            raise InputError("--resume continues a run as it was configured: give no recipe and no other options")
        _train(RunFolder(resume).read_config(), resume, resume=True)
        return
    config = _with_whole_path(make_config(find(recipe).values if recipe else {}, _given(overrides)))
    _train(config, run or Path("runs") / _name_of(recipe, config), resume=False, dry_run=dry_run)


def _with_whole_path(config: TrainConfig) -> TrainConfig:
    """Let the data be found from wherever the run is looked at later."""
    source = Path(config.data).expanduser()
    return config.model_copy(update={"data": str(source.resolve())}) if source.exists() else config


def _name_of(recipe: str | None, config: TrainConfig) -> str:
    return Path(recipe or config.data).stem


def _train(config: TrainConfig, run: Path, resume: bool, dry_run: bool = False) -> None:
    if not resume and not dry_run and run.exists() and any(run.iterdir()):
        raise InputError(f"{run}: exists already; continue it with --resume {run}, or choose another --run")
    with console.status("reading the data"):
        from recallk.report import terminal
        from recallk.training.checkpoint import RunFolder
        from recallk.training.plan import prepare
        from recallk.training.trainer import Trainer

        trainer = Trainer(prepare(config), RunFolder(run))
    terminal.show_plan(console, trainer)
    if dry_run:
        terminal.show_memory(console, trainer)
        return
    started = time.perf_counter()
    try:
        _follow(trainer, resume)
    except KeyboardInterrupt:
        if trainer.folder.checkpoint.is_file():
            console.print(f"continue with   recallk train --resume {run}", soft_wrap=True)
        raise
    with console.status("writing the report"):
        from recallk.report.run import report_run

        report_run(trainer)
    terminal.show_result(console, trainer)
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    console.print(f"{minutes} min {seconds:02d} s in all; the run is in {run}", soft_wrap=True)
    console.print(f"look at   {run / 'report.html'}", soft_wrap=True)
    console.print(f"search    recallk search {run} --gallery FOLDER IMAGE...", soft_wrap=True)


def _follow(trainer: "Trainer", resume: bool) -> None:
    """Train, and show how it goes."""
    config = trainer.config
    width = 9 if trainer.plan.validation is None else 21
    with _progress() as progress:
        task = progress.add_task("training", total=trainer.plan.steps, note="evaluating the start")
        for row in trainer.rows(resume=resume):
            if row["kind"] == "step":
                rate = row["images"] / row["seconds"]
                note = f"epoch {row['epoch']}/{config.epochs}  loss {row['loss']:.4f}  {rate:,.0f} images/s"
                progress.update(task, completed=row["step"], note=note)
            elif row["kind"] == "result":
                progress.console.print(f"kept      epoch {row['epoch']}, {trainer.plan.how_chosen}", soft_wrap=True)
            else:
                when = f"epoch {row['epoch']}" if row["epoch"] else "untrained"
                if trainer.plan.validation is not None:
                    when = f"{when:<9}  {'validation' if row['kind'] == 'validation' else 'test'}"
                recalls = "  ".join(f"{100 * row[f'recall@{k}']:4.1f}" for k in config.evaluate_ks)
                ks = ",".join(map(str, config.evaluate_ks))
                line = f"{when:<{width}}  recall@{ks}  {recalls}  map@r  {100 * row['map@r']:4.1f}"
                progress.console.print(line, soft_wrap=True)
                progress.update(task, note="")


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
    ks: Annotated[str | None, typer.Option(help="the k's, with commas between; by default the run's")] = None,
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="the benchmark's own, or re-identification: one random gallery image of each class, 10 times over"
        ),
    ] = "benchmark",
) -> None:
    """Measure a trained model: recall@k, precision@k, MAP@R, R-precision, MRR and NMI."""
    from recallk.data.source import check_images
    from recallk.evaluation.clustering import nmi
    from recallk.evaluation.protocols import rate, re_identification, spoken
    from recallk.models.embedder import load
    from recallk.training.checkpoint import RunFolder
    from recallk.training.plan import all_of, read
    from recallk.training.trainer import workers_of

    if ks is not None and not all(k.strip().isdigit() and int(k) for k in ks.split(",")):
        raise InputError(f"--ks {ks}: whole numbers from 1, with commas between")
    embedder = load(run)
    config = RunFolder(run).read_config()
    depths = config.evaluate_ks if ks is None else tuple(int(k) for k in ks.split(","))
    with console.status("reading the data"):
        test = read(config).test if data is None else all_of(data)
        if protocol == "re-identification" and any(search.gallery is not None for search in test.searches):
            raise InputError("--protocol re-identification draws its own gallery: this benchmark comes with one")
        check_images(test.part.records)
    with _progress() as progress:
        task = progress.add_task("embedding", total=len(test.part.records), note="")
        embeddings = embedder.embed(
            test.part.images,
            chunk_size=config.chunk_size,
            workers=workers_of(config),
            advance=lambda n: progress.advance(task, n),
        )
    title = f"{len(test.part.labels):,} images of {len(test.part.classes):,} classes"
    if protocol == "re-identification":
        table = Table(f"{title}: one gallery image each", "mean %", "spread")
        for search in test.searches:
            of_search = embeddings[search.queries], test.part.labels[search.queries]
            for name, (mean, spread) in re_identification(*of_search, depths).items():
                table.add_row(f"{search.name} {name}".strip(), f"{100 * mean:.2f}", f"{100 * spread:.2f}")
    else:
        with console.status("ranking and clustering"):
            metrics = rate(embeddings, test.part.labels, test.searches, depths)
            clusters = nmi(embeddings, test.part.labels)
        table = Table(title, "%")
        for name, value in metrics.items():
            table.add_row(spoken(name, test.searches), f"{100 * value:.2f}")
        table.add_row("nmi" if len(test.searches) == 1 else "nmi of all images", f"{100 * clusters:.2f}")
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)


@app.command()
@_with_config_options
def compare(
    recipe: Annotated[str | None, typer.Argument(help="a shipped recipe's name, or a YAML file")] = None,
    losses: Annotated[
        str | None, typer.Option(help=f"losses by name, with commas between; {OURS}{MIXUP} is ours with mixup")
    ] = None,
    sweep: Annotated[str | None, typer.Option(help="or values of a setting: batch_size=64,256,1024")] = None,
    ablation: Annotated[
        str | None, typer.Option(help=f"or an ablation: {', '.join(ablations())}, or a YAML file of contenders")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs of each that count")] = 3,
    rates: Annotated[
        str, typer.Option(help="multiples of the learning rate that are tried for each, on validation classes")
    ] = "0.3,1,3",
    searches: Annotated[int, typer.Option(min=1, help="runs of each of these rates, where one tells too little")] = 1,
    budget: Annotated[
        str, typer.Option(help="the same for each: images (as many as the recipe's epochs), or minutes, as 5min")
    ] = "images",
    at_once: Annotated[int, typer.Option(min=1, help="runs at a time; they share the processor's cores")] = 1,
    run: Annotated[
        Path | None, typer.Option(help="folder of the comparison; what is finished there is kept  [runs/compare-...]")
    ] = None,
    finished: Annotated[
        list[Path] | None,
        typer.Option("--from", help="only make the table and page of this folder; several: given again, into --run"),
    ] = None,
    **overrides: str | None,
) -> None:
    """Train several losses, or several values of a setting, under one budget; print a table and write a page."""
    from recallk.training.compare import Comparison, minutes_of

    if finished:
        if run is None and len(finished) > 1:
            raise InputError("--from several folders: say with --run where their table and page should go")
        _show_comparison(finished, run or finished[0])
        return
    if sum(choice is not None for choice in (losses, sweep, ablation)) != 1:
        raise InputError("give --losses a,b,c, or --sweep KEY=VALUE,VALUE,..., or --ablation NAME: one of them")
    try:
        factors = [float(factor) for factor in rates.split(",")]
    except ValueError:
        raise InputError(f"--rates {rates}: numbers with commas between") from None
    if losses is not None:
        contenders = losses_as_contenders(losses.split(","))
    else:
        contenders = sweep_as_contenders(sweep) if sweep is not None else ablation_as_contenders(ablation or "")
    values = (find(recipe).values if recipe else {}) | _given(overrides)
    config = _with_whole_path(make_config(values))
    values["data"] = config.data
    what = "losses" if losses is not None else Path(ablation).stem if ablation else contenders[0].name.partition("=")[0]
    run = run or Path("runs") / f"compare-{_name_of(recipe, config)}-{what}"
    comparison = Comparison(
        run, values, contenders, factors, seeds, searches=searches, minutes=minutes_of(budget), at_once=at_once
    )
    total = len(contenders) * (seeds + (searches * len(factors) if len(factors) > 1 else 0) + (budget != "images"))
    console.print(f"{len(contenders)} contenders, at most {total} runs, each with its best epoch on validation classes")
    console.print(f"interrupted, the same command goes on; all is in {run}", soft_wrap=True)
    started = time.perf_counter()
    for number, job in enumerate(comparison.run(), 1):
        minutes = (time.perf_counter() - started) / 60
        console.print(f"{minutes:5.1f} min  run {number}: {job.contender.name}, {job.name}", soft_wrap=True)
    _show_comparison([run], run)


def _show_comparison(folders: Sequence[Path], into: Path) -> None:
    from recallk.report.comparison import report_comparison, save_table
    from recallk.report.terminal import show_comparison
    from recallk.training.outcomes import outcomes

    found = outcomes(folders)
    show_comparison(console, found)
    into.mkdir(parents=True, exist_ok=True)
    page, numbers = into / "comparison.html", into / "comparison.csv"
    save_table(found, numbers)
    with console.status("writing the page"):
        report_comparison(found, page)
    console.print(f"look at   {page}\nnumbers   {numbers}", soft_wrap=True)


@recipes_app.callback(invoke_without_command=True)
def recipes(context: typer.Context) -> None:
    """List the recipes with the numbers published for them."""
    if context.invoked_subcommand is not None:
        return
    table = Table("recipe", "what it trains", "published")
    for recipe in shipped():
        numbers = ", ".join(f"{name} {value:.1f}" for name, value in recipe.published.items())
        table.add_row(recipe.name, recipe.title, numbers)
    console.print(table)
    console.print("run one with   recallk train NAME --data PATH      see all of it with   recallk recipes show NAME")


@recipes_app.command("show")
def show_recipe(name: Annotated[str, typer.Argument(help="a recipe's name")]) -> None:
    """Print a recipe, ready to be saved, changed and given to `recallk train`."""
    recipe = find(name)
    print(f"recipe: {recipe.name}  # whose published numbers a run is shown beside\n{recipe.text}", end="")


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
    console.print(f"drawn in {picture}", soft_wrap=True)


def _places(queries: list[Path], place: dict[Path, int]) -> Any:
    """Where a query is itself in the gallery, it is not its own result."""
    import torch

    return torch.tensor([place.get(query.resolve(), -1) for query in queries])


@data_app.command("list")
def list_data() -> None:
    """List the benchmarks: what each is, its size and terms, and where its owners offer it."""
    from recallk.data.catalogue import BENCHMARKS

    table = Table("name", "what it is, size, terms, home", show_lines=True)
    table.columns[1].overflow = "fold"
    for benchmark in BENCHMARKS.values():
        home = benchmark.home.replace(", ", "\n")
        about = f"{benchmark.title}: {benchmark.what}\nsize: {benchmark.size}\nterms: {benchmark.terms}\n{home}"
        table.add_row(benchmark.name, escape(about))
    console.print(table)
    console.print("is yours whole?   recallk data check NAME --data PATH")


@data_app.command("check")
def check_data(
    name: Annotated[str, typer.Argument(help="a benchmark's name, as in `recallk data list`")],
    data: Annotated[Path, typer.Option(help="the folder that its archive unpacks to, or the one above")],
    every: Annotated[bool, typer.Option("--all", help="open every image, not a sample of 1,000")] = False,
) -> None:
    """Check a benchmark on disk: what is missing or broken, and its counts beside the published ones."""
    from recallk.data.catalogue import benchmark_named
    from recallk.data.check import OPENED, check

    benchmark = benchmark_named(name)
    with _progress() as progress:
        task = progress.add_task("opening images", total=None, note="reading the lists")
        found = check(
            benchmark,
            data.expanduser(),
            None if every else OPENED,
            lambda done, total: progress.update(task, completed=done, total=total, note=""),
        )
    table = Table("split", "images", "published", "classes", "published", "")
    for row in found.counts:
        figures = (row.images, row.published.images, row.classes, row.published.classes)
        table.add_row(row.split, *(f"{figure:,}" for figure in figures), row.verdict)
    for column in table.columns[1:5]:
        column.justify = "right"
    console.print(table)
    problems = found.findings.problems
    for kind, count in found.findings.met.items():
        console.print(f"{kind}: {count:,}", style="bold")
        for problem in [problem for problem in problems if problem.kind == kind][:PROBLEMS_SHOWN]:
            console.print(f"  {escape(str(problem))}", soft_wrap=True)
        if count > PROBLEMS_SHOWN:
            console.print(f"  and {count - PROBLEMS_SHOWN:,} more")
    opened = f"{found.opened:,} of {found.files:,} images opened" + ("" if found.opened == found.files else " (--all)")
    errors = found.findings.error_count
    if errors:
        verdict = f"{errors:,} {'error' if errors == 1 else 'errors'}: training does not start until mended"
    else:
        differs = "no errors, but the counts are not the published ones"
        unconfirmed = "nothing is wrong, though unconfirmed figures differ"
        same = all(row.same for row in found.counts)
        verdict = "all is right" if same else unconfirmed if found.right else differs
    console.print(f"{benchmark.title}: {verdict}; {opened}", soft_wrap=True)
    if errors:
        raise typer.Exit(2)


if __name__ == "__main__":
    main()
