"""The head over standardised vectors: against NumPy, whatever holds the vectors, and what cannot be embedded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recallk import InputError, load
from recallk.data.vectors import VectorRows, VectorTable
from recallk.models.saved import save
from recallk.models.settings import VectorSettings
from recallk.models.vector_embedder import VectorEmbedder

X = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)


def made(inputs: int = 6, **changes: Any) -> VectorEmbedder:
    torch.manual_seed(0)
    return VectorEmbedder(VectorSettings(**({"input_size": inputs, "embedding_size": 4} | changes))).eval()


def table_of(array: NDArray[Any], path: Path = Path("v.npy")) -> VectorRows:
    return VectorRows(VectorTable(path, array), np.arange(len(array)))


def expected(embedder: VectorEmbedder, vectors: NDArray[Any]) -> NDArray[Any]:
    """What NumPy makes of vectors with the same numbers, in float64."""
    state = {name: value.double().numpy() for name, value in embedder.state_dict().items()}
    standard = (vectors.astype(np.float64) - state["mean"]) / state["deviation"]
    found = standard @ state["head.weight"].T + state["head.bias"]
    result: NDArray[Any] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return result


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 40),
    offset=st.sampled_from([0.0, 1.0, -300.0, 1e4]),
    scale=st.sampled_from([1e-2, 1.0, 50.0]),
    half=st.booleans(),
    constant=st.lists(st.integers(0, 5), max_size=3),
)
def test_mean_and_deviation_are_those_of_numpy(
    rows: int, offset: float, scale: float, half: bool, constant: list[int]
) -> None:
    array = (offset + scale * X[:rows]).astype(np.float16 if half else np.float32)
    array[:, constant] = array[:1, constant]
    if not array.any(1).all():
        return
    embedder = made()
    embedder.standardise(table_of(array))
    mean, deviation = array.astype(np.float64).mean(0), array.astype(np.float64).std(0)
    floor = 1e-4 * np.sqrt(np.square(deviation).mean())
    constant = (deviation == 0) | (deviation <= 1e-6 * abs(mean))
    deviation = np.where(constant, 1, np.maximum(deviation, floor))
    assert np.allclose(embedder.mean.numpy(), mean, rtol=1e-6, atol=1e-7 * scale)
    assert np.allclose(embedder.deviation.numpy(), deviation, rtol=1e-5)


def test_a_dimension_of_rounding_noise_stays_small() -> None:
    array = X.copy()
    array[:, 2] *= 1e-8
    embedder = made()
    embedder.standardise(array)
    floor = 1e-4 * np.sqrt(array.astype(np.float64).var(0).mean())
    assert embedder.deviation[2].item() == pytest.approx(floor)
    assert np.allclose(embedder.deviation.numpy()[[0, 1, 3, 4, 5]], array.std(0)[[0, 1, 3, 4, 5]], rtol=1e-5)


def test_no_vectors_cannot_be_standardised_by() -> None:
    with pytest.raises(InputError, match="no vectors to standardise by"):
        made().standardise(X[:0])


def test_standardising_takes_many_rows_at_a_time_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = made(), made()
    one.standardise(table_of(X))
    monkeypatch.setattr("recallk.models.vector_embedder.ROWS", 7)
    other.standardise(VectorRows(VectorTable(Path("v.npy"), X), np.random.default_rng(1).permutation(50)))
    assert torch.allclose(one.mean, other.mean, atol=1e-7)
    assert torch.allclose(one.deviation, other.deviation, atol=1e-7)


def test_embeddings_are_those_of_numpy_and_of_unit_length() -> None:
    embedder = made()
    embedder.standardise(X)
    found = embedder.transform(X)
    assert found.dtype == torch.float32
    assert np.allclose(found.numpy(), expected(embedder, X), atol=1e-6)


@pytest.mark.parametrize("half", [False, True])
def test_arrays_tensors_lists_and_mapped_files_are_embedded_alike(tmp_path: Path, half: bool) -> None:
    array = X.astype(np.float16 if half else np.float32)
    np.save(tmp_path / "v.npy", array)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    embedder = made()
    embedder.standardise(array)
    right = embedder.transform(array)
    given: list[Any] = [mapped, table_of(mapped), list(table_of(mapped)), list(array), torch.from_numpy(array)]
    given += [array.astype(np.float64), np.asfortranarray(array), array.astype(array.dtype.newbyteorder(">"))]
    given += [array.tolist()]
    for vectors in given:
        assert torch.equal(embedder.transform(vectors), right), type(vectors)
    other = made()
    other.standardise(table_of(mapped))
    assert torch.equal(other.mean, embedder.mean)
    assert torch.equal(other.deviation, embedder.deviation)
    assert embedder.transform(np.empty((0, 6), np.float32)).shape == (0, 4)


def changed(value: float) -> NDArray[Any]:
    array = X.copy()
    array[7] = value
    return array


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (changed(np.nan), "vector 7: NaN or infinity"),
        (changed(np.inf), "vector 7: NaN or infinity"),
        (changed(0), "vector 7: zeros alone, which have no direction"),
        (X[:, :5], r"vectors of shape \(50, 5\): \(items, 6\) is needed"),
        (X[0], r"vectors of shape \(6,\)"),
        (np.ones((5, 6), np.int64), "vectors are whole numbers"),
        ("v.npy", "vectors are 'v.npy': an array"),
        (3, "vectors are 3: an array"),
        ([[1.0] * 6, [1.0] * 5], "vectors"),
        ([Path("a.png")], "vectors"),
        (np.ones((2, 6), object), "vectors"),
        (np.ones((2, 6), complex), "vectors"),
    ],
)
def test_what_cannot_be_embedded_is_one_line(vectors: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        made().transform(vectors)
    assert "\n" not in str(caught.value)


def test_vectors_that_cannot_be_embedded_are_found_in_standardising() -> None:
    with pytest.raises(InputError, match="vector 7: NaN"):
        made().standardise(changed(np.nan))


def test_vectors_of_a_file_that_cannot_be_embedded_are_named() -> None:
    rows = table_of(changed(np.nan))
    for vectors in (rows, rows[5:], list(rows)):
        for take in (made().standardise, made().embed):
            with pytest.raises(InputError, match=r"^v\.npy, row 8: NaN or infinity"):
                take(vectors)
    named = VectorTable(Path("v.npy"), rows.table.array, [f"id {n}" for n in range(50)])
    with pytest.raises(InputError, match=r"^v\.npy, id 7: NaN or infinity"):
        made().embed(VectorRows(named, rows.rows))


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_are_told_without_a_warning() -> None:
    array = X.astype(np.float64)
    array[7] = 1e300
    with pytest.raises(InputError, match="vector 7: NaN or infinity"):
        made().transform(array)


@pytest.mark.parametrize("other", [None, "runs/a"])
def test_a_head_comes_after_an_embedder_alone(other: Any) -> None:
    with pytest.raises(InputError, match=r"^after .*: the embedder that made the vectors is needed"):
        made().after(other)


@pytest.mark.parametrize("head", ["linear", "residual", "mlp"])
def test_a_saved_head_embeds_as_before(tmp_path: Path, head: str) -> None:
    embedder = made(head=head)
    embedder.standardise(X)
    save(embedder, tmp_path / "model")
    loaded = load(tmp_path)
    assert isinstance(loaded, VectorEmbedder)
    assert loaded.settings == embedder.settings
    assert torch.equal(loaded.transform(X), embedder.transform(X))


def test_before_training_stand_the_vectors_themselves() -> None:
    embedder = made()
    embedder.standardise(X)
    directions = X / np.linalg.norm(X, axis=1, keepdims=True)
    for scale in (1, 1e22, 1e-30):
        assert np.allclose(embedder.untrained().embed(scale * X), directions, atol=1e-6), scale
    assert embedder.embedding_size == 4, "and the embedder stays as it is"
    assert embedder.transform(X).shape == (50, 4)
    assert embedder.name == "a linear head over vectors of 6"
    assert embedder.settings.seen == "vectors of 6 numbers"
