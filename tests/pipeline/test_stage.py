import errno
import os

import pytest

from sid2core.errors import Sid2Error
from sid2core.pipeline import stage


def ends(error):
    """With which text a stage ends that raises ``error``."""

    def main(params):
        raise error

    with pytest.raises(SystemExit) as caught:
        stage.run("train", main, read=lambda: None)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("SID2_WORK", str(tmp_path))


def test_what_a_user_can_cure_ends_a_stage_in_its_own_words():
    assert ends(Sid2Error("found 1; expected 2")) == "train: found 1; expected 2"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_a_stage_in_one_line_with_the_cure(number):
    message = ends(OSError(number, os.strerror(number), "/data/x.npz"))
    assert message.startswith("train: ")
    assert "/data/x.npz" in message
    assert "make room, then the same command goes on" in message
    assert "\n" not in message


def test_other_errors_keep_their_traceback():
    with pytest.raises(OSError, match="the disk is gone"):
        stage.run(
            "train", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "the disk is gone")), list
        )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_one_line(number, tmp_path):
    message = ends(OSError(number, os.strerror(number), str(tmp_path / "new" / ".x.tmp")))
    assert message.startswith(f"train: {tmp_path} is not writable ({os.strerror(number)}); ")
    assert "\n" not in message
