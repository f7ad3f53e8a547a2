"""Sources of files under fire: damaged archives give entries, problems and plain errors only."""

import io
import json
import os
import resource
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import opening, protocol
from tests import tiny
from tests.data import packs

_BLOCK = 512
_READ = 12
_GROWTH = 400_000  # KiB


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npz(save):
    file = io.BytesIO()
    save(file, images=np.zeros((3, 4, 5, 3), np.uint8), labels=np.array([0, 1, 0]))
    return file.getvalue()


def _parquet(**options):
    rows = [{"bytes": packs.png(row, 2), "path": f"{row}.png"} for row in range(4)]
    names = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": rows, "label": [0, 1, 0, 1], "caption": ["x", None, "y", "z"]})
    file = io.BytesIO()
    metadata = {"huggingface": json.dumps(names)}
    pq.write_table(table.replace_schema_metadata(metadata), file, row_group_size=2, **options)
    return file.getvalue()


_IMAGES = {"a/1.png": packs.png(1, 2), "a/x/2.png": packs.png(2, 2), "b/3.txt": b"text"}
_LINKS = {"b/4.png": ("sym", "../a/1.png"), "b/5.png": ("hard", "a/1.png"), "../6.png": b""}
_SAMPLES = {
    "a.png": packs.png(1, 2),
    "a.cls": b"1",
    "b.png": packs.png(2, 2),
    "b.json": b'{"label": 2, "caption": "text"}',
    "b.txt": b"text",
}
_SYNSETS = {f"n0000000{row}.tar": packs.tar({f"{row}.JPEG": packs.png(row, 2)}) for row in (1, 2)}
FORMS = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
WHOLE = {
    ("folder", ".zip"): [packs.zipped(_IMAGES), packs.zipped(_IMAGES, 0)],
    ("folder", ".tar"): [
        packs.tar(_IMAGES | _LINKS | {"a/" + "n" * 120 + ".png": b""}, form) for form in FORMS
    ],
    ("imagenet", ".tar"): [packs.tar(_SYNSETS, form) for form in FORMS],
    ("arrays", ".npy"): [_npy(np.zeros((3, 4, 5, 3), np.uint8))],
    ("arrays", ".npz"): [_npz(np.savez), _npz(np.savez_compressed)],
    ("parquet", ".parquet"): [_parquet(), _parquet(compression="none", use_dictionary=False)],
    ("webdataset", ".tar"): [packs.tar(_SAMPLES, form) for form in FORMS],
}
"""By source and extension, whole files to damage."""


@st.composite
def damaged(draw, whole):
    """Anything at all, or a whole file with some bytes changed, cut, put in or moved."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(whole))[: draw(st.integers(0, 8))] + draw(st.binary())
    content = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(0, 3))):
        start, length = draw(st.integers(0, len(content))), draw(st.integers(0, 40))
        part = slice(start, start + length)
        kind = draw(st.sampled_from(["flip", "put", "cut", "end", "again"]))
        if kind == "flip":
            content[start : start + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "put":
            content[part] = draw(st.binary(max_size=40))
        elif kind == "cut":
            del content[part]
        elif kind == "end":
            del content[start:]
        else:
            content[start:start] = content[: draw(st.integers(0, 2048))]
    if draw(st.booleans()):
        _mend(content)
    return bytes(content)


def _mend(content):
    """Give damaged headers of a tar right sums again: these would hide the rest from tests."""
    for start in range(0, len(content) - _BLOCK + 1, _BLOCK):
        if content[start + 257 : start + 262] == b"ustar":
            block = content[start : start + _BLOCK]
            block[148:156] = b" " * 8
            content[start + 148 : start + 156] = b"%06o\0 " % sum(block)


def used(path, source):
    """List the source and read some of it; returns how many entries there were."""
    data = tiny.source(source, path=str(path), image_size=4, channels=3)
    entries, stopped, reasons = [], [], []
    try:
        made, _ = opening.opened(tiny.params(data=data).data)
        assert made.stamp()
        entries = protocol.listed(made)
        assert isinstance(made.captioned, bool)
    except DataError as error:
        stopped.append(str(error))
    for entry in entries:
        assert isinstance(entry.key, str)
        assert entry.problem or 0 <= entry.label < len(made.class_names)
        reasons.append(entry.problem or "")
    for entry in entries[:_READ]:
        try:
            record = protocol.loaded(made, entry)
            "".join(record.captions).encode()
        except Unusable as error:
            reasons.append(str(error))
        except DataError as error:
            stopped.append(str(error))
    assert all(path.name in message for message in stopped)
    assert not any(str(path.parent) in reason for reason in reasons)
    return len(entries)


def attacked(source, extension, content):
    """Read one damaged file in a folder of its own, where nothing else may appear."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder, "inner")
        inner.mkdir()
        path = packs.write(inner / f"a{extension}", content)
        count = used(path, source)
        assert os.listdir(folder) == ["inner"]
        assert os.listdir(inner) == [path.name]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _GROWTH
    assert count < 1000 + len(content)


@pytest.mark.parametrize(("source", "extension"), WHOLE)
def test_whole_files_are_read(tmp_path, source, extension):
    for content in WHOLE[source, extension]:
        assert used(packs.write(tmp_path / f"a{extension}", content), source) > 1


_SOME = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


@pytest.mark.parametrize(("source", "extension"), WHOLE)
@settings(max_examples=40, **_SOME)
@given(data=st.data())
def test_damaged_files_do_no_harm(source, extension, data):
    attacked(source, extension, data.draw(damaged(WHOLE[source, extension])))


@pytest.mark.slow
@pytest.mark.parametrize(("source", "extension"), WHOLE)
@settings(max_examples=1000, **_SOME)
@given(data=st.data())
def test_many_damaged_files_do_no_harm(source, extension, data):
    attacked(source, extension, data.draw(damaged(WHOLE[source, extension])))
