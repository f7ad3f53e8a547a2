"""Tests of errors: the kind of error, the key or path that it names, and one reference sentence.

A sentence that several tests expect is defined here once.
"""

from contextlib import contextmanager

import pytest

RAW_IMAGES = "expected uint8 of [n, h, w, c]"
OTHER_WEIGHTS = "was made from a file of SHA-256"
SPLITS = "are splits and not classes"
NO_CHECKPOINT = "No checkpoint was written yet"
CONTINUES = "its checkpoint is written, and the same command goes on from there"

# Reasons why an image is set aside.
OUTSIDE = "its name leads out of the archive"
NOT_UTF8 = "its name is not UTF-8: rename it"
UNLABELLED = "it has no label"
REPEATED = "another of this key came before it"


@contextmanager
def refused(error, *parts):
    """The body raises ``error``, whose message contains each of ``parts`` literally.

    Args:
        error: the class.
        parts: the key, name or path that the error is about, and one sentence or cure.
    """
    assert parts
    with pytest.raises(error) as caught:
        yield caught
    missing = [part for part in map(str, parts) if part not in str(caught.value)]
    assert not missing, f"not in the message: {missing}\nthe message: {caught.value}"
