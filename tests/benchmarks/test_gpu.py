import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks import gpu
from tests import tiny

FULL = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")


def made_for(most, error=FULL):
    """Makes work that fits up to ``most`` images, and notes what was tried."""
    tried = []

    def make(batch):
        def work():
            tried.append(batch)
            if batch > most:
                raise error

        return work

    return make, tried


def test_the_largest_batch_is_found_by_halving():
    make, tried = made_for(5)
    batch, work = gpu.largest(48, make)
    assert (batch, tried) == (3, [48, 24, 12, 6, 3])
    work()
    assert tried[-1] == 3


def test_no_image_that_fits_and_another_error_are_errors():
    with pytest.raises(MemoryError, match="not even one image"):
        gpu.largest(4, made_for(0)[0])
    with pytest.raises(ValueError, match="shape"):
        gpu.largest(4, made_for(0, ValueError("shape"))[0])


@pytest.mark.parametrize(
    ("function", "argument", "message"),
    [
        (json.loads, "{", "JSONDecodeError: Expecting property name"),
        (os._exit, 3, "its process ended with 3"),
        (time.sleep, 600, "took more than"),
    ],
)
def test_whatever_happens_to_a_row_is_its_error(function, argument, message):
    seconds = 0.5 if function is time.sleep else 120
    assert message in gpu.in_process(function, argument, seconds=seconds)["error"]


def test_ratios_are_of_rows_that_both_sides_have():
    rows = {
        "64, train, ours": {"images_per_second": 30.0},
        "64, train, torch": {"images_per_second": 20.0},
        "64, sample, ours": {"images_per_second": 30.0},
        "64, sample, torch": {"error": "no torch"},
        "512, train, ours": {"images_per_second": 1.0},
    }
    assert gpu.ratios(rows) == {"64, train": 1.5}


def test_rows_of_this_commit_that_were_measured_are_kept(tmp_path):
    path, measured = tmp_path / "gpu.json", {"64, train, ours": {"images_per_second": 30.0}}
    rows = measured | {"64, train, torch": {"error": "no torch"}}
    path.write_text(json.dumps({"commit": "abc", "rows": rows}), encoding="utf-8")
    assert gpu._earlier(path, "abc") == measured
    assert gpu._earlier(path, "abd") == gpu._earlier(tmp_path / "none.json", "abc") == {}


@pytest.mark.parametrize(
    ("memory", "rate", "expected"),
    [
        (1000, 1e9, 80),  # 0.9 · 1000 − 100 bytes, 10 for an image
        (1015, 1e9, 80),
        (1080, 1e9, 80),  # 87 images fit; batches are multiples of 8
        (1000, 30.0, 48),  # 4 s at 12 images a second
        (150, 1e9, 1),
    ],
)
def test_the_first_batch_fits_the_memory_and_the_time(memory, rate, expected):
    assert gpu.fitting(memory, 100, 10, rate) == expected


def test_the_networks_are_those_of_the_presets():
    networks = gpu._networks(tiny=False)
    assert {name: one.image_shape[0] for name, one in networks.items()} == {
        "64": 64, "256 small": 256, "256 flop heavy": 256, "512 flop heavy": 512,
    }  # fmt: skip
    assert {one.compute_dtype for one in networks.values()} == {"bfloat16"}


@pytest.mark.slow
def test_the_whole_program_on_a_processor(tmp_path):
    """Every row, once; without PyTorch's compiler its rows are left out with the reason."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--folder", str(tmp_path)]
    command += ["--minutes", "60", "--patience", "1200"]  # a busy machine is slow
    for _ in range(2):  # the second time nothing is left to do
        printed = subprocess.run(
            command, cwd=tiny.ROOT, env=tiny.environment(), check=True, capture_output=True
        ).stdout
    (path,) = tmp_path.glob("gpu-*.json")
    assert printed.decode().strip().endswith(str(path))
    content = json.loads(path.read_text(encoding="utf-8"))
    names = {f"tiny, {task}, {side}" for task in gpu.TASKS for side in gpu.SIDES}
    assert set(content["rows"]) == names
    for name, row in content["rows"].items():
        if name.endswith("ours"):
            assert (row["batch"], row["mfu"]) == (4, None)
            assert row["images_per_second"] > 0
            assert len(row["operations"]) == gpu.TOP
    assert content["command"].startswith("python -m benchmarks.gpu --tiny")
