"""Every option of every command does something: none is without a test that fails where it does nothing."""

import ast
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from recallk import InputError
from recallk.cli import app
from recallk.cli.commands import COMMANDS, load_command
from recallk.runs.config import KEYS, make_config
from recallk.runs.folder import RunFolder
from recallk.runs.image_config import ImageTrainConfig
from recallk.runs.recipes import find_recipe
from recallk.runs.train_config import TrainConfig
from recallk.training.trainer import Trainer
from tests.miniature_run import Miniature
from tests.test_options import EFFECT

ROOT = Path(__file__).parents[2]
RECALLK: Any = typer.main.get_command(app)
OF_SCALES = "tests/cli/test_command_options.py::test_the_scales_of_images_reach_the_embedder"
OF_WHITEN = "tests/cli/test_command_options.py::test_an_option_of_whiten_reaches_the_fit"
OF_EMBED = "tests/cli/test_embed.py::test_an_option_of_embed_reaches_the_embedding"
OF_COMPARE = "tests/cli/test_command_options.py::test_an_option_of_compare_reaches_the_comparison"

COVERED: dict[tuple[str, str], str] = {
    ("recallk", "--version"): "tests/test_package.py::test_the_version",
    ("recallk", "--verbose"): "tests/cli/test_console.py::test_verbose_says_what_is_done_on_stderr",
    ("demo", "--run"): "tests/cli/test_command_options.py::test_the_folder_of_a_run",
    ("demo", "--overwrite"): "tests/cli/test_command_options.py::test_a_demo_is_replaced_only_when_told_to",
    ("train", "--run"): "tests/cli/test_command_options.py::test_the_folder_of_a_run",
    ("train", "--resume"): "tests/cli/test_mistakes.py::test_a_finished_run_can_be_lengthened",
    ("train", "--explain"): "tests/training/test_choices.py::test_a_plan_and_a_run_have_what_was_chosen",
    ("train", "--dry-run"): "tests/test_benchmark_runs.py::test_a_dry_run_trains_nothing",
    ("evaluate", "--data"): "tests/cli/test_cli.py::test_evaluate_other_images",
    ("evaluate", "--ks"): "tests/cli/test_cli.py::test_evaluate",
    ("evaluate", "--protocol"): "tests/test_benchmark_runs.py::test_a_quick_look_at_a_few_classes",
    ("evaluate", "--scales"): OF_SCALES,
    ("evaluate", "--benchmark"): "tests/cli/test_evaluate_instances.py::test_a_run",
    ("evaluate", "--distractors"): "tests/cli/test_evaluate_instances.py::test_a_run",
    ("evaluate", "--descriptors"): "tests/cli/test_evaluate_instances.py::test_given_descriptors",
    ("evaluate", "--uncropped"): "tests/cli/test_evaluate_instances.py::test_a_run",
    ("evaluate", "--qrels"): "tests/runs/test_judged.py::test_by_another_list_and_by_query",
    ("evaluate", "--by-query"): "tests/runs/test_judged.py::test_by_another_list_and_by_query",
    ("search", "--scales"): OF_SCALES,
    ("whiten", "--scales"): OF_SCALES,
    ("whiten", "--data"): OF_WHITEN,
    ("whiten", "--method"): OF_WHITEN,
    ("whiten", "--dimension"): OF_WHITEN,
    ("whiten", "--power"): OF_WHITEN,
    ("whiten", "--remove"): "tests/cli/test_command_options.py::test_a_whitening_is_fitted_used_and_removed",
    **{
        ("embed", option): OF_EMBED
        for option in (
            "--output",
            "--backbone",
            "--run",
            "--dtype",
            "--overwrite",
            "--weights",
            "--pooling",
            "--image-size",
            "--image-shape",
            "--resize",
            "--interpolation",
            "--mean",
            "--std",
            "--dataset",
            "--items",
            "--chunk-size",
            "--workers",
            "--accelerator",
        )
    },
    ("compose", "--output"): "tests/cli/test_embed.py::test_from_images_to_a_head_to_a_model",
    ("compare", "--losses"): OF_COMPARE,
    ("compare", "--sweep"): OF_COMPARE,
    ("compare", "--ablation"): OF_COMPARE,
    ("compare", "--seeds"): OF_COMPARE,
    ("compare", "--rates"): OF_COMPARE,
    ("compare", "--searches"): OF_COMPARE,
    ("compare", "--budget"): OF_COMPARE,
    ("compare", "--at-once"): OF_COMPARE,
    ("compare", "--run"): OF_COMPARE,
    ("compare", "--from"): "tests/cli/test_cli.py::test_compare_ends_with_a_table_a_page_and_numbers",
    ("search", "--gallery"): "tests/cli/test_cli.py::test_search_leaves_the_query_out",
    ("search", "--k"): "tests/cli/test_command_options.py::test_as_many_results_as_asked_for",
    ("search", "--picture"): "tests/cli/test_cli.py::test_search_leaves_the_query_out",
    ("search", "--where"): "tests/cli/test_index.py::test_lines_of_json",
    ("search", "--json"): "tests/cli/test_index.py::test_lines_of_json",
    ("search", "--together"): "tests/cli/test_index.py::test_several_queries_together",
    ("index build", "--output"): "tests/cli/test_index.py::test_building_says_what_there_is_and_how_to_search",
    ("index build", "--dtype"): "tests/cli/test_index.py::test_the_numbers_that_vectors_are_stored_as",
    ("index build", "--workers"): "tests/cli/test_index.py::test_readers_are_started",
    ("index add", "--workers"): "tests/cli/test_index.py::test_adding_updating_and_removing",
    ("index update", "--workers"): "tests/cli/test_index.py::test_adding_updating_and_removing",
    ("index update", "--remove-missing"): "tests/cli/test_index.py::test_adding_updating_and_removing",
    ("search", "--approximate"): "tests/cli/test_index.py::test_an_approximate_search_says_what_it_finds",
    ("serve", "--approximate"): "tests/serve/test_command.py::test_an_approximate_search_is_served",
    ("search", "--model"): "tests/cli/test_index.py::test_a_catalogue_is_pushed_and_searched_where_it_is",
    ("serve", "--model"): "tests/serve/test_command.py::test_a_collection_is_served_with_a_model",
    ("index push", "--to"): "tests/cli/test_index.py::test_a_catalogue_is_pushed_and_searched_where_it_is",
    ("index approximate", "--kind"): "tests/cli/test_index.py::test_an_approximate_search_says_what_it_finds",
    ("index approximate", "--recall"): "tests/cli/test_index.py::test_an_approximate_search_says_what_it_finds",
    ("index approximate", "--k"): "tests/cli/test_index.py::test_an_approximate_search_says_what_it_finds",
    ("index duplicates", "--least"): "tests/cli/test_index.py::test_duplicates_and_outliers",
    ("index duplicates", "--csv"): "tests/cli/test_index.py::test_duplicates_and_outliers",
    ("index outliers", "--most"): "tests/cli/test_index.py::test_duplicates_and_outliers",
    ("index outliers", "--csv"): "tests/cli/test_index.py::test_duplicates_and_outliers",
    ("index build", "--columns"): "tests/cli/test_index.py::test_a_table_with_columns_of_its_own",
    ("index build", "--root"): "tests/cli/test_index.py::test_a_table_with_columns_of_its_own",
    ("index add", "--columns"): "tests/cli/test_index.py::test_a_table_with_columns_of_its_own",
    ("index add", "--root"): "tests/cli/test_index.py::test_a_table_with_columns_of_its_own",
    ("index update", "--columns"): "tests/cli/test_index.py::test_a_table_with_columns_of_its_own",
    ("index update", "--root"): "tests/cli/test_index.py::test_a_table_with_columns_of_its_own",
    ("serve", "--host"): "tests/serve/test_command.py::test_another_address_is_said_to_be_open_to_all",
    ("serve", "--port"): "tests/serve/test_command.py::test_a_port_that_is_taken_is_told",
    ("data check", "--data"): "tests/data/benchmarks/test_check.py::test_check_shows_counts_problems_and_a_verdict",
    (
        "data check",
        "--csv",
    ): "tests/data/test_own_check.py::test_the_command_tells_it_and_ends_by_whether_files_are_broken",
    ("data check", "--image-size"): (
        "tests/data/test_own_check.py::test_the_command_tells_it_and_ends_by_whether_files_are_broken"
    ),
    ("embed", "--columns"): "tests/data/test_layout.py::test_a_run_is_measured_reported_whitened_embedded_and_searched",
    ("embed", "--root"): "tests/data/test_layout.py::test_a_run_is_measured_reported_whitened_embedded_and_searched",
    ("embed", "--max-length"): "tests/cli/test_texts.py::test_vectors_of_texts_and_a_head_composed",
    ("data check", "--columns"): "tests/data/test_layout.py::test_a_table_is_checked",
    ("data check", "--root"): "tests/data/test_layout.py::test_a_table_is_checked",
    ("data check", "--all"): "tests/cli/test_command_options.py::test_all_images_are_opened_when_told_to",
}


class Reached(Exception):  # noqa: N818
    """Raised where a command would begin its work; holds what it would work with."""


def reach(*words: object) -> Any:
    """Run a command up to where it begins its work; return what it would work with."""
    with pytest.raises(Reached) as reached:
        RECALLK([str(word) for word in words], standalone_mode=False)
    return reached.value.args[0]


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command and group with its name as it is typed; the program itself as recallk."""
    yield "recallk", RECALLK
    for name in COMMANDS:
        command = load_command(name)
        yield name, command
        for part, below in getattr(command, "commands", {}).items():
            yield f"{name} {part}", below


def options(command: Any) -> Iterator[Any]:
    """Yield the options, --help left out."""
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            yield parameter


OF_KEYS = {
    name: {option.name: option for option in options(command) if option.name in KEYS}
    for name, command in commands()
    if name in ("train", "compare")
}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return Miniature(tmp_path_factory.mktemp("miniature"))


def test_every_option_names_a_test() -> None:
    found = {
        (name, option.opts[0])
        for name, command in commands()
        for option in options(command)
        if option.name not in OF_KEYS.get(name, {})
    }
    assert found == COVERED.keys()


@pytest.mark.parametrize("test", sorted(set(COVERED.values())))
def test_the_named_tests_are_there(test: str) -> None:
    file, name = test.split("::")
    assert name in {
        node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)
    }


def test_train_and_compare_have_an_option_for_each_key() -> None:
    for found in OF_KEYS.values():
        assert found.keys() == KEYS.keys() - {"recipe"}


def test_help_tells_choices_and_defaults_of_images_and_of_vectors() -> None:
    told = {name: option.help.replace("\\", "") for name, option in OF_KEYS["train"].items()}
    assert told["epochs"] == (
        "times through the data; by default 30, or as many as make 400 steps (200 from pretrained weights)"
    )
    assert told["chunk_size"].endswith("tried before the run begins [128; of vectors 2048]")
    assert told["learning_rate"] == (
        "by default 0.003 with weights=none, else 0.0006; of texts 2e-05, and 0.2 for a static model [of vectors 0.003]"
    )
    assert told["schedule"].endswith("where some are given (milestones, cosine, exponential)")
    assert told["select"].endswith("classes would be set aside (validation, test, last)")
    assert told["head"].endswith("or mlp (linear, whitening, none, residual, mlp) [linear]")
    assert told["items"].endswith("is a file of them (images, vectors, texts)")
    assert told["image_size"].endswith("[224]")
    assert told["seed"].endswith("[1]"), "the same for both"
    assert told["resize"].endswith("with image_shape=keep"), "no number"


def typed(option: Any, value: Any) -> list[str]:
    """Return a key's value as a person types it."""
    if option.is_flag:
        return [(option.opts if value else option.secondary_opts)[0]]
    return [option.opts[0], ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]


@pytest.mark.parametrize("command", OF_KEYS)
@pytest.mark.parametrize("key", sorted(ImageTrainConfig.model_fields.keys() - {"recipe", "items"}))
def test_the_option_of_a_key_reaches_the_configuration(
    mini: Miniature, command: str, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def prepared(config: TrainConfig, *_: Any) -> None:
        raise Reached(config)

    def compared(config: dict[str, Any], *_: Any, **__: Any) -> None:
        raise Reached(make_config(config))

    begin = {"train": "recallk.training.train.in_processes_of", "compare": "recallk.comparison.compare.compare"}
    monkeypatch.setattr(begin[command], prepared if command == "train" else compared)
    monkeypatch.chdir(tmp_path)
    effect, found = EFFECT[key], OF_KEYS[command]
    values = mini.values() | dict(effect.beside)
    without = getattr(make_config(values), key)
    chosen = [
        v for v in effect.values if v is not None and getattr(mini.config(**effect.beside, **{key: v}), key) != without
    ]
    words = [command, *(["--losses", "recall@k"] if command == "compare" else [])]
    for name, value in values.items():
        words += typed(found[name], value) if value is not None else []
    assert getattr(reach(*words), key) == without
    for value in chosen:
        config = reach(*words, *typed(found[key], mini.real(key, value)))
        assert getattr(config, key) == getattr(mini.config(**effect.beside, **{key: value}), key) != without
    assert chosen


def test_the_folder_of_a_run(mini: Miniature, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def training(plan: Any, folder: RunFolder) -> None:
        raise Reached(folder.path)

    small = dataclasses.replace(find_recipe("demo"), values=mini.values() | {"recipe": "demo"})
    monkeypatch.setattr("recallk.cli.train.find_recipe", lambda _: small)
    monkeypatch.setattr("recallk.training.train.Trainer", training)
    monkeypatch.chdir(tmp_path)
    for command in (["demo"], ["train", "demo"]):
        assert reach(*command) == Path("runs/demo")
        assert reach(*command, "--run", tmp_path / "other") == tmp_path / "other"


def test_a_demo_is_replaced_only_when_told_to(mini: Miniature, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def training(plan: Any, folder: RunFolder) -> None:
        raise Reached(folder.path.exists())

    small = dataclasses.replace(find_recipe("demo"), values=mini.values() | {"recipe": "demo"})
    monkeypatch.setattr("recallk.cli.train.find_recipe", lambda _: small)
    list(Trainer(mini.plan(recipe="demo"), RunFolder(tmp_path / "run")).rows())
    monkeypatch.setattr("recallk.training.train.Trainer", training)
    with pytest.raises(InputError, match="exists already"):
        RECALLK(["demo", "--run", str(tmp_path / "run")], standalone_mode=False)
    assert (tmp_path / "run" / "model" / "weights.safetensors").exists()
    assert reach("demo", "--run", tmp_path / "run", "--overwrite") is False


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (["--losses", "recall@k+mixup,contrastive"], "losses", ["recall@k+mixup", "contrastive"]),
        (["--sweep", "batch_size=4,6"], "sweep", "batch_size=4,6"),
        (["--sweep", " batch-size=4,6"], "run", Path("runs/compare-DATA-batch_size")),
        (["--ablation", "mixup"], "ablation", "mixup"),
        (["--ablation", "batch-size"], "run", Path("runs/compare-DATA-batch-size")),
        (["--losses", "contrastive", "--seeds", "7"], "seeds", 7),
        (["--losses", "contrastive", "--rates", "0.5,2,8"], "rates", [0.5, 2, 8]),
        (["--losses", "contrastive", "--searches", "4"], "searches", 4),
        (["--losses", "contrastive", "--budget", "2.5min"], "budget", "2.5min"),
        (["--losses", "contrastive", "--at-once", "3"], "at_once", 3),
        (["--losses", "contrastive", "--run", "somewhere"], "run", Path("somewhere")),
    ],
)
def test_an_option_of_compare_reaches_the_comparison(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, words: list[str], name: str, expected: Any
) -> None:
    """What the comparison does with it is tested beside the comparison."""

    def compared(config: Any, run: Path, **told: Any) -> None:
        raise Reached(told | {"run": run})

    monkeypatch.setattr("recallk.comparison.compare.compare", compared)
    told = reach("compare", "--data", mini.data(), *words)
    if isinstance(expected, Path):
        expected = Path(str(expected).replace("DATA", mini.data().stem))
    assert told[name] == expected
    assert reach("compare", "--data", mini.data(), "--losses", "triplet")[name] != expected


def test_as_many_results_as_asked_for(mini: Miniature, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, gallery = tmp_path / "run", mini.data()
    list(Trainer(mini.plan(batch_size=None), RunFolder(run)).rows())
    query = next(gallery.rglob("*.png"))
    for k in (2, 3):
        words = ["search", run, query, "--gallery", gallery, "--picture", tmp_path / "found.png", "--k", k]
        RECALLK([str(word) for word in words], standalone_mode=False)
        printed = capsys.readouterr().out
        assert sum(" 0." in line or " 1.000" in line for line in printed.splitlines()) == k


@pytest.fixture(scope="module")
def run(mini: Miniature, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    path: Path = tmp_path_factory.mktemp("runs") / "run"
    list(Trainer(mini.plan(batch_size=None), RunFolder(path)).rows())
    return path


@pytest.mark.parametrize("command", ["evaluate", "search", "whiten"])
def test_the_scales_of_images_reach_the_embedder(
    mini: Miniature, run: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embedded(*_: Any, scales: Any, **__: Any) -> None:
        raise Reached(scales)

    monkeypatch.setattr("recallk.models.embedder.Embedder.embed", embedded)
    gallery = mini.data()
    searching: list[Any] = [next(gallery.rglob("*.png")), "--gallery", gallery]
    further = {"evaluate": [], "search": searching, "whiten": ["--data", gallery]}
    words = [run, *further[command]]
    assert reach(command, *words) == (1.0,)
    assert reach(command, *words, "--scales", "1, 0.7071,0.5") == (1.0, 0.7071, 0.5)
    for wrong in ("1,,2", "half", "0", "nan"):
        with pytest.raises(InputError, match="scales"):
            RECALLK([command, *map(str, words), "--scales", wrong], standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (["--data", "photos"], "data", "photos"),
        (["--data", "photos", "--method", "learned"], "method", "learned"),
        (["--data", "photos", "--dimension", "5"], "dimension", 5),
        (["--data", "photos", "--power", "0.25"], "power", 0.25),
    ],
)
def test_an_option_of_whiten_reaches_the_fit(
    monkeypatch: pytest.MonkeyPatch, words: list[str], name: str, expected: Any
) -> None:
    """What the fit does with it is tested beside it."""

    def whitened(run: Path, data: str, **told: Any) -> None:
        raise Reached(told | {"run": run, "data": data})

    monkeypatch.setattr("recallk.runs.whiten.whiten", whitened)
    told = reach("whiten", "run", *words)
    assert told["run"] == Path("run")
    assert told[name] == expected
    assert reach("whiten", "run", "--data", "others")[name] != expected


def test_a_whitening_is_fitted_used_and_removed(
    mini: Miniature, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "run"))

    def printed(*words: object) -> str:
        RECALLK([str(word) for word in words], standalone_mode=False)
        return capsys.readouterr().out

    told = printed("whiten", copied, "--data", mini.data(), "--dimension", "5", "--scales", "1,0.5")
    assert "whitening pca, to 5 of 8 dimensions, fitted to 96 images" in told
    assert f"evaluate  recallk evaluate {copied} --scales 1,0.5" in told.replace("\n", "")
    assert "then whitened, to 5 dimensions (pca, fitted to 96 images" in printed(
        "evaluate", copied, "--scales", "1,0.5"
    )
    for wrong, says in (
        (["--remove", "--power", "0.3"], "leave --power out"),
        ([], "no data: give --data PATH"),
        (["--data", mini.data(), "--dimension", "9"], "dimension=9: from 1 to 8"),
    ):
        with pytest.raises(InputError, match=says):
            printed("whiten", copied, *wrong)
    assert "removed   the whitening" in printed("whiten", copied, "--remove")
    assert "whitened" not in printed("evaluate", copied)


def test_all_images_are_opened_when_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.data.miniatures import make

    root = make("cub", tmp_path)
    monkeypatch.setattr("recallk.data.check.SAMPLE", 7)
    for words, opened in ([], "7 of 60 images opened (--all)"), (["--all"], "60 of 60 images opened"):
        RECALLK(["data", "check", "cub", "--data", str(root), *words], standalone_mode=False)
        assert opened in capsys.readouterr().out.replace("\n", " ")
