"""Strict settings for every test.

Eight fake devices; no silent promotion of types; every call is checked against its annotations;
warnings are errors.

Nearly all the time of the tests is XLA's: they compile much and run it once. So nothing is
optimised, and what one test compiled another finds.
"""

import os

# The tests' own settings come last, as the last of two counts.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jaxtyping
import pytest

from tests import annotations

annotations.install()

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

LONGEST = ("stages/test_distill.py", "stages", "training", "models", "metrics")
"""What begins, by the beginning of its path: at the end no process should be left alone with it.

The first makes the pipeline that the stages share.
"""


def pytest_collection_modifyitems(config, items):
    """Order by folder or file, longest first.

    While one process makes the pipeline that the stages share, the others have the files that do
    without it: those that need it would wait.
    """
    sharing = {item.path for item in items if "finished" in item.fixturenames}

    def place(item):
        name = item.path.relative_to(config.rootpath / "tests").as_posix()
        found = (index for index, first in enumerate(LONGEST) if name.startswith(first))
        return next(found, len(LONGEST)), item.path in sharing

    items.sort(key=place)


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A folder of all the processes of this run of the tests."""
    folder = tmp_path_factory.getbasetemp()
    return folder if worker_id == "master" else folder.parent


@pytest.fixture(scope="session")
def compiled(shared):
    """A folder of compiled programs, new in each run, of all processes and of the stages' own."""
    return shared / "compiled"


@pytest.fixture(scope="session", autouse=True)
def _compiled(compiled):
    """What took long to compile is kept; JAX_COMPILATION_CACHE_DIR keeps it from run to run."""
    from tests.processes import CACHE_SECONDS  # after the hook that checks annotations

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(compiled))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", CACHE_SECONDS)


@pytest.fixture
def unchecked(monkeypatch):
    """Leave annotations unchecked, as in production: for errors that they would anticipate."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
