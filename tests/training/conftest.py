import pytest

from sid2core.training import loop
from tests.training.toy import RUNTIME, quadratic


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """The toy's last state and its curve, where nothing happened."""
    folder = tmp_path_factory.mktemp("undisturbed")
    state, _ = loop.fit(quadratic(), folder, RUNTIME)
    return state, (folder / "curve.csv").read_bytes()
