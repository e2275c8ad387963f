"""Models of sentence-transformers as embedders: what they give, how they are built, saved and loaded."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recallk
from recallk import InputError, MissingExtraError
from recallk.models import fetching, sentence_model
from recallk.models.build import build
from recallk.models.saved import save
from recallk.models.sentence_model import load_model
from recallk.models.settings import TextSettings
from recallk.models.text_embedder import TextEmbedder
from recallk.training.large_batch import large_batch_backward
from tests.miniature_texts import offers, save_sentence_model

TEXTS = [text for text, _ in offers()][:40]


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    yield
    sentence_model.about.cache_clear()


def built(folder: Path, **changes: Any) -> TextEmbedder:
    embedder = build(TextSettings(backbone=str(folder), **changes)).eval()
    assert isinstance(embedder, TextEmbedder)
    return embedder


def stock(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def test_embeddings_are_those_of_the_model_in_whatever_chunks(sentence_model: Path) -> None:
    embedder = built(sentence_model)
    assert embedder.embedding_size == embedder.settings.embedding_size == 24
    found = embedder.embed(TEXTS)
    expected = stock(sentence_model).encode(TEXTS)
    assert np.abs(found.numpy() - expected).max() < 1e-6
    assert torch.allclose(found.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-6)
    alone = torch.cat([embedder.embed([text]) for text in TEXTS[:8]])
    assert torch.allclose(alone, found[:8], atol=1e-6), "without anything filled up"
    assert torch.allclose(embedder.embed(TEXTS, chunk_size=7), found, atol=1e-6)
    assert len({len(text.split()) for text in TEXTS}) > 3
    assert embedder.embed([]).shape == (0, 24)


def test_a_model_without_unit_length_gets_it_and_keeps_it(tmp_path: Path) -> None:
    embedder = built(save_sentence_model(tmp_path, normalize=False))
    save(embedder, tmp_path / "saved")
    assert np.allclose(np.linalg.norm(stock(tmp_path / "saved").encode(TEXTS), axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"embedding_size": 5}, {"max_length": 4}])
def test_the_saved_model_is_a_stock_one_and_ours(sentence_model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    embedder = built(sentence_model, **changes)
    with torch.no_grad():
        next(embedder.model[0].parameters()).normal_()  # no longer what it was
    save(embedder, tmp_path / "saved")
    found = embedder.embed(TEXTS)
    assert found.shape[1] == changes.get("embedding_size", 24)
    again = recallk.load(tmp_path / "saved")
    assert torch.equal(again.embed(TEXTS), found)
    assert again.settings == embedder.settings
    assert np.abs(stock(tmp_path / "saved").encode(TEXTS) - found.numpy()).max() < 1e-6
    assert not np.allclose(stock(sentence_model).encode(TEXTS)[:, :4], found.numpy()[:, :4], atol=1e-3)
    assert not list((tmp_path / "saved").rglob("*unfinished*"))
    save(embedder, tmp_path / "saved")
    assert torch.equal(recallk.load(tmp_path / "saved").embed(TEXTS), found), "over an earlier one"


def test_a_short_model_sees_the_beginning_of_a_text(sentence_model: Path) -> None:
    short = built(sentence_model, max_length=2)
    one, other = short.embed(["red shoe for sale", "red shoe in black"])
    assert torch.equal(one, other)
    one, other = built(sentence_model).embed(["red shoe for sale", "red shoe in black"])
    assert not torch.allclose(one, other, atol=1e-3)
    for length, told in ((41, "has positions for 40 tokens"), (1, "greater than or equal to 2")):
        with pytest.raises((InputError, ValueError), match=told):
            built(sentence_model, max_length=length)


def test_a_static_model_works_too(tmp_path: Path) -> None:
    embedder = built(folder := save_sentence_model(tmp_path, static=True))
    assert sentence_model.about(str(folder)).static
    expected = stock(folder).encode(TEXTS, normalize_embeddings=True)
    assert np.abs(embedder.embed(TEXTS, chunk_size=9).numpy() - expected).max() < 1e-6
    save(embedder, tmp_path / "saved")
    assert np.abs(stock(tmp_path / "saved").encode(TEXTS) - expected).max() < 1e-6
    assert embedder(embedder.example(3)).shape == (3, 16)
    with pytest.raises(InputError, match="max_length=8: this model takes texts of any length"):
        built(folder, max_length=8)


def test_what_it_says_before_a_text_is_said_of_the_model(sentence_model: Path, tmp_path: Path) -> None:
    model = stock(sentence_model)
    model.prompts["class"], model.default_prompt_name = "red red red: ", "class"
    model.save(str(tmp_path / "prompting"))
    found = built(tmp_path / "prompting").embed(TEXTS)
    assert np.abs(found.numpy() - stock(tmp_path / "prompting").encode(TEXTS)).max() < 1e-6
    assert not torch.allclose(found, built(sentence_model).embed(TEXTS), atol=1e-3)


def test_two_passes_give_the_gradients_of_one(sentence_model: Path) -> None:
    labels = torch.arange(len(TEXTS)) // 8
    loss = recallk.RecallAtKLoss(ks=(1, 2, 4))

    def gradients(chunk: int) -> torch.Tensor:
        embedder = built(sentence_model).double()  # as at test: dropout is drawn for each chunk
        texts = embedder.preparation(TEXTS)
        chunks = [texts.collate(TEXTS[start : start + chunk]) for start in range(0, len(TEXTS), chunk)]
        large_batch_backward(embedder, chunks, labels, lambda found, of: loss(found, of))
        return torch.cat([p.grad.flatten() for p in embedder.parameters() if p.grad is not None])

    whole = gradients(len(TEXTS))
    assert whole.abs().max() > 1e-3
    assert torch.allclose(gradients(7), whole, rtol=1e-6, atol=1e-9)


def test_what_is_no_text_is_refused(sentence_model: Path) -> None:
    embedder = built(sentence_model)
    for items, told in [
        ("a shoe", "a list of texts is needed; write"),
        (["a", 3], "item 1 is 3: this model embeds texts"),
        ([Path("a.png")], "item 0 is .*this model embeds texts"),
        (["a", " "], "item 1 is an empty text"),
        (np.zeros((2, 3)), "this model embeds texts"),
        (5, "a list of texts is needed"),
    ]:
        with pytest.raises(InputError, match=told):
            embedder.embed(items)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="scales: texts cannot be scaled"):
        embedder.embed(["a"], scales=(1, 2))


def test_models_that_are_not_there_are_one_line(
    sentence_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(place: str) -> str:
        return f"no route to host: {place}"

    monkeypatch.setattr(fetching, "_no_answer", unreachable)
    (tmp_path / "empty").mkdir()
    for backbone, told in [
        ("./nowhere", "no such folder"),
        (str(tmp_path / "gone"), "no such folder"),
        (str(tmp_path / "empty"), "no model of sentence-transformers can be loaded from there"),
        ("resnet50", "a network of images; of texts name a model"),
        ("timm/resnet50.a1_in1k", "a network of images"),
        ("nobody/no-such-model", r"cannot be fetched \(no route to host"),
    ]:
        with pytest.raises(InputError, match=told) as raised:
            load_model(backbone)
        assert "\n" not in str(raised.value)
        assert str(raised.value).startswith(f"backbone={backbone}: ")


def test_a_cached_model_is_taken_without_a_network_and_only_as_a_whole(
    sentence_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model that was fetched in part, such as by another library, the rest would be made up: another pooling."""
    monkeypatch.setattr(fetching, "_no_answer", lambda place: "no route to host")
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    cached = tmp_path / "models--nobody--mini"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(sentence_model, snapshot := cached / "snapshots" / ("0" * 40))
    found = TextEmbedder(TextSettings(backbone="nobody/mini", embedding_size=24), load_model("nobody/mini")).embed(
        TEXTS
    )
    assert torch.equal(found, built(sentence_model).embed(TEXTS))
    for gone in ("modules.json", "model.safetensors"):
        (snapshot / gone).rename(tmp_path / gone)
        with pytest.raises(InputError, match="cannot be fetched"):
            load_model("nobody/mini")
        (tmp_path / gone).rename(snapshot / gone)


def test_code_that_comes_with_a_model_is_never_run(sentence_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(sentence_model, folder)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {**modules[-1], "type": "evil.Evil"}]))
    with pytest.raises(InputError, match="it brings code of its own, which is not run here"):
        load_model(str(folder))
    (folder / "modules.json").write_text(json.dumps(modules))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="no model of sentence-transformers"):
        load_model(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_damaged_model_is_one_line(sentence_model: Path, tmp_path: Path) -> None:
    embedder, folder = built(sentence_model), tmp_path / "saved"
    save(embedder, folder)
    settings = (folder / "embedder.json").read_text()
    (folder / "embedder.json").write_text(settings.replace('"embedding_size": 24', '"embedding_size": 23'))
    with pytest.raises(InputError, match=r"24 dimensions, and embedder\.json says 23; it is damaged"):
        recallk.load(folder)
    (folder / "embedder.json").write_text(settings.replace('"format": 1', '"format": 9'))
    with pytest.raises(InputError, match="written by another version of recallk"):
        recallk.load(folder)
    (folder / "embedder.json").write_text(settings)
    with torch.no_grad():
        next(embedder.parameters())[0] = torch.nan
    save(embedder, folder)
    with pytest.raises(InputError, match="NaN or infinity in"):
        recallk.load(folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="no model of sentence-transformers can be loaded from there"):
        recallk.load(folder)
    (folder / "modules.json").unlink()
    with pytest.raises(InputError, match=r"no weights\.safetensors in this folder"):
        recallk.load(folder)


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"needs sentence-transformers, .*'recallk\[text\]'"):
        load_model("nobody/nothing")
