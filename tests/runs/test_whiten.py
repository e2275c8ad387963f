"""A whitening is fitted to a run's embeddings of given data, stored with the model, and used by whatever embeds."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from recallk import InputError, evaluate, load, report, search, whiten
from recallk.core.lock import locked
from recallk.data.source import read_items, read_own
from recallk.models.saved import load_network
from recallk.models.whitening import Fitted, learned_whitening, pairs_of_classes, pca_whitening
from recallk.runs.folder import RunFolder
from recallk.runs.whiten import remove_whitening
from recallk.training.train import resume, train
from tests.training.test_trainer import SMALL, save_patterns

TINY: dict[str, Any] = SMALL | {"image_size": 16, "resize": 16, "select": "last", "epochs": 1, "evaluate_ks": (1, 3)}
public: Any = whiten


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_patterns(tmp_path_factory.mktemp("pictures"), classes=8, images=4)


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run: Path = tmp_path_factory.mktemp("runs") / "run"
    train(TINY | {"data": str(pictures)}, run)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def paths(pictures: Path) -> list[Path]:
    return sorted(pictures.rglob("*.png"))


def embedded(run: Path, pictures: Path, **options: Any) -> torch.Tensor:
    """Return the embeddings without a whitening, made as `whiten` makes them."""
    return load_network(run).embed(paths(pictures), chunk_size=7, **options)


def test_pca_is_fitted_to_all_items_and_comes_last(run: Path, pictures: Path) -> None:
    found = whiten(run, str(pictures), dimension=5, power=0.25, scales=(1, 0.5))
    plain = embedded(run, pictures, scales=(1, 0.5))
    expected = pca_whitening(plain, 5, 0.25)
    torch.testing.assert_close(found.whitening.projection, expected.projection)
    assert (found.items, found.size, list(found.notes)) == ("32 images", 16, [])
    assert found.whitening.fitted == Fitted("pca", 0.25, (1.0, 0.5), str(pictures), 32)
    embeddings = load(run).embed(paths(pictures), scales=(1, 0.5), chunk_size=7)
    torch.testing.assert_close(embeddings, expected(plain), rtol=0, atol=1e-5)
    assert embeddings.shape == (32, 5)


def test_learned_takes_items_of_a_class_as_pairs(run: Path, pictures: Path) -> None:
    found = whiten(run, str(pictures), method="learned")
    plain, labels = embedded(run, pictures), torch.arange(8).repeat_interleave(4)
    expected = learned_whitening(plain, *pairs_of_classes(labels), 16)
    torch.testing.assert_close(found.whitening(plain), expected(plain), rtol=0, atol=1e-5)
    assert found.whitening.dimension == 16


def test_fitting_again_replaces_it_and_never_comes_on_top(run: Path, pictures: Path) -> None:
    first = whiten(run, str(pictures), dimension=5)
    whiten(run, str(pictures), dimension=9, power=0.1)
    again = whiten(run, str(pictures), dimension=5)
    assert torch.equal(first.whitening.projection, again.whitening.projection)
    assert load(run).embedding_size == 5
    assert len(list((run / "model").iterdir())) == 3
    assert not RunFolder(run)._sorted()[1], "a run's own file"


def test_pca_takes_images_without_classes(run: Path, pictures: Path, tmp_path: Path) -> None:
    for number, path in enumerate(paths(pictures)[:6]):
        shutil.copy(path, tmp_path / f"{number}.png")
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in tmp_path.glob("*.png"):
        file.rename(flat / file.name)
    assert whiten(run, str(flat), dimension=2).items == "6 images"
    with pytest.raises(InputError):
        whiten(run, str(flat), method="learned", dimension=2)


def test_a_table_will_do(run: Path, pictures: Path, tmp_path: Path) -> None:
    rows = [f"{path},{path.parent.name}" for path in paths(pictures)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows[:12]]))
    for method in ("pca", "learned"):
        assert public(run, str(tmp_path / "table.csv"), method=method, dimension=2).items == "12 images"


def test_items_whose_classes_do_not_matter(pictures: Path, tmp_path: Path) -> None:
    assert list(read_items(str(pictures))[0]) == [record.item for record in read_own(str(pictures))[0]]
    table = tmp_path / "table.csv"
    rows = [f"{path},{path.parent.name},{'train' if n < 5 else 'test'}" for n, path in enumerate(paths(pictures)[:12])]
    table.write_text("\n".join(["path,label,split", *rows]))
    items, notes = read_items(str(table))
    assert list(items) == paths(pictures)[:5], "never fitted to what is tested on"
    assert [note.message for note in notes] == ["7 items that are not to train on are left out"]
    with pytest.raises(InputError, match="nothing there"):
        read_items(str(tmp_path / "nothing there"))


# what uses it


def test_evaluate_uses_it_and_says_so(run: Path, pictures: Path) -> None:
    before = evaluate(run)
    assert before.conditions == ()
    whiten(run, str(pictures), dimension=2)
    after = evaluate(run)
    assert list(after.conditions) == [
        "scale 1",
        f"then whitened, to 2 dimensions (pca, fitted to 32 images of {pictures})",
    ]
    assert before.metrics != after.metrics
    (_, told) = evaluate(run, scales=(1, 0.5)).conditions
    assert told.endswith(", at other scales than here: 1)")
    remove_whitening(run)
    assert evaluate(run).metrics == before.metrics
    assert list(evaluate(run, scales=(1, 0.5)).conditions) == ["scales 1, 0.5", "no whitening after training"]


def test_search_and_report_use_it(run: Path, pictures: Path) -> None:
    query = paths(pictures)[0]
    before = search(run, [query], pictures, k=5, workers=0).similarities
    whiten(run, str(pictures), dimension=2)
    assert not torch.equal(search(run, [query], pictures, k=5, workers=0).similarities, before)
    assert report(run) == []
    assert "then whitened, to 2 dimensions" in (run / "report.html").read_text()


def test_training_on_removes_it(run: Path, pictures: Path) -> None:
    """It was fitted to weights that are no longer there."""
    whiten(run, str(pictures), dimension=2)
    resume(run, {"epochs": 2})
    assert load(run).embedding_size == 16
    assert not (run / "model" / "whitening.safetensors").exists()


def test_the_model_of_an_earlier_version_gets_one(run: Path, pictures: Path) -> None:
    plain = embedded(run, pictures)
    save_file(load(run).state_dict(), run / "model.safetensors")
    shutil.rmtree(run / "model")
    found = whiten(run, str(pictures), dimension=3)
    torch.testing.assert_close(load(run).embed(paths(pictures), chunk_size=7), found.whitening(plain))


# what goes wrong


WRONG: dict[str, Callable[[Path, Path], Any]] = {
    "method='zca': one of pca, learned": lambda run, data: public(run, str(data), method="zca"),
    "dimension=17: from 1 to 16": lambda run, data: whiten(run, str(data), dimension=17),
    "dimension=0: from 1 to 16": lambda run, data: whiten(run, str(data), dimension=0),
    "dimension=True: from 1 to 16": lambda run, data: whiten(run, str(data), dimension=True),
    "power=2: a number from 0": lambda run, data: whiten(run, str(data), power=2),
    "power=0.3 is for the method pca": lambda run, data: whiten(run, str(data), power=0.3, method="learned"),
    "scales=(): ": lambda run, data: whiten(run, str(data), scales=()),
    "nowhere": lambda run, data: whiten(run, str(data / "nowhere")),
    "no config.yaml": lambda run, data: whiten(data, str(data)),
    "a path is needed, not 5": lambda run, data: public(5, str(data)),
    "a path is needed, not None": lambda run, data: public(run, None),
}


@pytest.mark.parametrize("told", WRONG)
def test_what_does_not_fit_is_one_line_and_changes_nothing(run: Path, pictures: Path, told: str) -> None:
    with pytest.raises(InputError) as caught:
        WRONG[told](run, pictures)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in (run / "model").iterdir()) == ["embedder.json", "weights.safetensors"]
    assert not list(pictures.glob(".lock"))


def test_a_broken_image_is_named(run: Path, pictures: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(pictures, tmp_path / "data"))
    paths(data)[3].write_bytes(b"no image")
    with pytest.raises(InputError, match=paths(data)[3].name):
        whiten(run, str(data))


def test_images_all_alike_give_nothing_to_fit(run: Path, tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    for number in range(3):
        Image.new("RGB", (20, 20), (90, 90, 90)).save(tmp_path / "grey" / f"{number}.png")
    with pytest.raises(InputError, match="3 descriptors, all alike"):
        whiten(run, str(tmp_path / "grey"))


def test_not_while_the_run_is_trained(run: Path, pictures: Path) -> None:
    with locked(run):
        for call in (lambda: whiten(run, str(pictures)), lambda: remove_whitening(run)):
            with pytest.raises(InputError, match="in use"):
                call()


def test_a_damaged_one_is_fitted_again_or_removed(run: Path, pictures: Path) -> None:
    file = run / "model" / "whitening.safetensors"
    file.write_bytes(b"damaged")
    with pytest.raises(InputError, match="fit it again"):
        load(run)
    whiten(run, str(pictures), dimension=3)
    assert load(run).embedding_size == 3
    file.write_bytes(b"damaged")
    remove_whitening(run)
    assert load(run).embedding_size == 16
    with pytest.raises(InputError, match="its model has no whitening"):
        remove_whitening(run)
