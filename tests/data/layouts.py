"""The same files in folders, in archives and behind addresses, and what sources find in them."""

import uuid

import fsspec

from sid2core.data.sources import opening
from sid2core.data.sources.protocol import listed
from tests import tiny
from tests.data import packs


def opened(path, source="folder", **keys):
    data = tiny.source(source, **({"path": str(path), "image_size": 4, "channels": 3} | keys))
    return opening.opened(tiny.params(data=data).data)[0]


def frames(path, count=2, stride=1):
    return opened(path, "frames", frames=count, frame_stride=stride, channels=1)


def found(source):
    """Of every entry the class, or the problem."""
    names = source.class_names
    return {
        entry.key: names[entry.label] if entry.problem is None else entry.problem
        for entry in listed(source)
    }


def put(where, members, kind):
    """The same files as a folder, behind an address, or in an archive; returns its path."""
    if kind == "folder":
        where.mkdir()
        for name, content in members.items():
            packs.write(where / name, content)
        return where
    if kind == "memory":
        root = f"memory://{uuid.uuid4().hex}"
        files, path = fsspec.url_to_fs(root)
        for name, content in members.items():
            files.pipe_file(f"{path}/{name}", content)
        return root
    pack = {"zip": packs.zipped, "tar": packs.tar}[kind.removeprefix("memory.")]
    if kind.startswith("memory."):
        path = f"memory://{uuid.uuid4().hex}.{kind.removeprefix('memory.')}"
        fsspec.filesystem("memory").pipe_file(path, pack(members))
        return path
    return packs.write(where.with_suffix(f".{kind}"), pack(members))


KINDS = ("folder", "memory", "zip", "tar", "memory.zip", "memory.tar")
