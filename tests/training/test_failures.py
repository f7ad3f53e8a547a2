import errno
import os

import jax
import jax.numpy as jnp
import pytest

from sid2core.training.failures import Stopped, TrainingError, explained, kept
from tests.refusals import NO_CHECKPOINT, refused


def message_of(error, folder, newest=8):
    """What a user reads of ``error``; its cause stays with it."""
    with pytest.raises(TrainingError) as caught, explained("toy", folder, lambda: newest):
        raise error
    assert caught.value.__cause__ is error
    return str(caught.value)


def wrapped(error):
    """As by what writes in the background: raised from another one."""
    outer = RuntimeError("the save thread failed")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("wrap", [lambda error: error, wrapped])
def test_a_full_disk_says_where_and_what_to_do(tmp_path, number, wrap):
    message = message_of(wrap(OSError(number, os.strerror(number))), folder=tmp_path)
    assert message.startswith("toy: a disk is full")
    assert f"make room under {tmp_path}" in message
    assert "The last good checkpoint is of step 8; the same command goes on" in message


def test_a_full_disk_is_known_by_its_words_too(tmp_path):
    error = ValueError("RESOURCE_EXHAUSTED: Error writing x [OS error 28: No space left on device]")
    assert "disk is full" in message_of(error, folder=tmp_path)


def test_the_devices_memory(tmp_path):
    with (
        refused(
            TrainingError, "toy: out of memory (RESOURCE_EXHAUSTED", "runtime.remat", NO_CHECKPOINT
        ),
        explained("toy", tmp_path, lambda: None),
    ):
        jax.block_until_ready(jnp.zeros(10**14))


def test_the_hosts_memory(tmp_path):
    assert "toy: out of memory (MemoryError)" in message_of(MemoryError(), folder=tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("RESOURCE_EXHAUSTED is but a word"),
        OSError(errno.EIO, "the disk is gone"),
        Stopped("asked to"),
        KeyboardInterrupt(),
    ],
)
def test_anything_else_passes_as_it_is(tmp_path, error):
    with pytest.raises(type(error)) as caught, explained("toy", tmp_path, lambda: 8):
        raise error
    assert caught.value is error


def test_what_is_kept():
    assert kept(None) == NO_CHECKPOINT
    assert kept(0) == "The last good checkpoint is of step 0"
