import signal
import socket
import subprocess
import sys

import pytest

from sid2core.pipeline import workdir
from sid2core.training import cluster
from sid2core.training.cluster import ClusterError
from tests import tiny

ALL = {"SID2_COORDINATOR": "10.0.0.1:9876", "SID2_PROCESSES": "4", "SID2_PROCESS": "3"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"SLURM_STEP_NUM_TASKS": "1"},
        # The batch script of a job of four tasks, before any srun.
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},
    ],
)
def test_one_process_is_alone(environment):
    assert cluster._settings(environment) is None


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_what_a_launcher_started_is_left_to_jax(name):
    assert cluster._settings({name: "2"}) == {}


def test_what_is_set_goes_before_what_is_detected():
    found = cluster._settings(ALL | {"OMPI_COMM_WORLD_SIZE": "2"})
    assert found == {
        "coordinator_address": "10.0.0.1:9876",
        "num_processes": 4,
        "process_id": 3,
        "cluster_detection_method": "deactivate",
    }


@pytest.mark.parametrize("name", ALL)
def test_half_of_the_settings_is_refused_with_what_is_missing(name):
    some = {key: value for key, value in ALL.items() if key != name}
    with pytest.raises(ClusterError, match=f"but not {name}: set all three, or none"):
        cluster._settings(some)


@pytest.mark.parametrize(("process", "count"), [("4", "4"), ("-1", "4"), ("one", "4"), ("0", "n")])
def test_a_number_that_is_none_is_refused(process, count):
    with pytest.raises(ClusterError, match=f"SID2_PROCESS is '{process}'"):
        cluster._settings(ALL | {"SID2_PROCESS": process, "SID2_PROCESSES": count})


@pytest.mark.parametrize("launcher", ["no-such-command -n 2", "mpirun 'unclosed"])
def test_a_launcher_that_is_no_command_is_refused(monkeypatch, launcher):
    for name in (*ALL, "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(cluster._LAUNCHED, "")
    monkeypatch.delenv(cluster._LAUNCHED)
    with pytest.raises(ClusterError, match="runtime.launcher: found ") as caught:
        cluster.join(launcher)
    assert repr(launcher) in str(caught.value)


def test_a_launcher_runs_the_same_command_in_the_same_process():
    """Once: what it starts does not start it again."""
    code = (
        "import os, sys; print(os.getpid(), os.environ.get('BY'), sys.argv[1:], flush=True);"
        "from sid2core.training import cluster; cluster.join('env BY=launcher'); print('joined')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "two words"],
        env=tiny.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, _ = process.communicate()
    assert process.returncode == 0
    words = "['two words']"
    assert out.splitlines() == [
        f"{process.pid} None {words}",
        f"{process.pid} launcher {words}",
        "joined",
    ]


def test_outside_the_loop_sigterm_ends_a_joined_process_as_any_other():
    code = (
        "import os, signal; from sid2core.training import cluster; cluster.join();"
        "os.kill(os.getpid(), signal.SIGTERM); print('goes on')"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"SID2_PROCESSES": "1", "SID2_PROCESS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=tiny.environment(SID2_COORDINATOR=f"127.0.0.1:{port}", **alone),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, ""), done.stderr


def test_one_process_claims_as_without_a_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("SID2_WORK", str(tmp_path))
    assert cluster.first()
    with cluster.claim_training("train", {"seed": 0}) as folder:
        assert folder == workdir.folder("train", {"seed": 0})
        assert folder.is_dir()
        with pytest.raises(workdir.WorkError), cluster.claim_training("train", {"seed": 0}):
            pass
    with cluster.claim("train", {"seed": 0}) as other:
        assert other == workdir.folder("train", workdir.with_code("train", {"seed": 0})) != folder
