"""The page in a browser: no other request, no console message, everything visible."""

from __future__ import annotations

import base64
import http.server
import itertools
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sid2core.report import page
from sid2core.report.read import inputs
from tests.browser.chromium import SIZES, Browser, contrast
from tests.report import synthetic, test_clips

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = synthetic.write(tmp_path_factory.mktemp("project"))
    path = root / "index.html"
    path.write_text(page.build(inputs.read(synthetic.params(), root)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = replace(test_clips.WORLD, shape=(8, 16, 16, 3))
    root = synthetic.write(tmp_path_factory.mktemp("clips"), world)
    path = root / "index.html"
    path.write_text(page.build(inputs.read(synthetic.params(), root)), encoding="utf-8")
    return path


@pytest.mark.parametrize(("motion", "kind"), [("no-preference", "webp"), ("reduce", "png")])
def test_clips_play_unless_reduced_motion_is_preferred(
    browser: Browser, clips: Path, motion: str, kind: str
) -> None:
    for size in SIZES.values():
        browser.open(clips.as_uri(), *size, motion=motion)
        shown = browser.evaluate(
            "[...document.querySelectorAll('img.moving')].map("
            "i => [i.currentSrc.slice(0, 16), i.complete, i.naturalWidth, i.clientWidth])"
        )
        assert len(shown) == 5
        for source, complete, natural, width in shown:
            assert source.startswith(f"data:image/{kind}")
            assert complete
            assert min(natural, width) > 60
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_animation_moves_and_without_motion_it_does_not(browser: Browser, clips: Path) -> None:
    for motion, moves in (("no-preference", True), ("reduce", False)):
        browser.open(clips.as_uri(), *SIZES["desktop"], motion=motion)
        script = "document.querySelector('img.moving').scrollIntoView({behavior: 'instant'})"
        browser.evaluate(script)
        shots = set()
        for _ in range(6):
            shots.add(browser.send("Page.captureScreenshot")["data"])
            time.sleep(0.25)
        assert (len(shots) > 1) is moves


@pytest.mark.parametrize("size", SIZES)
def test_film_strips_are_beside_their_names(browser: Browser, clips: Path, size: str) -> None:
    browser.open(clips.as_uri(), *SIZES[size])
    test_rows_are_beside_their_names(browser)
    test_text_in_figures_is_legible(browser)
    test_texts_of_a_figure_do_not_overlap(browser)
    test_ids_are_unique(browser)


@pytest.fixture(params=SIZES)
def opened(request: pytest.FixtureRequest, browser: Browser, built: Path) -> Browser:
    browser.open(built.as_uri(), *SIZES[request.param])
    return browser


def requests(browser: Browser) -> list[str]:
    return [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]


def test_it_makes_no_request_and_logs_nothing(opened: Browser, built: Path) -> None:
    fetched = [url for url in requests(opened) if not url.startswith("data:")]
    assert fetched == [built.as_uri()]
    messages = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
    assert [event for event in opened.events if event["method"] in messages] == []


def test_only_the_page_is_requested_from_a_server(browser: Browser, built: Path) -> None:
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    handler = partial(Handler, directory=str(built.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        browser.open(f"http://127.0.0.1:{server.server_port}/index.html", *SIZES["desktop"])
        browser.evaluate("document.title")
        server.shutdown()
        thread.join()
    assert asked == ["/index.html"]


def test_every_image_and_figure_is_visible(opened: Browser) -> None:
    sizes = opened.evaluate(
        "[...document.images].map(i => [i.complete ? i.naturalWidth : 0, i.clientWidth])"
    )
    assert len(sizes) > 10
    assert min(min(pair) for pair in sizes) > 0
    boxes = opened.evaluate(
        "[...document.querySelectorAll('svg')].map(s => {"
        "const b = s.getBoundingClientRect(); return [b.width, b.height, s.getBBox().width]})"
    )
    assert len(boxes) == 17
    assert min(min(box) for box in boxes) > 100


def test_nothing_is_wider_than_the_window(opened: Browser) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_text_in_figures_is_legible(opened: Browser) -> None:
    script = (
        "Math.min(...[...document.querySelectorAll('svg text')].map(t => {"
        "const m = t.getScreenCTM();"
        "return parseFloat(getComputedStyle(t).fontSize) * Math.hypot(m.a, m.b)}))"
    )
    assert opened.evaluate(script) >= 8


def test_texts_of_a_figure_do_not_overlap(opened: Browser) -> None:
    script = (
        "[...document.querySelectorAll('svg')].map(s => [...s.querySelectorAll('text')].map(t => {"
        "const b = t.getBoundingClientRect();"
        "return [t.textContent.trim(), b.left, b.top, b.right, b.bottom]}))"
    )
    for figure in opened.evaluate(script):
        for first, second in itertools.combinations(figure, 2):
            wide = min(first[3], second[3]) - max(first[1], second[1])
            high = min(first[4], second[4]) - max(first[2], second[2])
            # Boxes include space above and below the letters, of which 3 pixels may overlap.
            assert min(wide, high) <= 3, (first[0], second[0])


def test_rows_are_beside_their_names(opened: Browser) -> None:
    script = (
        "[...document.querySelectorAll('.rows')].map(r => "
        "[r.querySelector('ol').clientHeight, r.querySelector('img').clientHeight])"
    )
    for names, picture in opened.evaluate(script):
        assert names == pytest.approx(picture, abs=2)


def test_ids_are_unique(opened: Browser) -> None:
    script = "[...document.querySelectorAll('[id]')].map(e => e.id)"
    found = opened.evaluate(script)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_has_a_dark_colour_scheme(browser: Browser, built: Path, width: int) -> None:
    means = {}
    for scheme in ("light", "dark"):
        browser.open(built.as_uri(), width, 900, scheme)
        means[scheme] = np.asarray(browser.screenshot()).mean()
        paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        inks = browser.evaluate(
            "[...document.querySelectorAll('svg text')].map(t => getComputedStyle(t).fill)"
            ".concat([...document.querySelectorAll('p, td, th, dt, dd, figcaption, a')]"
            ".map(t => getComputedStyle(t).color))"
        )
        # WCAG 2 requires 4.5 for text of this size (level AA).
        assert min(contrast(ink, paper) for ink in set(inks)) > 4.5
    assert means["light"] > 200
    assert means["dark"] < 60


def test_it_can_be_printed(browser: Browser, built: Path) -> None:
    browser.open(built.as_uri(), *SIZES["desktop"])
    printed = browser.send("Page.printToPDF", preferCSSPageSize=True)
    document = base64.b64decode(printed["data"])
    assert document.startswith(b"%PDF")
    assert document.count(b"/Type /Page\n") >= 2
