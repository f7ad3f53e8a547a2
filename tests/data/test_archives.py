import io
import pickle
import struct
import tarfile
import zipfile
import zlib

import pytest

from sid2core.data import archives, places, tars, trees
from sid2core.data.archives import TarTree, ZipTree
from sid2core.data.errors import DataError, Unusable
from sid2core.data.trees import ROOT
from tests.data import packs, pictures

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
    out = "its name leads out of the archive"
    much = "its name has more than 32 folders or 1024 characters"
    wanted = {**dict.fromkeys(names[:3], out), "a/3.png": None, deep: much, long[:1024]: much}
    assert found == wanted
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
        with pytest.raises(DataError, match=rf"a\.{kind} .*: fetch or pack it anew"):
            files(planted(tmp_path, kind, content))
    content = packs.zipped(FILES)
    with pytest.raises(DataError, match="cannot be read as a zip archive .*fetch or pack it anew"):
        files(planted(tmp_path, "zip", content[:-30]))


@pytest.mark.parametrize("kind", TREES)
def test_larger_members_than_the_limit_are_refused_unread(tmp_path, monkeypatch, kind):
    tree = planted(tmp_path, kind, {"a/1": b"\0" * 100_000, "a/2": b"\0" * 100})
    monkeypatch.setattr(places, "LIMIT", 1000)
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


def test_a_zips_member_without_a_name_is_told(tmp_path):
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
    with pytest.raises(Unusable, match="not those that the archive's table tells of"):
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
        "a/link.png": "a link: pack the archive with what it leads to",
        "a/bz.png": "packed by method 12: pack the archive stored or deflated",
        "a/secret.png": "encrypted: pack the archive without a password",
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
    members = {"n1.tar": inner, "n2.tar": b"no tar" * 100, "x/n3.tar": packs.tar({}), "n4": inner}
    tree = planted(tmp_path, "tar", members | {"../n5.tar": inner, ".n6.tar": inner})
    out = "its name leads out of the archive"
    assert problems(tree) == {
        "../n5.tar": out,
        "n1//etc/x": out,
        "n1/n1_1.JPEG": None,
        "n1/n1_2.JPEG": None,
        "n2.tar": "not a tar archive",
        "n4": None,
    }
    assert contents(tree) == {"n1/n1_1.JPEG": b"one", "n1/n1_2.JPEG": b"two", "n4": inner}
    assert [item.path for item in trees.walk(tree, ROOT) if item.is_folder] == ["n1", "x", "x/n3"]


def test_links_within_a_tar_are_followed_and_others_told(tmp_path):
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
    others = {"b/pipe": "not a regular file", "../out": "its name leads out of the archive"}
    assert problems(tree) == wrong | dict.fromkeys(good) | others
    assert contents(tree) == dict.fromkeys(good, b"one")


def test_a_truncated_tar_gives_its_whole_members_and_the_broken_one(tmp_path):
    content = packs.tar({"a/1": b"1" * 700, "a/2": b"2" * 700}, tarfile.GNU_FORMAT)
    second = content.index(b"a/2")
    found = {}
    for length in (second + 600, second + 512, second + 100, second, second - 100, second - 324):
        tree = planted(tmp_path, "tar", content[:length])
        found[length - second] = problems(tree)
    damaged = "the archive is damaged, or another one begins here"
    assert found == {
        600: {"a/1": None, "a/2": "cut off after 88 of 700 bytes"},
        512: {"a/1": None, "a/2": "cut off after 0 of 700 bytes"},
        100: {"a/1": None, "byte 1536": damaged},
        0: {"a/1": None},
        -100: {"a/1": None},  # of the padding; all of its bytes are there
        -324: {"a/1": None},
    }
    cut = problems(planted(tmp_path, "tar", content[: second - 325]))
    assert cut == {"a/1": "cut off after 699 of 700 bytes"}


def test_a_second_tar_behind_the_first_is_not_lost_silently(tmp_path):
    content = packs.tar({"a/1": b"one"}) + packs.tar({"a/2": b"two"})
    found = problems(planted(tmp_path, "tar", content))
    damaged = "the archive is damaged, or another one begins here"
    assert found == {"a/1": None, "byte 1024": damaged}


def test_a_damaged_header_ends_a_tar(tmp_path):
    content = bytearray(packs.tar({name: b"x" for name in "abc"}, tarfile.GNU_FORMAT))
    content[1024 + 100] ^= 1
    assert list(problems(planted(tmp_path, "tar", bytes(content)))) == ["a", "byte 1024"]


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
    found = problems(planted(tmp_path, "tar", content))
    assert found["a/1"] is None
    assert sum(problem is not None for problem in found.values()) >= 1
    assert len(found) <= 3


def test_a_sparse_file_is_told(tmp_path):
    content = header("a/1", 512, b"S") + b"x" * 512 + packs.tar({"a/2": b"two"})
    found = problems(planted(tmp_path, "tar", content))
    assert found == {"a/1": "a sparse file: pack the archive without --sparse", "a/2": None}


@pytest.mark.parametrize(
    ("magic", "tool"),
    [
        (b"\x1f\x8b", "gunzip"),
        (b"BZh9", "bunzip2"),
        (b"\xfd7zXZ\0", "unxz"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
    ],
)
def test_a_compressed_tar_tells_how_to_unpack_it(tmp_path, magic, tool):
    with pytest.raises(DataError, match=f"is compressed, so .* one by one: unpack it with {tool}"):
        files(planted(tmp_path, "tar", magic + b"\0" * 2000))


def test_members_keep_little_in_memory():
    """Of a hundred thousand members tarfile would keep 100 MB."""
    import tracemalloc

    file = io.BytesIO(b"".join(header(f"a/{row:06d}", 0) for row in range(2000)))
    tracemalloc.start()
    count = sum(1 for _ in tars.members(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < 500_000
