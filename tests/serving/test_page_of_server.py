"""The page of the server in a real browser: photos in; answers, errors and heat maps out; nothing goes anywhere else."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from ffe.commands.tune import train
from ffe.explaining.overlay import AGAINST, FOR
from ffe.extraction.run import extract
from ffe.images.drawings import draw_folder
from ffe.predictor import Prediction
from tests.chromium import CHROMIUM, WEAK, Tab, drop
from tests.serving.served import Served, png, served

TEMPLATES = Path(__file__).resolve().parents[2] / "ffe" / "serving" / "templates"
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
WIDTHS = [360, 1280]
DOG = "<i>dog"
TEXT = b"this is no picture"
TOKEN = "a-token-of-a-test"

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; install it to look at pages")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is not always sure, of a class that is called as if it were a part of a page."""
    folder = tmp_path_factory.mktemp("served")
    draw_folder(folder / "photos", 20, (48, 48))
    (folder / "photos" / "dog").rename(folder / "photos" / DOG)
    extract(folder / "photos", folder / "features.h5", backbone="fake")
    train(folder / "features.h5", folder / "model.ffe", head="logistic", reject=0.6)
    return folder / "model.ffe"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Served]:
    with served(model, max_body=300_000) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    found = Tab(tmp_path_factory.mktemp("chromium"), *CAMERA)
    yield found
    found.close()


@pytest.fixture
def tab(browser: Tab) -> Iterator[Tab]:
    """A page; at the end, whatever a test did: nobody complained, nobody else was asked, nothing was stored."""
    yield browser
    origin = browser.run("return location.origin;")
    assert [url for url in browser.requests if not url.startswith((origin, f"blob:{origin}", "data:"))] == []
    assert browser.complaints == []
    assert browser.run("""
        return [localStorage.length, sessionStorage.length, document.cookie, (await indexedDB.databases()).length,
                (await caches.keys()).length];
    """) == [0, 0, "", 0, 0]  # fmt: skip


def url(server: Served) -> str:
    return f"http://127.0.0.1:{server.port}/"


def answered(tab: Tab, count: int) -> list[str]:
    """Wait until so many photos are answered, and return what is said of each, as a reader sees it."""
    tab.until(f"document.querySelectorAll('.photo:not(.is-open)').length === {count}")
    cards: list[str] = tab.run("return [...document.querySelectorAll('.photo')].map((card) => card.innerText);")
    return [re.sub(r"\s+", " ", card) for card in cards]


@pytest.fixture(scope="module")
def photos(server: Served) -> dict[str, bytes]:
    """A photo of which the model is sure, one of which it is not, and none at all, by their names."""
    several = [png(kind, number) for number in range(30) for kind in ("cat", "dog")]
    said = [(one.label == DOG, one.sure) for one in server.worker.predict([("", photo) for photo in several]).result()]
    sure, odd = (several[said.index((True, is_sure))] for is_sure in (True, False))
    return {"sure.png": sure, "odd ä&<b>.png": odd, "x.jpg": TEXT}


@in_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_photos_are_dropped_and_answered(tab: Tab, server: Served, photos: dict[str, bytes], width: int) -> None:
    tab.open(url(server), width)
    drop(tab, photos)
    cards = answered(tab, 3)
    for card, (name, photo) in zip(cards, photos.items(), strict=True):
        said = server.ask("/predict", photo).value
        assert card.removeprefix("no preview ").startswith(name)
        if said["error"] is not None:
            assert f"Cannot be read: {said['error']}" in card
            continue
        best = said["probabilities"][said["label"]]
        assert said["label"] == DOG
        assert (f"{name} {DOG} " if said["sure"] else f"{name} Not sure, perhaps {DOG} ") in card
        assert f"{DOG} {100 * best:.1f} %" in card
        assert said["sure"] == (best >= 0.6)
        assert card.endswith(f"Why {said['label']}? Remove")
    assert "the model answers from 60.0 % on" in cards[1]
    assert tab.run("return document.getElementById('tally').innerText;").startswith("2 of 3 photos answered, 1 not: see there.")
    assert tab.run("return document.getElementById('model').innerText;").startswith(f"The model tells {DOG} and cat apart.")
    assert len(tab.run("return [...document.getElementById('said').children].map((p) => p.textContent);")) == 3
    tab.until("document.querySelectorAll('.seen:not(:empty)').length === 3")
    previews = tab.run("return [...document.querySelectorAll('.seen')].map((e) => e.firstChild.width ?? e.innerText);")
    assert previews == [48, 48, "no preview"]
    wide = "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.hidden, [hidden], dialog, input')"
    assert tab.run(f"return {wide} && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML);") == []
    assert tab.run("return document.documentElement.scrollWidth;") == width
    tab.run("document.querySelector('.is-wrong .acts button').click();")
    assert tab.run("return document.getElementById('tally').innerText;").startswith("2 photos, all answered.")


@in_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_a_heat_map_is_shown_and_hidden(tab: Tab, server: Served, photos: dict[str, bytes], width: int) -> None:
    tab.open(url(server), width)
    drop(tab, {"cat.png": photos["sure.png"]})
    answered(tab, 1)
    tab.run("document.querySelector('.acts button').click();")
    tab.until("document.querySelector('.why')")
    found = tab.run("""
        const map = document.querySelector(".why"), image = map.querySelector("img");
        await image.decode();
        return {words: [...map.querySelectorAll("li")].map((line) => line.innerText), wide: image.naturalWidth, alt: image.alt,
                keys: [...map.querySelectorAll(".key")].map((key) => getComputedStyle(key).backgroundColor),
                open: document.querySelector(".acts button").ariaExpanded, room: document.documentElement.scrollWidth};
    """)
    words = server.ask("/explain", photos["sure.png"]).value["legend"]
    assert found == {
        "words": words,
        "wide": server.predictor.bundle.manifest.spec.preprocess.size[1],
        "alt": f"cat.png in grey under a heat map: {', '.join(words)}.",
        "keys": [f"rgb{FOR}", f"rgb{AGAINST}"],
        "open": "true",
        "room": width,
    }
    asked = len(tab.requests)
    shown = "return document.querySelector('.why').hidden + document.querySelector('.acts button').ariaExpanded;"
    assert [(tab.run("document.querySelector('.acts button').click();"), tab.run(shown))[1] for _ in range(2)] == [
        *("truefalse", "falsetrue")
    ]
    assert len([path for path in tab.requests[asked:] if not path.startswith("data:")]) == 0


@in_browser
def test_all_of_it_from_the_keyboard(tab: Tab, server: Served, photos: dict[str, bytes], tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(photos["sure.png"])
    tab.open(url(server), 1280)
    tab.until("!document.getElementById('camera').hidden")
    active = "const e = document.activeElement; return (e.id || e.innerText) + ' ' + getComputedStyle(e.closest('.button') || e)"
    tab.press("Tab")
    assert tab.run(f"{active}.outlineStyle;") == "files solid"
    document = tab.call("DOM.getDocument")["root"]["nodeId"]
    chooser = tab.call("DOM.querySelector", nodeId=document, selector="#files")["nodeId"]
    tab.call("DOM.setFileInputFiles", nodeId=chooser, files=[str(file)])
    answered(tab, 1)
    tab.press("Tab")
    assert tab.run(f"{active}.outlineStyle;") == "camera solid"
    tab.press("Tab")
    label = server.ask("/predict", photos["sure.png"]).value["label"]
    assert tab.run(f"{active}.outlineStyle;") == f"Why {label}? solid"
    tab.press(" ")
    tab.until("document.querySelector('.why:not([hidden])')")
    tab.press("Enter")
    tab.until("document.querySelector('.why[hidden]')")
    assert tab.run(f"{active}.outlineStyle;") == f"Why {label}? solid"
    tab.press("Tab")
    assert tab.run(f"{active}.outlineStyle;") == "Remove solid"
    tab.press("Enter")
    assert tab.run("return document.querySelectorAll('.photo').length + document.activeElement.id;") == "0files"


@in_browser
def test_a_photo_of_the_camera_and_one_of_the_clipboard(tab: Tab, server: Served, photos: dict[str, bytes]) -> None:
    tab.open(url(server), 360)
    tab.until("!document.getElementById('camera').hidden")
    tab.run("document.getElementById('camera').click();")
    tab.until("document.querySelector('video').videoWidth > 0")
    tab.run("window.track = document.querySelector('video').srcObject.getTracks()[0];")
    tab.run("document.getElementById('shoot').click();")
    assert answered(tab, 1)[0].startswith("camera 1.jpg")
    assert tab.run("return track.readyState;") == "ended"  # the camera is switched off
    drop(tab, {"image.png": photos["sure.png"]}, "ClipboardEvent", "paste", "clipboardData")
    assert [card.split()[0] for card in answered(tab, 2)] == ["image.png", "camera"]
    tab.run("document.getElementById('clear').click();")
    assert answered(tab, 0) == []


@contextlib.contextmanager
def before_the_page(tab: Tab, code: str) -> Iterator[None]:
    """Run code before the scripts of the pages that are opened."""
    number = tab.call("Page.addScriptToEvaluateOnNewDocument", source=code)["identifier"]
    yield
    tab.call("Page.removeScriptToEvaluateOnNewDocument", identifier=number)


@in_browser
def test_an_answer_waits_for_the_threshold(tab: Tab, server: Served, photos: dict[str, bytes]) -> None:
    late = "const send = XMLHttpRequest.prototype.send; XMLHttpRequest.prototype.send = function (body)"
    with before_the_page(tab, f"{late} {{ setTimeout(() => send.call(this, body), body ? 0 : 300); }};"):
        tab.open(url(server), 360)
    drop(tab, {"odd.png": photos["odd ä&<b>.png"]})
    assert "the model answers from 60.0 % on" in answered(tab, 1)[0]


@in_browser
def test_where_there_is_no_camera_none_is_offered(tab: Tab, server: Served) -> None:
    none = "async () => { window.asked = true; return []; }"
    nothing = f"if (window.MediaDevices) MediaDevices.prototype.enumerateDevices = {none};"
    with before_the_page(tab, nothing):
        tab.open(url(server), 360)
    assert tab.run("return window.asked && document.getElementById('camera').hidden;")


@in_browser
def test_a_photo_too_large_and_one_for_a_server_that_has_gone(tab: Tab, model: Path, photos: dict[str, bytes]) -> None:
    with served(model, max_body=10_000) as short:
        tab.open(url(short), 360)
        drop(tab, {"large.png": bytes(20_000)})
        assert "The body has more than 10,000 bytes; send fewer or smaller photos, or raise --max-body." in answered(tab, 1)[0]
    drop(tab, {"late.png": photos["sure.png"]})
    assert "No answer came: the server has stopped, or the file has changed. Give the photo again." in answered(tab, 2)[0]
    tab.complaints.clear()  # the browser says too that nobody is there


@in_browser
def test_the_token_is_asked_for(tab: Tab, model: Path, photos: dict[str, bytes]) -> None:
    with served(model, token=TOKEN) as guarded:
        tab.open(url(guarded), 360)
        form = "document.getElementById('ask-token')"
        tab.until(f"!{form}.hidden && document.activeElement.id === 'token'")
        drop(tab, {f"{number}.png": photos["sure.png"] for number in range(6)})
        enter = "document.getElementById('token').value = '{}'; document.querySelector('#ask-token button').click();"
        tab.run(enter.format("wrong"))
        tab.until("document.getElementById('refused').innerText === 'The server does not take this token.'")
        waiting = "[...document.querySelectorAll('.is-open')].map((card) => card.innerText).join()"
        tab.until(f"{waiting}.split('It waits for').length === 7")
        tab.run(enter.format(TOKEN))
        cards = answered(tab, 6)
        assert [card.split()[0] for card in cards] == [f"{number}.png" for number in range(6)]
        assert all("Why" in card for card in cards)
        assert tab.run(f"return {form}.hidden;")
        tab.until("document.getElementById('model').innerText.startsWith('The model tells')")


@in_browser
def test_a_busy_server_is_asked_again(tab: Tab, model: Path, photos: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with served(model, queue=1) as busy:
        predict = busy.worker.predict

        def predict_late(several: Sequence[tuple[str, bytes]]) -> Future[list[Prediction]]:
            found: Future[list[Prediction]] = Future()
            threading.Timer(0.2, lambda: found.set_result(predict(several).result())).start()
            return found

        monkeypatch.setattr(busy.worker, "predict", predict_late)
        tab.open(url(busy), 360)
        drop(tab, {f"{number}.png": photos["sure.png"] for number in range(3)})
        assert all("Why" in card for card in answered(tab, 3))
        assert re.search(r'path="/predict",status="503"\} [1-9]', busy.ask("/metrics").body.decode())


@in_browser
@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(tab: Tab, server: Served, photos: dict[str, bytes], dark: bool) -> None:
    tab.open(url(server), 360, dark=dark)
    drop(tab, photos)
    answered(tab, 3)
    tab.run("document.getElementById('problem').textContent = 'x'; document.getElementById('ask-token').hidden = false;")
    shown = "p, h1, h2, dt, dd:not(.rail), button, .button, label"
    found = tab.run(f"{WEAK} return weak([...document.querySelectorAll('{shown}')].filter((e) => e.innerText.trim()));")
    assert found["count"] > 20
    assert found["weak"] == []


def test_the_page_names_no_other_place_and_runs_only_its_own_script() -> None:
    names = {file.name: file.read_text("utf-8") for file in TEMPLATES.iterdir()}
    assert set(names) == {"page.css", "page.html", "page.js"}
    assert re.findall(r"https?://|//\w|@import|url\(", "".join(names.values()).replace("// ", "")) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?! src=\"page\.js\" defer></script>)", names["page.html"]) == []
