import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.pipeline import code, dag, gpu_lease, launch, processes
from sid2core.pipeline.gpu_lease import LeaseError
from tests import tiny
from tests.tiny import ROOT

PROJECT = code.Project()
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))

HOLDER = """
import os, sys
from sid2core.pipeline import gpu_lease as lease
lease.POLL_S = 0.01
lease.take("train")
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""

# Within its lease each process has files that no other may have: a clash is a FileExistsError.
BRIEF = """
import os, signal, sys, time
from sid2core.pipeline import gpu_lease as lease
lease.POLL_S = 0.01
lease.take("train")
names = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
for name in names:
    open(f"busy-{name}", "x").close()
time.sleep(float(sys.argv[1]))
for name in names:
    os.remove(f"busy-{name}")
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""

# In the place of JAX: prints its environment when it is imported, and waits.
FAKE_JAX = """
import os, sys
print(os.getpid(), os.environ.get("MALLOC_TOP_PAD_"), os.environ["CUDA_VISIBLE_DEVICES"])
print(os.environ["CUDA_DEVICE_ORDER"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SID2_WORK", str(tmp_path))
    monkeypatch.setattr(gpu_lease, "_NVIDIA", tmp_path / "no driver")
    for name in ("SID2_GPUS", "CUDA_VISIBLE_DEVICES", *(processes.OPEN_MPI, processes.SLURM)):
        monkeypatch.delenv(name, raising=False)


def environment(gpus, work, **changes):
    kept = tiny.environment(SID2_GPUS=gpus, SID2_WORK=str(work), **changes)
    return {
        name: value for name, value in kept.items() if not name.startswith(("CUDA_", "MALLOC_"))
    }


def start(gpus, folder, *arguments, program=("-c", HOLDER)):
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env=environment(gpus, folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def started(tmp_path):
    """Starts processes that take a lease and keep it until they are killed or their input ends."""
    with ExitStack() as stack:

        def one(gpus, *arguments, **options):
            process = stack.enter_context(start(gpus, tmp_path, *arguments, **options))
            stack.callback(process.kill)
            return process

        yield one


def log():
    lines = (gpu_lease.folder() / "leases.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.randoms())
def test_every_way_to_group_gpus_is_read_back(sizes, random):
    names = [str(number) for number in range(sum(sizes) - 1)] + ["GPU-8932f937-d72c"]
    random.shuffle(names)
    rest = iter(names)
    groups = [tuple(next(rest) for _ in range(size)) for size in sizes]
    assert gpu_lease.groups(",".join("+".join(group) for group in groups)) == groups


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("two", r"SID2_GPUS is 'two'; expected GPUs as .* such as 0,1"),
        ("0, 1", "expected GPUs"),
        ("0,", "expected GPUs"),
        ("-1", "expected GPUs"),
        ("01", "expected GPUs"),
        ("../0", "expected GPUs"),
        ("0++1", "expected GPUs"),
        ("1,0,1", "has 1 twice; name each GPU once"),
        ("0+1,1+2", "has 1 twice"),
    ],
)
def test_what_names_no_gpus_is_refused(monkeypatch, value, words):
    monkeypatch.setenv("SID2_GPUS", value)
    with pytest.raises(LeaseError, match=words):
        gpu_lease.take("train")


def test_a_gpu_that_is_hidden_is_refused(monkeypatch):
    monkeypatch.setenv("SID2_GPUS", "1,2+3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(LeaseError, match=r"has 2, 3, which CUDA_VISIBLE_DEVICES='0,1' hides"):
        gpu_lease.take("train")


def test_a_gpu_that_the_driver_does_not_know_is_refused(monkeypatch, tmp_path):
    for bus in ("0000:17:00.0", "0000:65:00.0"):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
    monkeypatch.setattr(gpu_lease, "_NVIDIA", tmp_path / "gpus")
    monkeypatch.setenv("SID2_GPUS", "1,2")
    with pytest.raises(LeaseError, match="has 2; this machine's GPUs are 0 to 1"):
        gpu_lease.take("train")


@pytest.mark.parametrize("variable", [processes.OPEN_MPI, processes.SLURM])
def test_several_processes_of_one_run_are_refused(monkeypatch, variable):
    """Each would take a GPU for itself, and two runs could wait for each other's for ever."""
    monkeypatch.setenv("SID2_GPUS", "0,1")
    monkeypatch.setenv(variable, "2")
    with pytest.raises(LeaseError, match=f"{variable} is 2; unset SID2_GPUS"):
        gpu_lease.take("train")


@pytest.mark.parametrize(("gpus", "stage"), [(None, "train"), ("", "train"), ("0", "report")])
def test_who_needs_no_lease_takes_none(monkeypatch, tmp_path, gpus, stage):
    if gpus is not None:
        monkeypatch.setenv("SID2_GPUS", gpus)
    gpu_lease.take(stage)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", STAGES)
def test_the_stages_without_a_device_are_those_that_import_no_jax(stage):
    if stage not in gpu_lease.WITHOUT_DEVICE:
        assert "jax" in PROJECT.program(stage, dag.read(), {}).packages
        return
    program = f"import sys, stages.{stage}; sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], env=tiny.environment(), check=False)
    assert done.returncode == 0


RUNS = st.tuples(
    st.sampled_from(["0", "1", "0,1", "1,0", "0+1", "1+0,2", "2,0+1"]),
    st.floats(0, 0.03),
    st.sampled_from(["ends", "killed"]),
)


@settings(max_examples=8, deadline=None)
@given(st.lists(RUNS, min_size=2, max_size=8))
def test_no_two_processes_ever_have_one_gpu(runs):
    """However they name their GPUs, and however they end, every one gets its turn alone."""
    with TemporaryDirectory() as folder, ExitStack() as stack:
        processes = [
            stack.enter_context(start(gpus, folder, str(held), end, program=("-c", BRIEF)))
            for gpus, held, end in runs
        ]
        for process, (gpus, _, end) in zip(processes, runs, strict=True):
            errors = process.communicate(timeout=60)[1]
            assert process.returncode == (-9 if end == "killed" else 0), f"{gpus}: {errors}"


def test_who_finds_none_free_says_so_and_waits_until_one_is_killed(started):
    first, second = started("0,1"), started("0,1")
    assert {first.stdout.readline(), second.stdout.readline()} == {"0\n", "1\n"}
    third = started("0,1")
    assert third.stderr.readline().startswith(
        f"train: waiting, no GPU of SID2_GPUS=0,1 is free; {gpu_lease.folder()}/leases.jsonl"
    )
    second.kill()
    freed = next(row["gpus"] for row in log() if row["pid"] == second.pid)
    assert third.stdout.readline().split() == freed
    assert third.stderr.readline().startswith(f"train: GPU {freed[0]} of SID2_GPUS=0,1, ")
    assert first.poll() is None


def test_the_log_says_who_had_what_and_until_when(started):
    process = started("2+0")
    assert process.stdout.readline() == "2,0\n"
    process.communicate("")
    took, gave = log()
    assert took["event"] == "took"
    assert took | {"event": "gave back", "time": gave["time"]} == gave
    assert (took["gpus"], took["stage"], took["pid"]) == (["2", "0"], "train", process.pid)
    assert took["time"] < gave["time"]


def test_a_stage_has_its_lease_before_jax_is_imported_though_it_started_again(started, tmp_path):
    """The process that DVC started replaces itself; what it becomes holds one lease, not two."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text(FAKE_JAX)
    process = started("0,1", program=("-m", "stages.train"))
    number, padding, visible = process.stdout.readline().split()
    assert int(number) == process.pid
    assert padding == str(launch.settings({}).get("MALLOC_TOP_PAD_"))  # it did start again
    assert process.stdout.readline() == "PCI_BUS_ID\n"
    assert [row["gpus"] for row in log()] == [[visible]]
    assert gpu_lease._lock(("1",), gpu_lease.folder())
    assert not gpu_lease._lock(("0",), gpu_lease.folder())
    process.kill()
    process.wait()
    assert gpu_lease._lock(("0",), gpu_lease.folder())


def test_a_stage_with_a_wrong_value_ends_in_a_line():
    done = subprocess.run(
        [sys.executable, "-m", "stages.train"],
        env=environment("all", Path()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("train: SID2_GPUS is 'all'; expected GPUs")
    assert len(done.stderr.splitlines()) == 1
