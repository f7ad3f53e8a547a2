import asyncio
import json
import re

import pytest

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from sid2core.serving import app, guard
from sid2core.serving.jobs import Job, Worker
from tests.serving.formula import START, Formula

ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def model():
    return Formula()


def client(model, **settings):
    made = app.application({"base": model}, START, **settings)
    return TestClient(made, base_url=ADDRESS)


def states(answer):
    return [json.loads(line) for line in answer.text.splitlines()]


def sentence(answer):
    """The text of a refusal: one line, plain text."""
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.endswith("\n")
    assert answer.text.count("\n") == 1
    return answer.text


def test_a_drawing_streams_its_steps_and_ends_with_the_picture(model):
    answer = client(model).post("/draw", json={"model": "base", "count": 3, "steps": 2})
    assert answer.status_code == 200
    last = states(answer)[-1]
    assert last["event"] == "done"
    assert last["image"].startswith("data:image/png;base64,")
    assert {one["event"] for one in states(answer)} <= {"waiting", "preparing", "step", "done"}
    assert model.drawn == [{"count": 3, "steps": 2}]


@pytest.mark.parametrize(
    ("content", "status", "named"),
    [
        (b"", 400, "not JSON"),
        (b"[]", 400, "JSON object"),
        (b'{"model": "base", "seed": NaN}', 400, "NaN"),
        (b"[" * 60_000, 400, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", 400, "not JSON"),
        (b'{"model": "base", "count": 1000000000000}', 422, "count: found 1000000000000"),
        (b'{"model": "base", "count": -1}', 422, "count: found -1"),
        (b'{"count": 1}', 404, "expected base"),
        (b'{"model": "../../etc/passwd"}', 404, "'../../etc/passwd'; expected base"),
        (b'{"model": "/"}', 404, "expected base"),
        (b'{"model": ["base"]}', 404, "expected base"),
        (b'{"model": "<script>alert(1)</script>"}', 404, "expected base"),
        (b'{"model": "' + b"x" * 60_000 + b'"}', 404, "xxx"),
        (b'{"model": "' + b"x" * 100_000 + b'"}', 413, "more than 64 KiB"),
        (b" " * 10_000_000, 413, "more than 64 KiB"),
        (b"\xff\xfe{", 400, "not JSON"),
    ],
)
def test_hostile_bodies_are_refused_in_one_sentence(model, content, status, named):
    headers = {"content-type": "application/json"}
    answer = client(model).post("/draw", content=content, headers=headers)
    assert answer.status_code == status
    assert named in sentence(answer)
    assert len(answer.text) < 300
    assert model.begun == []


def test_a_body_without_a_length_is_counted(model):
    parts = (b" " * 1000 for _ in range(100))
    headers = {"content-type": "application/json"}
    answer = client(model).post("/draw", content=parts, headers=headers)
    assert answer.status_code == 413


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_what_a_form_of_another_page_could_send_is_refused(model, kind):
    answer = client(model).post(
        "/draw", content=b'{"model": "base"}', headers={"content-type": kind}
    )
    assert answer.status_code == 415
    assert "application/json" in sentence(answer)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "attacker.example"}, 421),
        ({"host": "127.0.0.1.attacker.example:8000"}, 421),
        ({"host": "localhost@attacker.example"}, 421),
        ({"host": "192.168.0.7:8000"}, 421),
        ({"host": ""}, 421),
        ({"origin": "https://attacker.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_other_hosts_and_origins_are_refused(model, headers, status):
    answer = client(model).post("/draw", json={"model": "base"}, headers=headers)
    assert answer.status_code == status
    sentence(answer)
    assert model.begun == []


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_loopback_has_several_names(model, host):
    headers = {"host": host, "origin": f"http://{host}"}
    assert client(model).get("/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/draw", 405),
        ("GET", "/../../etc/passwd", 404),
        ("PUT", "/", 405),
        ("GET", "/x", 404),
    ],
)
def test_there_are_no_other_addresses(model, method, path, status):
    answer = client(model).request(method, path)
    assert answer.status_code == status
    sentence(answer)


def test_a_page_needs_nothing_from_elsewhere_and_runs_only_its_own_script(model):
    answer = client(model).get("/?prompt=<script>alert(1)</script>")
    policy = answer.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)[1]
    assert policy.startswith("default-src 'none'")
    assert answer.text.count(f'nonce="{nonce}"') == 2
    assert "alert" not in answer.text
    assert not re.search(r"(src|href)=\"?https?:", answer.text)
    assert client(model).get("/").headers["content-security-policy"] != policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_names_from_files_cannot_end_the_script():
    model = Formula(classes=["</script><img src=x onerror=alert(1)>"])
    text = client(model).get("/").text
    assert "<img" not in text
    assert r"\u003c/script>\u003cimg" in text


def test_an_error_of_a_drawing_is_its_last_state(model, monkeypatch, caplog):
    def work(asked):
        def run(update):
            raise RuntimeError("secret /path")

        return run

    monkeypatch.setattr(model, "work", work)
    last = states(client(model).post("/draw", json={"model": "base"}))[-1]
    assert last["event"] == "error"
    assert "RuntimeError" in last["message"]
    assert "secret" not in last["message"]
    assert "secret /path" in caplog.text


def test_a_token_is_asked_for_and_kept_in_a_cookie(model):
    reached = client(model, host="0.0.0.0", token="a-long-token")
    assert reached.get("/").status_code == 401
    assert reached.get("/?token=wrong").status_code == 401
    assert reached.post("/draw?token=a-long-token", json={"model": "base"}).status_code == 401
    assert "token" in sentence(reached.get("/"))
    entered = reached.get("/?token=a-long-token&seed=3", follow_redirects=False)
    assert (entered.status_code, entered.headers["location"]) == (303, "/?seed=3")
    assert "HttpOnly" in entered.headers["set-cookie"]
    assert reached.get("/", headers={"host": "192.168.0.7:8000"}).status_code == 200
    assert reached.get("/", headers={"host": "attacker.example"}).status_code == 421
    assert reached.post("/draw", json={"model": "base"}).status_code == 200
    bearer = {"authorization": "Bearer a-long-token"}
    assert client(model, token="a-long-token").get("/", headers=bearer).status_code == 200


def test_a_slow_body_is_refused(model, monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.02)
    sent = []

    async def receive():
        await asyncio.sleep(1)

    async def send(part):
        sent.append(part)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/draw", "headers": headers}
    scope |= {"scheme": "http", "query_string": b"", "raw_path": b"/draw"}
    asyncio.run(app.application({"base": model}, START)(scope, receive, send))
    assert sent[0]["status"] == 408
    assert b"did not come within" in sent[1]["body"]


def test_a_drawing_ends_when_its_client_has_gone(model):
    model.go.clear()
    parts = []

    async def receive():
        while not model.begun:
            await asyncio.sleep(0.001)
        return {"type": "http.disconnect"}

    async def send(part):
        parts.append(part)

    async def asked():
        job = Job(model.work({"steps": 9}), asyncio.get_running_loop())
        worker = Worker("base")
        worker.submit(job)
        await app._Stream(job, worker)({guard.ENDED: lambda: False}, receive, send)
        assert job.cancelled
        model.go.set()
        while worker.ahead(job) or threading_busy(worker):
            await asyncio.sleep(0.001)

    asyncio.run(asked())
    assert model.drawn == []


def threading_busy(worker):
    return worker._running is not None
