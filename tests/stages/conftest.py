"""One small pipeline, run once for all tests of stages."""

import shutil

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from sid2core import config
from stages import distill, evaluate, guidance_search, prepare, reference, train
from tests import tiny


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """What one process compiled the next one finds, as in a real project."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def _compiled(tmp_path_factory):
    """What was compiled once is kept, as between the stages themselves."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def finished(tmp_path_factory, _compiled):
    """A project's root in which every stage but the page has run; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    tiny.write(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SID2_WORK", "SID2_FRESH", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        for stage in (prepare, reference, train, guidance_search, distill, evaluate):
            stage.main(config.read())
    return folder


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """A copy of it, the current folder: for runs that are repeated, stopped or harmed."""
    shutil.copytree(finished, tmp_path / "project")
    for name in ("SID2_WORK", "SID2_FRESH", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"
