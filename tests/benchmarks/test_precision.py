import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import precision
from tests import tiny


def test_the_statistic_is_the_ratio_of_two_distances():
    """Precisions differ by 1 in half of the windows; seeds differ by 2, by 3 and by 5."""
    exact = [np.full(4, level) for level in (0.0, 2.0, 5.0)]
    rounded = [one + [0, 1, 0, -1] for one in exact]
    found = precision.compared({"float32": exact, "bfloat16": rounded})
    assert found["between_precisions"] == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert found["between_seeds"] == pytest.approx((2 + 3 + 5) / 3, abs=1e-6)
    assert found["ratio"] == pytest.approx(np.sqrt(0.5) / (10 / 3), abs=1e-4)
    assert found["within_noise"]


def test_a_precision_that_differs_more_than_seeds_do_is_found():
    exact = [np.zeros(3), np.ones(3)]
    found = precision.compared({"float32": exact, "bfloat16": [one + 2 for one in exact]})
    assert (found["ratio"], found["within_noise"]) == (2.0, False)


@pytest.mark.slow
def test_the_whole_program(tmp_path):
    command = [sys.executable, "-m", "benchmarks.precision", "--tiny", "--steps", "40"]
    command += ["--seeds", "2", "--folder", str(tmp_path)]
    subprocess.run(command, cwd=tiny.ROOT, env=tiny.environment(), check=True)
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["results"]["within_noise"]
    assert {len(one) for some in content["curves"].values() for one in some} == {2}
