"""The page in a real browser: an image is chosen, dropped or pasted, and what is found is looked through."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from recallk.catalogue.index import Index
from recallk.models.build import build
from recallk.models.settings import TextSettings
from tests.catalogue.place import small_embedder
from tests.miniature_texts import offers, save_texts

BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = [
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver (Debian: chromium-driver)"),
    pytest.mark.xdist_group("browser"),
]


def colours(path: Path, seed: int, noise: int) -> Path:
    """Write an image of a class, which its seed decides, a little different from the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3)).astype(float)
    pixels = coarse.repeat(10, 0).repeat(10, 1) + np.random.default_rng(1_000 * seed + noise).normal(0, 8, (40, 40, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of 40 images of ten classes, and a query of the class c3."""
    place = tmp_path_factory.mktemp("page")
    for number in range(40):
        colours(place / "photos" / f"c{number % 10}" / f"{number}.png", number % 10, number)
    evil = "<img src=x onerror=\"document.title='run'\">"
    colours(place / "photos" / "c3 <b>" / f"{evil.replace('/', '')}.png", 77, 0)
    Index.build(small_embedder(), place / "photos", place / "catalogue", workers=0)
    colours(place / "query.png", 3, 99)
    return place


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with served(place / "catalogue") as found:
        yield found


@contextmanager
def served(catalogue: Path) -> Iterator[str]:
    """Serve a catalogue in a process of its own; give the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "recallk", "serve", str(catalogue), "--port", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        assert f"open http://127.0.0.1:{port} in a browser" in server.stdout.readline()
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["wide", "narrow"])
def browser(request: pytest.FixtureRequest, address: str) -> Iterator[Any]:
    with opened(address, request.param) as found:
        yield found


@contextmanager
def opened(address: str, size: tuple[int, int]) -> Iterator[Any]:
    """Open the page in a window of a size; in the end nothing may have gone wrong in it."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size={},{}".format(*size)):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found: Any = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        found.get(address)
        WebDriverWait(found, 20).until(lambda page: page.find_element(By.ID, "name").text == "catalogue")
        yield found
        assert [entry["message"] for entry in found.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        found.quit()


def results(browser: Any, least: int = 1) -> list[str]:
    """The ids that are shown, once the search is over."""

    def shown(page: Any) -> list[str] | Literal[False]:
        buttons = page.find_elements(By.CSS_SELECTOR, "#results button")
        done = "the nearest first" in page.find_element(By.ID, "status").text
        return [button.get_attribute("data-id") for button in buttons] if done and len(buttons) >= least else False

    found: list[str] = WebDriverWait(browser, 20).until(shown)
    return found


DROP = """
const [name, bytes, kind] = arguments;
const file = new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type: 'image/png' });
const data = new DataTransfer();
data.items.add(file);
const event = kind === 'drop' ? new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })
  : new ClipboardEvent('paste', { clipboardData: data, bubbles: true });
document.querySelector('#drop').dispatchEvent(event);
"""


def test_texts_are_typed_and_read(sentence_model: Path, tmp_path: Path) -> None:
    rows = [(text, label, f"o{number}") for number, (text, label) in enumerate(offers(1))]
    table = save_texts(tmp_path / "t.csv", [*rows, ("<b>שלום</b>", "odd", "o99")], ("text", "label", "id"))
    Index.build(build(TextSettings(backbone=str(sentence_model), embedding_size=24)), table, tmp_path / "catalogue")
    with served(tmp_path / "catalogue") as address, opened(address, (800, 800)) as page:
        assert page.find_element(By.CSS_SELECTOR, "label[for=id]").text == "Text"
        assert not page.find_element(By.ID, "drop").is_displayed()
        page.find_element(By.ID, "id").send_keys(rows[3][0], Keys.ENTER)
        assert results(page)[0] == "o3"
        shown = page.find_element(By.ID, "results").text
        assert rows[3][0] in shown
        assert "no image" not in shown
        page.find_element(By.CSS_SELECTOR, "#results button").click()  # what is like it
        WebDriverWait(page, 20).until(lambda page: page.find_element(By.ID, "asked").text == "o3")
        assert "o3" not in results(page)


@pytest.mark.parametrize("how", ["choose", "drop", "paste"])
def test_the_right_class_comes_first(browser: Any, place: Path, how: str) -> None:
    if how == "choose":
        browser.find_element(By.ID, "file").send_keys(str(place / "query.png"))
    else:
        import base64

        browser.execute_script(DROP, "query.png", base64.b64encode((place / "query.png").read_bytes()).decode(), how)
    found = results(browser)
    assert {name.split("/")[0] for name in found[:4]} == {"c3"}
    assert browser.find_element(By.ID, "asked").text == "query.png"
    assert len(found) == 24


def test_on_from_what_was_found_and_further_down(browser: Any) -> None:
    browser.find_element(By.ID, "id").send_keys("c5/5.png", Keys.ENTER)
    found = results(browser)
    assert {name.split("/")[0] for name in found[:3]} == {"c5"}
    browser.find_element(By.CSS_SELECTOR, "#results button").click()
    WebDriverWait(browser, 20).until(lambda page: page.find_element(By.ID, "asked").text == found[0])
    assert "c5/5.png" in results(browser)[:3]
    browser.find_element(By.ID, "more").click()
    assert len(set(results(browser, 40))) == 40
    assert not browser.find_element(By.ID, "more").is_displayed()


def test_without_a_mouse(browser: Any, place: Path) -> None:
    seen = list[str]()
    for _ in range(5):
        webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
        seen.append(browser.switch_to.active_element.get_attribute("id") or browser.switch_to.active_element.text)
    assert seen == ["To the results", "file", "id", "where", "Search"]
    browser.find_element(By.ID, "id").send_keys("c1/1.png", Keys.ENTER)
    found = results(browser)
    button = browser.find_element(By.CSS_SELECTOR, "#results button")
    button.send_keys(Keys.ENTER)
    WebDriverWait(browser, 20).until(lambda page: page.find_element(By.ID, "asked").text == found[0])


def test_a_condition_and_a_mistake_in_it(browser: Any) -> None:
    browser.find_element(By.ID, "where").send_keys("label = 'c7'")
    browser.find_element(By.ID, "id").send_keys("c5/5.png", Keys.ENTER)
    assert {name.split("/")[0] for name in results(browser)} == {"c7"}
    where = browser.find_element(By.ID, "where")
    where.clear()
    where.send_keys("weight = 1")
    browser.execute_script("console.clear()")
    where.send_keys(Keys.ENTER)
    status = browser.find_element(By.ID, "status")
    WebDriverWait(browser, 20).until(lambda _: "no column 'weight'" in status.text)
    assert "wrong" in (status.get_attribute("class") or "")
    browser.get_log("browser")  # the answer 400 is told there too


def test_names_are_never_run(browser: Any) -> None:
    browser.find_element(By.ID, "where").send_keys("label like '%<b>%'")
    browser.find_element(By.ID, "id").send_keys("c5/5.png", Keys.ENTER)
    (found,) = results(browser)
    assert found.startswith("c3 <b>/<img")
    shown = browser.find_element(By.CSS_SELECTOR, "#results dl").text
    assert "<img src=x" in shown
    time.sleep(0.3)
    assert browser.title == "Search catalogue"
    assert browser.find_elements(By.CSS_SELECTOR, "#results b, #results dl img") == []


def test_nothing_reaches_beyond_the_window(browser: Any, place: Path) -> None:
    browser.find_element(By.ID, "file").send_keys(str(place / "query.png"))
    results(browser)
    width, window = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= window


CONTRAST = """
const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).slice(0, 3)
    .map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!colour.startsWith('rgba(0, 0, 0, 0')) return colour;
  }
  return 'rgb(255, 255, 255)';
};
return [...document.querySelectorAll('h1, p, label, span, button, dt, dd, strong, a, input')]
  .filter((element) => element.offsetWidth > 2 && element.textContent.trim())
  .map((element) => {
    const both = [luminance(getComputedStyle(element).color), luminance(behind(element))];
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    return [element.tagName, element.textContent.slice(0, 20), ratio];
  });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(browser: Any, place: Path, scheme: str) -> None:
    """WCAG AA: 4.5 to 1."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.find_element(By.ID, "file").send_keys(str(place / "query.png"))
    results(browser)
    found = browser.execute_script(CONTRAST)
    assert len(found) > 100
    assert [each for each in found if each[2] < 4.5] == []


def test_every_field_and_picture_has_a_name(browser: Any, place: Path) -> None:
    browser.find_element(By.ID, "file").send_keys(str(place / "query.png"))
    results(browser)
    for field in browser.find_elements(By.CSS_SELECTOR, "input"):
        assert browser.find_elements(By.CSS_SELECTOR, f"label[for='{field.get_attribute('id')}']")
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    assert all(image.get_attribute("alt") is not None for image in browser.find_elements(By.TAG_NAME, "img"))
    assert browser.find_element(By.ID, "status").get_attribute("role") == "status"
    # whatever is touched is large enough for a finger
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('#results button, form button')].map((b) => b.offsetHeight)"
    )
    assert min(sizes) >= 44
