"""The interactive page in a browser: by keyboard, by address, on a phone, in the dark."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn")

from sid2core.serving import app, server
from tests.browser.chromium import PATIENCE, SIZES, Browser, contrast
from tests.serving.formula import START, Formula

pytestmark = pytest.mark.browser
PROMPT = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def models() -> dict[str, Formula]:
    return {"base": Formula(text=True), "student_2": Formula(student=2, classes=[])}


@pytest.fixture(scope="module")
def address(models: dict[str, Formula]) -> Iterator[str]:
    made = server.server(app.application(models, START))
    with server.listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        made.should_exit = True
        thread.join()


def key(browser: Browser, name: str, code: int, text: str = "") -> None:
    values = {"key": name, "code": name, "windowsVirtualKeyCode": code}
    browser.send("Input.dispatchKeyEvent", type="keyDown", **values, text=text)
    browser.send("Input.dispatchKeyEvent", type="keyUp", **values)


def until(browser: Browser, script: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not browser.evaluate(script):
        assert time.monotonic() < deadline, script
        time.sleep(0.05)


PICTURES = "[...document.querySelectorAll('#results img')].filter(i => i.naturalWidth > 8).length"
LINKS = "document.querySelectorAll('#results a[download]').length"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_base_and_student_are_drawn_side_by_side_by_keyboard(
    browser: Browser, address: str, models: dict[str, Formula], size: str, scheme: str
) -> None:
    browser.open(f"{address}?label=1&seed=7", *SIZES[size], scheme)
    browser.evaluate("field.seed.focus() || 1")
    key(browser, "Enter", 13, "\r")
    until(browser, f"{LINKS} === 2")
    assert browser.evaluate(PICTURES) == 2
    assert models["base"].drawn[-1] == {"count": 4, "seed": 7, "label": 1, "prompt": ""} | {
        "sampler": "ddpm",
        "steps": 4,
        "guidance": 0.5,
    }
    assert models["student_2"].drawn[-1] == {"count": 4, "seed": 7}
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    texts = "label, legend, p, strong, figcaption, a, input[type=number], select"
    inks = browser.evaluate(
        f"[...document.querySelectorAll('{texts}')].map(e => getComputedStyle(e).color)"
    )
    assert min(contrast(ink, paper) for ink in set(inks)) > 4.5
    urls = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert all(url.startswith((address, "data:")) for url in urls)
    messages = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}
    assert [event for event in browser.events if event["method"] in messages] == []


def test_every_setting_has_an_address(browser: Browser, address: str) -> None:
    query = "model=student_2&model=base&label=0&prompt=a+cat&guidance=2.5&negative=%3Cdog%3E"
    query += "&sampler=ddim&steps=9&seed=5&count=3&from=-4&to=6.25&interval=1"
    browser.open(f"{address}?{query}", *SIZES["desktop"])
    browser.evaluate("form.dispatchEvent(new Event('input')) && 1")
    found = browser.evaluate(
        "[...new URLSearchParams(location.search)].map(p => p.join('=')).sort()"
    )
    expected = browser.evaluate(f"[...new URLSearchParams({query!r})].map(p => p.join('=')).sort()")
    assert found == expected


def test_html_in_a_prompt_is_text(
    browser: Browser, address: str, models: dict[str, Formula]
) -> None:
    browser.open(f"{address}?model=base&prompt=%3Cimg src=x onerror=alert(1)%3E", *SIZES["phone"])
    browser.evaluate("form.requestSubmit() || 1")
    until(browser, f"{LINKS} === 1")
    assert models["base"].drawn[-1]["prompt"] == PROMPT
    assert browser.evaluate("document.querySelectorAll('img').length") == 1


def test_escape_stops_a_drawing(browser: Browser, address: str, models: dict[str, Formula]) -> None:
    before = len(models["base"].drawn)
    models["base"].go.clear()
    browser.open(f"{address}?model=base&steps=50", *SIZES["desktop"])
    browser.evaluate("form.requestSubmit() || 1")
    until(browser, f"{PICTURES} === 1")
    key(browser, "Escape", 27)
    until(browser, "document.querySelector('#results .wrong')?.textContent === 'stopped'")
    time.sleep(2 * app._LOOK_SECONDS)
    models["base"].go.set()
    assert len(models["base"].drawn) == before


def test_a_refusal_is_shown_where_the_picture_would_be(browser: Browser, address: str) -> None:
    browser.open(f"{address}?model=base", *SIZES["desktop"])
    browser.evaluate("field.count.removeAttribute('max'), field.count.value = 65, 1")
    browser.evaluate("form.requestSubmit() || 1")
    until(browser, "document.querySelector('#results .wrong') !== null")
    shown = browser.evaluate("document.querySelector('#results .wrong').textContent")
    assert shown.startswith("count: found 65")
