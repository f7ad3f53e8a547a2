import asyncio
import http.client
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest

pytest.importorskip("uvicorn")

from sid2core.serving import app, guard, jobs, server
from sid2core.serving.jobs import Full, Job, Worker
from tests.refusals import refused
from tests.serving.formula import START, Formula


@contextmanager
def serving(**models):
    """A server of these models on a free port of loopback; its address."""
    made = server.server(app.application(models, START))
    with server.listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            made.should_exit = True
            thread.join(30)


def post(address, **asked):
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("POST", "/draw", json.dumps(asked), {"content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_of_fifty_simultaneous_drawings_none_is_lost_and_memory_is_bounded():
    models = {"base": Formula(), "student_2": Formula()}
    before = psutil.Process().memory_info().rss
    with serving(**models) as address, ThreadPoolExecutor(50) as pool:
        names = ["base", "student_2"] * 25
        answers = pool.map(lambda i: post(address, model=names[i], count=64, seed=i), range(50))
        ends = [(status, json.loads(text.splitlines()[-1])["event"]) for status, text in answers]
    assert ends == [(200, "done")] * 50
    seeds = [one["seed"] for model in models.values() for one in model.drawn]
    assert sorted(seeds) == list(range(50))
    assert psutil.Process().memory_info().rss - before < 200 * 2**20


def test_the_page_comes_and_another_model_draws_while_one_compiles():
    busy, free = Formula(), Formula()
    busy.go.clear()
    with serving(busy=busy, free=free) as address, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, address, model="busy")
        until(lambda: busy.begun)
        connection = http.client.HTTPConnection(*address, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
        assert post(address, model="free")[0] == 200
        busy.go.set()
        assert waiting.result(30)[0] == 200


def test_a_drawing_whose_browser_has_gone_is_stopped():
    model = Formula()
    model.go.clear()
    body = json.dumps({"model": "base", "steps": 100}).encode()
    head = f"POST /draw HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    with serving(base=model) as address:
        with socket.create_connection(address) as client:
            client.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            until(lambda: model.begun)
        time.sleep(2 * app._LOOK_SECONDS)
        model.go.set()
        assert post(address, model="base", count=2)[0] == 200
    assert [one["count"] for one in model.drawn] == [2]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: 127", b"408"),
        (b"POST /draw HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{", b"408"),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 20_000, b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
    ],
)
def test_slow_and_malformed_clients_are_left(monkeypatch, sent, status):
    monkeypatch.setattr(guard, "SECONDS", 0.1)
    with serving(base=Formula()) as address, socket.create_connection(address, 10) as client:
        client.sendall(sent)
        answer = b""
        while part := client.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 " + status)


def test_a_server_that_ends_says_so_to_those_who_wait():
    model = Formula()
    model.go.clear()
    made = server.server(app.application({"base": model}, START))
    with server.listen("127.0.0.1", 0) as listening, ThreadPoolExecutor(1) as pool:
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        waiting = pool.submit(post, listening.getsockname(), model="base")
        until(lambda: model.begun)
        made.handle_exit(signal.SIGINT, None)
        status, text = waiting.result(30)
        thread.join(30)
        model.go.set()
    assert (status, json.loads(text.splitlines()[-1])["message"]) == (200, "the server ends")


def test_a_port_in_use_is_reported():
    with server.listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with refused(server.ServeError, f"127.0.0.1, port {port}", "give another --host or --port"):
            server.listen("127.0.0.1", port)


def test_a_full_queue_refuses_and_forgets_those_who_left(monkeypatch):
    monkeypatch.setattr(jobs, "WAITING", 2)

    async def asked():
        loop, worker, go = asyncio.get_running_loop(), Worker("base"), threading.Event()
        begun = threading.Event()

        def work(update):
            begun.set()
            assert go.wait(30)
            return {}

        first, *waiting, last = [Job(work, loop) for _ in range(4)]
        worker.submit(first)
        await asyncio.to_thread(begun.wait)
        for job in waiting:
            worker.submit(job)
        assert [worker.ahead(job) for job in waiting] == [1, 2]
        with refused(Full, "2 drawings wait already"):
            worker.submit(last)
        waiting[0].cancel()
        worker.submit(last)
        assert worker.ahead(last) == 2
        go.set()
        while (state := await last.next(1)) is None or state["event"] != "done":
            pass

    asyncio.run(asked())
