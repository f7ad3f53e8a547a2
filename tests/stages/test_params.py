import subprocess
import sys

import pytest

from sid2core.config import ParamsError
from stages import params
from tests import tiny


def run(folder):
    return subprocess.run(
        [sys.executable, "-m", "stages.params"],
        cwd=folder,
        env=tiny.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_good_parameters_leave_a_file_that_never_changes(tmp_path):
    tiny.write(tmp_path)
    first = run(tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    content = (tmp_path / params.CHECKED).read_bytes()
    tiny.write(tmp_path, seed=5, train={"steps": 7})
    assert run(tmp_path).returncode == 0
    assert (tmp_path / params.CHECKED).read_bytes() == content


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"stepz": 1}}, "train.stepz: unknown key; the nearest known one is train.steps"),
        ({"seed": "0"}, "seed: found '0' (str); expected integer"),
        ({"model": {"mid_depth": 0}}, "model.mid_depth: found 0 (int); expected integer"),
    ],
)
def test_a_mistake_ends_it_in_a_line_and_leaves_nothing(tmp_path, changes, words):
    tiny.write(tmp_path, **changes)
    done = run(tmp_path)
    assert done.returncode == 1
    heading, line = done.stderr.splitlines()
    assert heading == "params: params.yaml has 1 problem(s):"
    assert line.strip().startswith(words)
    assert not (tmp_path / "artifacts").exists()


def test_without_parameters_the_cure_is_named(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("params: params.yaml not found in")
    assert len(done.stderr.splitlines()) == 1


def test_nothing_slow_is_imported():
    """Without JAX the check is done in a blink, and a mistyped key costs no more."""
    code = "import sys, stages.params; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"jax", "flax", "optax", "pandas", "numpy", "scipy"} & set(done.stdout.split())


def test_sections_that_do_not_fit_each_other_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError, match=r"model\.patch_size: found 8 .* divide by 16"):
        params.main(tiny.params(model={"patch_size": 8}))
    assert not params.CHECKED.exists()
