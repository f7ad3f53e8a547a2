import io

import pytest

from sid2core.pipeline import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def _at_once(monkeypatch):
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.0)


@pytest.mark.usefixtures("_at_once")
def test_a_log_gets_whole_lines(capsys):
    with progress.bar(4, "train", "step") as bar:
        for _ in range(4):
            bar.update()
    printed = capsys.readouterr().err
    assert "\r" not in printed
    assert "\x1b" not in printed
    lines = [line for line in printed.splitlines() if line]
    assert len(lines) >= 4
    assert all(line.startswith("train: ") for line in lines)
    assert "4/4" in lines[-1]
    assert "step" in lines[-1]


def test_a_log_is_not_flooded(capsys):
    with progress.bar(10_000, "train", "step") as bar:
        for _ in range(10_000):
            bar.update()
    assert len(capsys.readouterr().err.strip().splitlines()) <= 3


def test_lines_grow_rarer_as_work_grows_longer(capsys, monkeypatch):
    """A week of work prints hundreds of lines, not forty thousand."""
    now = [0.0]
    with progress.bar(7 * 24 * 360, "train", "step") as bar:
        monkeypatch.setattr(bar, "_time", lambda: now[0])
        bar.start_t = bar.last_print_t = 0.0
        for _ in range(bar.total):
            now[0] += 10.0
            bar.update()
    lines = capsys.readouterr().err.strip().splitlines()
    assert 300 < len(lines) < 1000
    assert "168:00:00" in lines[-1]


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("terminal", [True, False])
def test_one_that_is_not_shown_prints_nothing(capsys, monkeypatch, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with progress.bar(4, "train", "step", shown=False) as bar:
        bar.update(4)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("_at_once")
def test_what_an_earlier_run_has_done_counts_as_done(capsys):
    with progress.bar(10, "train", "step", initial=7) as bar:
        bar.update(3)
    first, *_, last = capsys.readouterr().err.strip().splitlines()
    assert "7/10" in first
    assert "10/10" in last


def test_a_terminal_gets_one_line_that_is_redrawn(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.bar(3, "train", "step") as bar:
        for _ in range(3):
            bar.update()
            bar.refresh()
    assert terminal.getvalue().count("\r") >= 3
    assert terminal.getvalue().count("\n") == 1
