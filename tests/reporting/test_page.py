import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recallk.reporting.page import ReportData, write_report
from recallk.reporting.pictures import Retrieval, Retrieved
from recallk.runs.history import Measurement, Row, Step

HOSTILE = '<script>alert("x")</script> & "friends"'


def picture(seed: int, width: int = 32, height: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def retrieval(number: int, width: int = 32, height: int = 32) -> Retrieval:
    results = [
        Retrieved(picture(i, width, height), f"item {number}-{i}.jpg", f"class {number}-{i}", 0.9 - 0.1 * i, i % 2 == 0)
        for i in range(8)
    ]
    name = f"query {number}.jpg"
    return Retrieval(picture(number, width, height), name, f"asked {number}", results, f"first right one at {number}")


def report(**changes: object) -> ReportData:
    history: list[Row] = [evaluation(0, 0.4)]
    for epoch in (1, 2):
        for number in range(20 * epoch - 19, 20 * epoch + 1):
            history.append(step(number, 1 / number, epoch))
        history.append(evaluation(epoch, 0.4 + 0.1 * epoch))
    random = np.random.default_rng(0)
    data = ReportData(
        title="a run",
        summary=[("recall@1", "41.2", "78.9", "80.7"), ("map@r", "20.0", "33.3", "")],
        published="Published: a paper. This run differs: epochs 2 instead of 40.",
        facts=[("train images", "12,345"), ("machine", "2 CPU cores")],
        history=history,
        same_class=random.normal(0.7, 0.1, 1000).astype(np.float32),
        other_class=random.normal(0.1, 0.1, 1000).astype(np.float32),
        worst=[retrieval(1), retrieval(2)],
        best=[retrieval(3)],
        config="epochs: 2\n",
    )
    return dataclasses.replace(data, **changes)  # type: ignore[arg-type]


def evaluation(epoch: int, recall: float) -> Measurement:
    metrics = {"recall@1": recall, "recall@10": recall + 0.1, "map@r": recall / 2}
    return Measurement("evaluation", epoch, 20 * epoch, metrics, 1.0)


def step(number: int, loss: float, epoch: int = 1, reached: float | None = None) -> Step:
    return Step(epoch, number, loss, 1e-4, 8, 0.5, reached)


def written(data: ReportData, folder: Path) -> str:
    path = folder / "report.html"
    write_report(data, path)
    assert list(folder.iterdir()) == [path]  # nothing unfinished remains
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.all if name == tag]


def test_needs_nothing_beside_itself(tmp_path: Path) -> None:
    page = written(report(), tmp_path)
    tags = Tags(page)
    assert tags.open == []
    assert not tags.named("script")
    assert not tags.named("link")
    for _, attributes in tags.all:
        for key in ("src", "href", "xlink:href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/"))
    assert "http" not in page
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_shows_everything(tmp_path: Path) -> None:
    data = report()
    page = written(data, tmp_path)
    for text in ("a run", "recall@1", "41.2", "78.9", "train images", "12,345", "epochs: 2"):
        assert text in page
    for shown in data.worst + data.best:
        for text in (shown.query_name, shown.query_label, shown.recall_note):
            assert f">{text}<" in page
        for result in shown.results:
            assert f">{result.label}<" in page
            assert result.name in page
    tags = Tags(page)
    assert len(tags.named("img")) == 3 * (1 + 8)
    assert len(tags.named("figure")) == 3


def test_right_and_wrong_are_words_too(tmp_path: Path) -> None:
    alts = [image["alt"] for image in Tags(written(report(best=[]), tmp_path)).named("img")]
    expected = ["query: asked 1", *(f"{'wrong' if i % 2 else 'right'}: class 1-{i}" for i in range(8))]
    assert alts[:9] == expected
    unknown = dataclasses.replace(retrieval(1), results=[Retrieved(picture(0), "name", "label", 0.5, None)])
    page = written(report(worst=[unknown], best=[]), tmp_path)
    assert 'alt="unknown: label"' in page


def test_escapes_what_others_wrote(tmp_path: Path) -> None:
    results = [Retrieved(picture(0), HOSTILE, HOSTILE, 0.5, True)]
    hostile = [Retrieval(picture(0), HOSTILE + "1", HOSTILE, results, HOSTILE)]
    page = written(
        report(
            title=HOSTILE,
            facts=[(HOSTILE, HOSTILE)],
            worst=hostile,
            config=HOSTILE,
            summary=[(HOSTILE,) * 4],
            published=HOSTILE,
        ),
        tmp_path,
    )
    tags = Tags(page)
    assert not tags.named("script")
    assert f"right: {HOSTILE}" in [image["alt"] for image in tags.named("img")]


def test_a_run_without_history(tmp_path: Path) -> None:
    nothing = np.empty(0, np.float32)
    page = written(report(history=[], same_class=nothing, other_class=nothing, worst=[], best=[]), tmp_path)
    for text in ("No training step yet.", "No evaluation yet.", "No pairs to compare.", "No queries to show."):
        assert text in page
    assert not Tags(page).named("svg")


def test_a_run_with_one_evaluation_only(tmp_path: Path) -> None:
    page = written(report(history=[evaluation(0, 0.5)]), tmp_path)
    assert "One evaluation, at epoch 0: recall@1 50.0 %." in page
    assert "No training step yet." in page


def test_numbers_that_are_none(tmp_path: Path) -> None:
    losses = [float("nan"), 0.5, float("inf"), 0.25, float("-inf")]
    history = [step(number, loss) for number, loss in enumerate(losses, 1)]
    same = np.array([np.nan, 1.0, 1.0], np.float32)  # all alike: the density has no width
    page = written(report(history=history, same_class=same, other_class=same[1:]), tmp_path)
    assert "From 0.500 at step 2 to 0.250 at step 4." in page
    assert "Median 1.00 for pairs of one class (2 drawn at random)" in page


def test_curves_say_what_they_are(tmp_path: Path) -> None:
    page = written(report(), tmp_path)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", page)
    for text in ("epoch (0: before training)", "%", "recall@1", "recall@10", "map@r", "step", "loss"):
        assert text in texts
    for text in ("cosine similarity", "density", "same class", "other classes"):
        assert text in texts
    assert "recall@1 from 40.0 % to 60.0 %; highest 60.0 % after epoch 2." in page


def test_queries_that_the_loss_reaches_are_shown_where_they_were_measured(tmp_path: Path) -> None:
    history = [step(10 * epoch, 0.5, epoch, reached=0.2 * epoch) for epoch in (1, 2, 3)]
    without = [dataclasses.replace(row, reached=None) for row in history]
    for shown in (history, without):
        page = written(report(history=shown), tmp_path)
        assert ("Queries that the loss reaches" in page) == (shown is history)
        assert ("From 20 % to 60 %." in page) == (shown is history)


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    history = [step(number, float(loss)) for number, loss in enumerate(random.random(50_000))]
    assert len(written(report(history=history), tmp_path)) < 400_000


@pytest.mark.parametrize(
    ("size", "kind"), [((32, 32), "png"), ((64, 3), "png"), ((65, 65), "jpeg"), ((900, 8), "jpeg")]
)
def test_thumbnails(tmp_path: Path, size: tuple[int, int], kind: str) -> None:
    page = written(report(worst=[retrieval(1, *size)], best=[]), tmp_path)
    for image in Tags(page).named("img"):
        assert (image["src"] or "").startswith(f"data:image/{kind};base64,")
        assert image.get("class") == ("tiny" if kind == "png" else None)


def test_photos_keep_the_file_small(tmp_path: Path) -> None:
    photos = [retrieval(i, 500, 375) for i in range(8)]  # noise: JPEG's worst case
    write_report(report(worst=photos, best=photos), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_replaces_an_earlier_report(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    assert "a run" in written(report(), tmp_path)


@pytest.mark.parametrize("text", ["\udcff", "\x00\x1b[31m", "\u202egnp", "\ufffe", "two\nlines", "\x85\u2028"])
def test_a_page_is_valid_whatever_others_wrote(tmp_path: Path, text: str) -> None:
    results = [Retrieved(picture(0), text, text, 0.5, True)]
    hostile = [Retrieval(picture(0), f"{text}1", text, results, text)]
    values = {"title": text, "facts": [(text, text)], "worst": hostile, "summary": [(text,) * 4], "published": text}
    page = written(report(**values, config=f"name: {text}\nepochs: 2\n"), tmp_path)
    assert all(line.isprintable() for line in page.split("\n"))
    tags = Tags(page)
    assert tags.open == []
    escaped = text.encode("unicode_escape").decode()
    assert f"right: {escaped}" in [image["alt"] for image in tags.named("img")]
    assert "\nepochs: 2\n" in page


def test_an_image_that_is_lost_is_said(tmp_path: Path) -> None:
    lost = dataclasses.replace(retrieval(1), query=None, results=[Retrieved(None, "name", "label", 0.5, True)])
    page = written(report(worst=[lost], best=[]), tmp_path)
    assert not Tags(page).named("img")
    assert [tag["aria-label"] for tag in Tags(page).named("span") if tag.get("class") == "lost"] == [
        "query: asked 1, cannot be read",
        "right: label, cannot be read",
    ]
