import ast
import os
import platform
import subprocess
import sys

import pytest

from sid2core.pipeline import launch
from tests.tiny import ROOT

FLAG = "--xla_cpu_experimental_ynn_fusion_type"


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setattr(launch, "_jaxlib", lambda: "0.10.2")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    added = launch.settings({"MALLOC_TOP_PAD_": "1", "XLA_FLAGS": "--other=2"})
    assert "MALLOC_TOP_PAD_" not in added
    assert added["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert added["XLA_FLAGS"].startswith(f"--other=2 {FLAG}=")
    assert "XLA_FLAGS" not in launch.settings({"XLA_FLAGS": f"{FLAG}=x"})
    assert launch.settings(added | {"MALLOC_TOP_PAD_": "1"}) == {}


@pytest.mark.parametrize("version", ["0.11.0", "0.9.2", "0.1.0", ""])
def test_another_jaxlib_gets_no_flag_it_may_not_know(monkeypatch, version):
    monkeypatch.setattr(launch, "_jaxlib", lambda: version)
    assert "XLA_FLAGS" not in launch.settings({})


def test_elsewhere_than_glibc_memory_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert set(launch.settings({})) <= {"XLA_FLAGS"}


def test_a_process_that_has_the_settings_goes_on(monkeypatch):
    monkeypatch.setattr(launch, "settings", lambda environment: {})
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("it started again"))
    launch.start_again()


def test_importing_a_stage_does_nothing():
    """Neither a process is replaced nor the environment changed, and JAX is not imported."""
    program = (
        "import os, sys; before = dict(os.environ); import stages; "
        "assert dict(os.environ) == before; assert 'jax' not in sys.modules; "
        "from stages import code, params; "
        "assert dict(os.environ) == before; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("stage", [path.stem for path in (ROOT / "stages").glob("[a-z]*.py")])
def test_a_stage_prepares_its_process_before_it_imports_anything_else(stage):
    first, second, *others = ast.parse((ROOT / f"stages/{stage}.py").read_text()).body[2:]
    assert ast.unparse(first) == "from sid2core.pipeline import launch"
    prepared = f"if __name__ == '__main__':\n    launch.prepare('{stage}')"
    assert ast.unparse(second) == prepared
    assert ast.unparse(others[-1]).startswith(
        f"if __name__ == '__main__':\n    stage.run('{stage}'"
    )


def test_a_stage_starts_once_more_with_the_settings_and_keeps_its_number(tmp_path):
    """As a process: the settings are in the environment that glibc and JAX read."""
    package = tmp_path / "stages"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "show.py").write_text(
        "import os, sys\nprint(os.getpid(), flush=True)\n"
        "from sid2core.pipeline import launch\nlaunch.prepare('show')\n"
        "print(os.environ.get('MALLOC_TOP_PAD_'), sys.argv[1:])\n"
        "assert os.environ['JAX_COMPILATION_CACHE_DIR'].endswith('compiled')\n"
    )
    names = ("XLA_FLAGS", "JAX_", "GLIBC_TUNABLES", "MALLOC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    done = subprocess.run(
        [sys.executable, "-m", "stages.show", "--word"],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    *numbers, shown = done.stdout.splitlines()
    assert len(numbers) == 2
    assert len(set(numbers)) == 1
    expected = str(2**28) if platform.libc_ver()[0] == "glibc" else "None"
    assert shown == f"{expected} ['--word']"
