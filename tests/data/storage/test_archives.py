import contextlib
import gzip
import io
import pickle
import random
import struct
import tarfile
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sid2core.data.errors import DataError, Unusable
from sid2core.data.storage import archives, paths, tars, trees
from sid2core.data.storage.archives import TarTree, ZipTree
from sid2core.data.storage.trees import ROOT
from tests.data import packs, pictures
from tests.refusals import OUTSIDE

FILES = {"a/1": b"one" * 400, "a/x/y/2": b"two", "b.txt": b"", "c d/é": b"\0" * 2000}
TREES = {"zip": (ZipTree, packs.zipped), "tar": (TarTree, packs.tar)}


def planted(folder, kind, members):
    make, pack = TREES[kind]
    content = members if isinstance(members, bytes) else pack(members)
    return make(str(packs.write(folder / f"a.{kind}", content)))


def files(tree):
    return [item for item in trees.walk(tree, ROOT) if not item.is_folder]


def problems(tree):
    return {item.path: item.problem for item in files(tree)}


def read(tree, item):
    with tree.open(item.path, item.place) as file:
        return file.read()


def contents(tree):
    return {item.path: read(tree, item) for item in files(tree) if item.problem is None}


@pytest.mark.parametrize("kind", TREES)
def test_an_archive_is_a_tree(tmp_path, kind):
    hidden = {".x/1": b"", "a/.1": b"", "__MACOSX/1": b"", "./": None if kind == "tar" else b""}
    tree = planted(tmp_path, kind, hidden | {f"./{name}": FILES[name] for name in reversed(FILES)})
    assert [item.path for item in files(tree)] == sorted(FILES)
    assert contents(pickle.loads(pickle.dumps(tree))) == FILES
    items = pickle.loads(pickle.dumps(files(tree)))  # they find their files elsewhere, too
    assert [read(tree, item) for item in items] == [FILES[item.path] for item in items]
    assert [item.path for item in tree.scan(ROOT)] == ["a", "b.txt", "c d"]


@pytest.mark.parametrize("kind", TREES)
def test_empty_folders_are_there(tmp_path, kind):
    none = None if kind == "tar" else b""
    tree = planted(tmp_path, kind, {"a/": none, "b/c/": none, "d/1": b""})
    assert [item.path for item in trees.walk(tree, ROOT)] == ["a", "b", "b/c", "d", "d/1"]


@pytest.mark.parametrize("kind", TREES)
def test_the_stamp_is_that_of_the_archive(tmp_path, kind):
    first = planted(tmp_path, kind, {"a/1": b"one"})
    stamp = first.stamp()
    assert first.stamp() == stamp
    assert contents(first) == {"a/1": b"one"}
    again = planted(tmp_path, kind, {"a/2": b"longer" * 2000})
    assert again.stamp() != stamp
    assert list(contents(again)) == ["a/2"]  # and so no old list is believed


@pytest.mark.parametrize("kind", TREES)
def test_names_that_lead_out_are_not_followed(tmp_path, kind):
    deep, long = "/".join("d" * 40), "n" * 2000
    names = ["../1.png", "a/../../2.png", "/etc/passwd", "a/3.png", deep, long]
    found = problems(planted(tmp_path, kind, dict.fromkeys(names, b"")))
    much = "its name has more than 32 folders or 1024 characters"
    expected = {**dict.fromkeys(names[:3], OUTSIDE), "a/3.png": None, deep: much, long[:1024]: much}
    assert found == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{kind}"]


@pytest.mark.parametrize("kind", TREES)
def test_every_one_of_equal_names_is_found(tmp_path, kind):
    with pytest.warns(UserWarning, match="Duplicate") if kind == "zip" else io.BytesIO():
        tree = planted(tmp_path, kind, [("a/1", b"one"), ("a/1", b"two"), ("a", b"three")])
    assert [item.path for item in files(tree)] == ["a", "a/1", "a/1"]
    assert [read(tree, item) for item in files(tree)] == [b"three", b"one", b"two"]


@pytest.mark.parametrize("kind", TREES)
def test_what_is_no_archive_is_named(tmp_path, kind):
    for content in (b"", b"no archive" * 100, packs.png()):
        with pytest.raises(DataError, match=rf"a\.{kind} .*: fetch or (pack|make) it anew"):
            files(planted(tmp_path, kind, content))
    content = packs.zipped(FILES)
    with pytest.raises(DataError, match="cannot be read as a zip archive .*fetch or pack it anew"):
        files(planted(tmp_path, "zip", content[:-30]))


@pytest.mark.parametrize("kind", TREES)
def test_larger_members_than_the_limit_are_refused_unread(tmp_path, monkeypatch, kind):
    tree = planted(tmp_path, kind, {"a/1": b"\0" * 100_000, "a/2": b"\0" * 100})
    monkeypatch.setattr(paths, "LIMIT", 1000)
    first, second = files(tree)
    with pytest.raises(Unusable, match="100000 bytes; pictures have at most 1000"):
        read(tree, first)
    assert read(tree, second) == b"\0" * 100


@pytest.mark.parametrize("kind", TREES)
def test_a_member_that_the_file_no_longer_holds_is_unusable(tmp_path, kind):
    tree = planted(tmp_path, kind, {"a/1": pictures.noise(64, 64).tobytes()})
    (item,) = files(tree)
    content = (tmp_path / f"a.{kind}").read_bytes()
    (tmp_path / f"a.{kind}").write_bytes(content[:600])
    with pytest.raises(Unusable, match="cut off after"):
        read(tree, item)
    (tmp_path / f"a.{kind}").unlink()
    with pytest.raises(DataError, match="failed: No such file or directory; see that its disk is"):
        read(tree, item)


# zip ----------------------------------------------------------------------------------------------


def test_a_zips_member_without_a_name_is_reported(tmp_path):
    content = packs.zipped({"X/0": b"one", "a/1": b"one"}).replace(b"X/0", b"\0/0")
    assert problems(planted(tmp_path, "zip", content)) == {"": "it has no name", "a/1": None}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zips_members_are_checked(tmp_path, method):
    content = bytearray(packs.zipped({"a/1": b"one" * 400}, method))
    content[38] ^= 1  # among the member's bytes
    tree = planted(tmp_path, "zip", bytes(content))
    with pytest.raises(Unusable, match="damaged"):
        read(tree, files(tree)[0])


def test_a_zip_bomb_stops_at_its_stated_size(tmp_path, monkeypatch):
    """Its table states 10 bytes; they inflate to 10 MB."""
    content = packs.zipped({"a/1": b"\0" * 10_000_000})
    content = content.replace(struct.pack("<I", 10_000_000), struct.pack("<I", 10))
    tree = planted(tmp_path, "zip", content)
    made = []

    class Counting:
        def __init__(self, *args):
            self.inner = zlib.decompressobj(*args)

        def decompress(self, *args):
            made.append(self.inner.decompress(*args))
            return made[-1]

    monkeypatch.setattr(archives, "zlib", type("Z", (), {**vars(zlib), "decompressobj": Counting}))
    with pytest.raises(Unusable, match="do not match the archive's table"):
        read(tree, files(tree)[0])
    assert [len(one) for one in made] == [11]


def test_a_long_local_header_is_read_in_a_second_go(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("a/1")
        info.extra = struct.pack("<HH", 0x9999, 2000) + b"x" * 2000
        archive.writestr(info, b"one")
    assert contents(planted(tmp_path, "zip", file.getvalue())) == {"a/1": b"one"}


def test_a_zip_behind_other_bytes(tmp_path):
    tree = planted(tmp_path, "zip", b"#!/bin/sh\n" + packs.zipped(FILES))
    assert contents(tree) == FILES


def test_members_of_a_zip_that_cannot_be_read_say_why(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a/bz.png", b"one" * 99, zipfile.ZIP_BZIP2)
        archive.writestr("a/secret.png", b"one")
    content = bytearray(file.getvalue())
    content[content.rindex(b"PK\1\2") + 8] |= 1
    found = problems(planted(tmp_path, "zip", bytes(content)))
    assert found == {
        "a/link.png": "a link, not the file that it leads to",
        "a/bz.png": "packed by method 12, neither stored nor deflated",
        "a/secret.png": "encrypted, so that it takes a password to read it",
    }


def test_names_of_a_zip_are_utf8_with_or_without_the_flag(tmp_path):
    content = packs.zipped({"é/ü.png": b"one"})
    for place in (content.index(b"PK\3\4") + 6, content.index(b"PK\1\2") + 8):
        flags = struct.unpack_from("<H", content, place)[0]
        assert flags & 0x800
        content = content[:place] + struct.pack("<H", flags & ~0x800) + content[place + 2 :]
    assert contents(planted(tmp_path, "zip", content)) == {"é/ü.png": b"one"}
    content = content.replace("é".encode(), b"\x82x")  # code page 437, as the format has it
    assert contents(planted(tmp_path, "zip", content)) == {"éx/ü.png".replace("ü", "├╝"): b"one"}


# tar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_all_formats(tmp_path, form):
    members = FILES if form == tarfile.USTAR_FORMAT else FILES | {"a/" + "n" * 200: b"long"}
    assert contents(planted(tmp_path, "tar", packs.tar(members, form))) == members


def test_names_of_a_tar_that_are_not_utf8(tmp_path):
    tree = planted(tmp_path, "tar", packs.tar({"a/\udcff": b"one"}, tarfile.GNU_FORMAT))
    assert contents(tree) == {"a/\udcff": b"one"}


def test_tars_within_a_tar_are_folders(tmp_path):
    inner = packs.tar({"n1_1.JPEG": b"one", "./n1_2.JPEG": b"two", "/etc/x": b""})
    members = {"n1.tar": inner, "x/n3.tar": packs.tar({}), "n4": inner}
    tree = planted(tmp_path, "tar", members | {"../n5.tar": inner, "._n1.tar": b"no tar"})
    assert problems(tree) == {
        "../n5.tar": OUTSIDE,
        "n1//etc/x": OUTSIDE,
        "n1/n1_1.JPEG": None,
        "n1/n1_2.JPEG": None,
        "n4": None,
    }
    assert contents(tree) == {"n1/n1_1.JPEG": b"one", "n1/n1_2.JPEG": b"two", "n4": inner}
    assert [item.path for item in trees.walk(tree, ROOT) if item.is_folder] == ["n1", "x", "x/n3"]


def test_links_within_a_tar_are_followed_and_others_reported(tmp_path):
    members = {
        "a/1": b"one",
        "a/hard": ("hard", "a/1"),
        "b/sym": ("sym", "../a/1"),
        "b/chain": ("sym", "sym"),
        "b/circle": ("sym", "circle"),
        "b/out": ("sym", "../../etc/passwd"),
        "b/absolute": ("sym", "/etc/passwd"),
        "b/folder": ("sym", "../a"),
        "b/pipe": ("pipe", ""),
        "../out": ("sym", "a/1"),
    }
    tree = planted(tmp_path, "tar", members)
    none = "a link to no file of the archive"
    wrong = dict.fromkeys(["b/circle", "b/out", "b/absolute", "b/folder"], none)
    good = ["a/1", "a/hard", "b/chain", "b/sym"]
    others = {"b/pipe": "not a regular file", "../out": OUTSIDE}
    assert problems(tree) == wrong | dict.fromkeys(good) | others
    assert contents(tree) == dict.fromkeys(good, b"one")


def cut(tmp_path, content):
    """The error that a damaged tar stops with, which contains its name and the cure."""
    with pytest.raises(DataError) as caught:
        files(planted(tmp_path, "tar", content))
    message = str(caught.value)
    assert message.endswith(": fetch or pack it anew, or leave it out")
    assert f"{tmp_path}/a.tar" in message
    return message.replace(f"{tmp_path}/", "").rpartition(":")[0]


TWO = packs.tar({"a/1": b"1" * 700, "a/2": b"2" * 700}, tarfile.GNU_FORMAT)
"""Headers lie at 0 and 1536, the last file's last byte before 2748, the mark of the end at 3072."""
ANOTHER, ZEROS = "it is damaged, or another one begins", "begin zeros that are no padding"


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (3072 + 511, "ends at byte 3583 without the mark of a tar's end, as if cut off there"),
        (3072, "ends at byte 3072 without the mark of a tar's end, as if cut off there"),
        (3071, "is cut off at byte 3071, within its 'a/2', and what came behind is lost"),
        (2748, "is cut off at byte 2748, within its 'a/2', and what came behind is lost"),
        (1536 + 512, "is cut off at byte 2048, within its 'a/2', and what came behind is lost"),
        (1536 + 100, "ends at byte 1636 without the mark of a tar's end, as if cut off there"),
        (1536, "ends at byte 1536 without the mark of a tar's end, as if cut off there"),
        (600, "is cut off at byte 600, within its 'a/1', and what came behind is lost"),
        (511, "is not a tar archive, or a damaged one"),
        (0, "is empty, and no tar archive"),
    ],
)
def test_a_tar_that_was_cut_stops(tmp_path, length, message):
    assert cut(tmp_path, TWO[:length]) == f"a.tar {message}"


def counted(content):
    """How many members are listed, or None where that stops."""
    with contextlib.suppress(DataError):
        return sum(1 for _ in tars.members(io.BytesIO(content), "a.tar"))


def test_no_cut_of_a_tar_goes_unnoticed():
    assert {counted(TWO[:length]) for length in range(3072 + 512)} == {None}
    assert {counted(TWO[:length]) for length in range(3072 + 512, len(TWO) + 1)} == {2}


MANY = {f"{'n' * (row * 7 % 130)}{row}": b"x" * (row * 97 % 1200) for row in range(12)}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    start=st.floats(0, 1),
    filling=st.binary(min_size=1, max_size=2000) | st.integers(1, 4000).map(bytes),
)
def test_overwritten_tars_list_as_many_members_or_stop(form, start, filling):
    """All but the very last byte: zeros from some header on to the end look like padding."""
    whole = packs.tar(MANY, form)
    last = len(whole.rstrip(b"\0")) - 1
    place = int(start * last)
    filling = filling[: last - place]
    content = whole[:place] + filling + whole[place + len(filling) :]
    assert counted(content) in (None, len(MANY))


@pytest.mark.parametrize("blocks", [1, 2, 3, 20, 2048])
def test_zeros_behind_a_tar_are_its_end(tmp_path, blocks):
    tree = planted(tmp_path, "tar", TWO[:3072] + b"\0" * 512 * blocks)
    assert problems(tree) == {"a/1": None, "a/2": None}


@pytest.mark.parametrize(
    ("behind", "found", "left"),
    [
        (TWO[3072:] + TWO, ANOTHER, "17408 of its 20480 bytes (85.0 %)"),
        (b"\0" * 1024 + b"x", ANOTHER, "1025 of its 4097 bytes (25.0 %)"),
        (b"\0" * (2**20 + 512), ZEROS, "1049088 of its 1052160 bytes (99.7 %)"),
        (b"\0" * 2**21 + TWO, ZEROS, "2107392 of its 2110464 bytes (99.9 %)"),
    ],
)
def test_what_lies_behind_the_end_of_a_tar_is_not_lost_silently(tmp_path, behind, found, left):
    message = cut(tmp_path, TWO[:3072] + behind)
    assert message == f"a.tar: at byte 3072 {found}; {left} lie behind, unlisted"


@pytest.mark.parametrize("place", [0, 100, 148, 156, 257, 511])
@pytest.mark.parametrize("kind", ["flip", "zeros", "noise"])
def test_a_damaged_header_stops(tmp_path, place, kind):
    content = bytearray(packs.tar(dict.fromkeys("abc", b"x"), tarfile.GNU_FORMAT))
    if kind == "flip":
        content[1024 + place] ^= 1
    else:
        content[1024:1536] = b"\0" * 512 if kind == "zeros" else random.Random(place).randbytes(512)
    left = "9216 of its 10240 bytes (90.0 %)"
    message = cut(tmp_path, bytes(content))
    assert message == f"a.tar: at byte 1024 {ANOTHER}; {left} lie behind, unlisted"


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (TWO[:3072], "ends at byte 3072 without the mark of a tar's end, as if cut off there"),
        (TWO[:2100], "is cut off at byte 2100, within its 'a/2', and what came behind is lost"),
        (b"no tar" * 100, "is not a tar archive, or a damaged one"),
        (b"", "is empty, and no tar archive"),
    ],
)
def test_a_damaged_tar_within_a_tar_stops(tmp_path, inner, message):
    members = {"n1.tar": TWO, "x/n2.tar": inner, "n3.tar": TWO}
    assert cut(tmp_path, packs.tar(members)) == f"'x/n2.tar' in a.tar {message}"


def test_a_compressed_tar_within_a_tar_stops(tmp_path):
    tree = planted(tmp_path, "tar", packs.tar({"n1.tar": gzip.compress(TWO)}))
    with pytest.raises(
        DataError, match=r"'n1.tar' in .*a.tar is compressed, .*: unpack it with gun"
    ):
        files(tree)


def header(name, size, kind=b"0"):
    """A tar header of any size, base-256 where it is negative or large, with the right sum."""
    raw = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    raw[156:157] = kind
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"K", b"S"])
@pytest.mark.parametrize("size", [-512, -1024, -10_000, 2**40, 2**60])
def test_absurd_sizes_neither_loop_nor_fill_memory(tmp_path, kind, size):
    content = packs.tar({"a/1": b"one"}, tarfile.GNU_FORMAT)[:1024]
    content += header("a/2", size, kind) + packs.tar({"a/3": b"three"})
    assert cut(tmp_path, content).startswith(("a.tar is cut off", "a.tar: at byte 1024 it is dam"))


@pytest.mark.parametrize("size", [512, 2**40])
def test_a_sparse_file_is_reported_and_hides_no_other(tmp_path, size):
    """Its size when unpacked may be beyond the archive's end."""
    sparse = bytearray(header("a/1", 512, b"S"))
    sparse[483:495] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    content = bytes(sparse) + b"x" * 512 + packs.tar({"a/2": b"two"})
    found = problems(planted(tmp_path, "tar", content))
    assert found == {"a/1": "a sparse file, as tar --sparse makes it", "a/2": None}


@pytest.mark.parametrize(
    ("magic", "tool"),
    [
        (b"\x1f\x8b", "gunzip"),
        (b"BZh9", "bunzip2"),
        (b"\xfd7zXZ\0", "unxz"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
    ],
)
def test_a_compressed_tar_names_how_to_unpack_it(tmp_path, magic, tool):
    with pytest.raises(DataError, match=f"is compressed, so .* one by one: unpack it with {tool}"):
        files(planted(tmp_path, "tar", magic + b"\0" * 2000))


def test_members_keep_little_in_memory():
    """Of a hundred thousand members tarfile would keep 100 MB."""
    import tracemalloc

    file = io.BytesIO(b"".join(header(f"a/{row:06d}", 0) for row in range(2000)) + b"\0" * 1024)
    tracemalloc.start()
    count = sum(1 for _ in tars.members(file, "a.tar"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < 500_000
