import json
import pickle
import tarfile
import uuid

import fsspec
import numpy as np
import pytest

from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import opening
from sid2core.data.sources.fields import Fields
from sid2core.data.sources.protocol import listed
from tests import tiny
from tests.data import packs, pictures
from tests.refusals import NOT_UTF8, OUTSIDE, REPEATED, SPLITS, UNLABELLED, refused


def opened(path, **keys):
    data = tiny.source("webdataset", **({"path": str(path), "image_size": 4, "channels": 3} | keys))
    return opening.opened(tiny.params(data=data).data)[0]


def found(source):
    names = source.class_names
    return {
        one.key: names[one.label] if one.problem is None else one.problem for one in listed(source)
    }


def shard(path, members):
    return packs.write(path, packs.tar(members, tarfile.GNU_FORMAT))


def as_json(**value):
    return json.dumps(value).encode()


def test_samples_are_files_of_equal_names(tmp_path):
    members = {
        "./x/b.cls": b"3\n",
        "x/b.JPG": packs.png(1),
        "x/b.seg.png": b"",
        "a.png": packs.png(2),
        "a.json": as_json(label=10, caption="é", more=[1]),
        "a.txt": "ü\n".encode(),
        "c.webp": packs.png(3),
        "c.json": as_json(label="3", caption="three"),
        "d.gif": packs.png(4),
        "d.cls": b"3",
        ".hidden.png": b"",
    }
    source = opened(shard(tmp_path / "train-000.tar", members))
    assert source.class_names == ("3", "10")
    assert found(source) == {
        "train-000/x/b": "3",
        "train-000/a": "10",
        "train-000/c": "3",
        "train-000/d": "3",
    }
    assert (source.shape, source.captioned, source.fixed, source.grouped) == (
        (4, 4, 3),
        True,
        False,
        False,
    )
    sent, entries = pickle.loads(pickle.dumps((source, source.index())))
    assert len(pickle.dumps(source)) < 2000
    captions = [(), ("ü",), ("three",), ()]
    for seed, (entry, caption) in enumerate(zip(entries, captions, strict=True), start=1):
        content = sent.read(entry)
        np.testing.assert_array_equal(content.image, pictures.noise(4, 4, seed=seed))
        assert (content.captions, content.size) == (caption, (4, 4))
    assert source.stamp() == sent.stamp()


@pytest.mark.parametrize("kind", ["folder", "memory", "braces", "glob"])
def test_many_shards_may_count_alike(tmp_path, kind):
    for number in range(3):
        members = {"0.jpg": packs.png(number), "0.cls": b"%d" % number}
        shard(tmp_path / f"data/t-{number:03d}.tar", members)
    packs.write(tmp_path / "data/sizes.json", b"{}")
    path = f"{tmp_path}/data"
    if kind == "memory":
        path = f"memory://{uuid.uuid4().hex}"
        fsspec.filesystem("memory").put(f"{tmp_path}/data/", path, recursive=True)
    path += {"braces": "/t-{000..002}.tar", "glob": "/t-*.tar"}.get(kind, "")
    source = opened(path)
    other = {"sizes.json": "not a .tar file"} if kind in ("folder", "memory") else {}
    assert found(source) == {f"t-{number:03d}/0": str(number) for number in range(3)} | other
    usable = [entry for entry in source.index() if entry.problem is None]
    for seed, entry in enumerate(usable):
        image = source.read(entry).image
        np.testing.assert_array_equal(image, pictures.noise(4, 4, seed=seed))
    assert not source.captioned


def test_samples_that_cannot_be_used_say_why(tmp_path):
    image = packs.png()
    members = [
        ("a.jpg", image),
        ("a.cls", b"0"),
        ("b.cls", b"0"),
        ("c.jpg", image),
        ("c.png", image),
        ("d.jpg", image),
        ("d.cls", b"-1"),
        ("e.jpg", image),
        ("f.jpg", image),
        ("f.json", b"{"),
        ("g.jpg", image),
        ("g.json", as_json(label=1.5)),
        ("h.jpg", image),
        ("h.json", as_json(label=True)),
        ("i.jpg", image),
        ("i.cls", b"\xff"),
        ("j", image),
        ("../k.jpg", image),
        ("l.jpg", image),
        ("l.cls", ("sym", "a.cls")),
        ("m.jpg", image),
        ("m.cls", b"0" * 2_000_000),
        ("n.jpg", image),
        ("n.json", b'{"label": 0, "caption": "\\ud800"}'),
        ("o.jpg", image),
        ("o.json", b"[" * 100_000),
        ("a.jpg", image),
        ("a.cls", b"0"),
        ("\udcff.jpg", image),
    ]
    found_ = found(opened(shard(tmp_path / "s.tar", members)))
    json_reasons = {key: found_.pop(f"s/{key}") for key in "fo"}
    assert all(reason.startswith("its JSON cannot be read: ") for reason in json_reasons.values())
    assert found_ == {
        "s/a": REPEATED,  # its first one is a class of its own
        "s/b": "no image in the sample: cls",
        "s/c": "2 images in the sample: jpg, png",
        "s/d": "label -1; there are classes 0 to 0",
        "s/e": UNLABELLED,
        "s/g": "its label is float; expected an integer or a name",
        "s/h": "its label is bool; expected an integer or a name",
        "s/i": "its text is not UTF-8: invalid start byte",
        "s/j": "its name has no extension",
        "s/../k.jpg": OUTSIDE,
        "s/l": "its cls is a link",
        "s/m": "2000000 bytes of label or JSON; expected at most 1048576",
        "s/n": "its caption is no text: it has half a surrogate pair",
        "s/\udcff": NOT_UTF8,
    }
    entries = listed(opened(tmp_path / "s.tar"))
    assert len(entries) == 17
    first = next(entry for entry in entries if entry.key == "s/a")
    assert first.problem is None


def test_captions_that_are_no_text_are_unusable(tmp_path):
    members = {"a.jpg": packs.png(), "a.txt": b"\xff"}
    source = opened(shard(tmp_path / "s.tar", members))
    with pytest.raises(Unusable, match="its caption is no UTF-8 text"):
        source.read(source.index()[0])


def test_class_names_are_counted_or_matched(tmp_path):
    (tmp_path / "names").write_text("owl\nhen\nn01440764 tench\n")
    members = {}
    for row, label in enumerate([b"1", b"owl", b"n01440764", b"3", b"dog"]):
        members |= {f"{row}.jpg": packs.png(), f"{row}.cls": label}
    source = opened(shard(tmp_path / "s.tar", members), class_names=str(tmp_path / "names"))
    assert source.class_names == ("owl", "hen", "n01440764 tench")
    assert list(found(source).values()) == [
        "hen",
        "owl",
        "n01440764 tench",
        "label 3; there are classes 0 to 2",
        "its class 'dog' is not in data.source.webdataset.class_names",
    ]


def test_samples_without_labels_are_one_class(tmp_path):
    source = opened(shard(tmp_path / "s.tar", {"a.jpg": packs.png(), "a.txt": b"text"}))
    assert source.class_names == ("unlabelled",)
    assert found(source) == {"s/a": "unlabelled"}


@pytest.mark.parametrize(
    ("length", "message"), [(520, "is cut off at byte .*, within its 'b.jpg'"), (0, "ends at byte")]
)
def test_a_truncated_shard_stops(tmp_path, length, message):
    members = {"a.jpg": packs.png(), "a.cls": b"0", "b.jpg": packs.png(), "b.cls": b"0"}
    content = packs.tar(members, tarfile.GNU_FORMAT)
    shard(tmp_path / "s-0.tar", members)
    packs.write(tmp_path / "s-1.tar", content[: content.index(b"b.jpg") + length])
    with pytest.raises(DataError, match=rf"/s-1\.tar {message}.*: fetch or pack it anew, or leave"):
        opened(tmp_path).index()


@pytest.mark.parametrize("name", ["s.tar.gz", "s.tgz", "s.tar"])
@pytest.mark.parametrize("folder", [True, False])
def test_compressed_shards_are_refused_with_the_cure(tmp_path, name, folder):
    packs.write(tmp_path / name, b"\x1f\x8b" + b"\0" * 1000)
    with pytest.raises(DataError, match=f"{name} is compressed, so .*: unpack it with gunzip"):
        opened(tmp_path if folder else tmp_path / name).index()


def test_what_is_no_shard_is_refused(tmp_path):
    packs.write(tmp_path / "s.tar", b"no tar" * 200)
    with pytest.raises(DataError, match=r"s\.tar is not a tar archive, or a damaged one: fetch"):
        opened(tmp_path / "s.tar").index()
    packs.write(tmp_path / "s.tar", packs.tar({}))
    with pytest.raises(
        DataError, match="holds no sample with an image; found nothing: set data.so"
    ):
        opened(tmp_path / "s.tar").index()


def test_names_with_dots(tmp_path):
    members = {
        "a.v1.5.jpg": packs.png(1),
        "a.v1.5.cls": b"3",
        "a.v2.jpg": packs.png(2),
        "a.v2.cls.txt": b"4",
        "b.jpg": packs.png(3),
        "b.seg.png": b"",
        "b.cls": b"4",
    }
    source = opened(shard(tmp_path / "s.tar", members))
    assert found(source) == {"s/a.v1.5": "3", "s/a.v2": "4", "s/b": "4"}
    assert source.fields == ("cls or cls.txt", ("seg.png",), False)
    for entry in source.index():
        seed = {"s/a.v1.5": 1, "s/a.v2": 2, "s/b": 3}[entry.key]
        np.testing.assert_array_equal(source.read(entry).image, pictures.noise(4, 4, seed=seed))


def test_files_of_a_sample_need_not_be_adjacent(tmp_path):
    members = {"x/a.jpg": packs.png(1), "x/b.jpg": packs.png(2), "x/a.cls": b"3", "x/b.cls": b"4"}
    source = opened(shard(tmp_path / "s.tar", members))
    assert found(source) == {"s/x/a": "3", "s/x/b": "4"}


@pytest.mark.parametrize(
    ("name", "content", "label"),
    [
        ("a.cls.txt", b"cat\n", "cls.txt"),
        ("a.json", as_json(**{"class": "cat", "width": 4}), "class"),
        ("a.json", as_json(class_name="cat"), "class_name"),
        ("a.class", b"cat", "class"),
    ],
)
def test_the_only_field_that_looks_like_labels_is_used(tmp_path, name, content, label):
    source = opened(shard(tmp_path / "s.tar", {"a.jpg": packs.png(), name: content}))
    assert found(source) == {"s/a": "cat"}
    assert source.fields.label == label


def test_of_several_labels_the_parameters_name_one(tmp_path):
    both = as_json(fine_label=1, coarse_label=2, url="u", caption="c")
    path = shard(tmp_path / "s.tar", {"a.jpg": packs.png(), "a.json": both})
    with pytest.raises(DataError, match=r"\(coarse_label, fine_label\): set data.label_column to"):
        opened(path).index()
    source = opened(path, label_column="fine_label")
    assert (found(source), source.captioned) == ({"s/a": "1"}, True)
    assert source.fields.ignored == ("coarse_label", "url")
    assert found(opened(path, unlabelled=True)) == {"s/a": "unlabelled"}
    two = shard(tmp_path / "t.tar", {"a.jpg": packs.png(1), "a.png": packs.png(2), "a.cls": b"0"})
    source = opened(two, image_column="png")
    image = source.read(source.index()[0]).image
    np.testing.assert_array_equal(image, pictures.noise(4, 4, seed=2))
    assert source.fields == Fields("cls", ("jpg",))


def test_fields_that_another_one_precedes_in_every_sample_are_ignored(tmp_path):
    """What one sample has in a text file, another may have in its JSON."""
    first = {"a.jpg": packs.png(), "a.cls": b"0", "a.txt": b"t"}
    members = {**first, "a.json": as_json(label=1, caption="c")}
    source = opened(shard(tmp_path / "s.tar", members))
    assert source.fields == Fields("cls", ("caption", "label"))
    members |= {"b.jpg": packs.png(2), "b.json": as_json(label=1, caption="c")}
    source = opened(shard(tmp_path / "t.tar", members))
    assert source.fields == Fields("cls or label", ())


def test_shards_of_img2dataset_have_captions_and_no_labels(tmp_path):
    metadata = as_json(caption="c", url="u", key="0", status="success", width=4, sha256="0")
    members = {"0.jpg": packs.png(), "0.txt": b"c", "0.json": metadata}
    source = opened(shard(tmp_path / "00000.tar", members))
    assert (found(source), source.captioned) == ({"00000/0": "unlabelled"}, True)
    assert source.fields.ignored == ("caption", "key", "sha256", "status", "url", "width")


def test_shards_of_several_splits_are_refused(tmp_path):
    for split in ("train", "validation"):
        shard(tmp_path / f"a/in-{split}-00.tar", {"1.jpg": packs.png(), "1.cls": b"0"})
    cure = (
        rf"data.source.webdataset.path to {tmp_path}/a/in-train-\* and "
        rf"data.source.webdataset.eval_path to {tmp_path}/a/in-validation-\*"
    )
    with pytest.raises(DataError, match=cure):
        opened(tmp_path / "a").index()
    members = {f"{split}/1.jpg": packs.png() for split in ("train", "val")}
    with refused(DataError, SPLITS):
        opened(shard(tmp_path / "b.tar", members)).index()


def test_folders_within_a_shard_without_labels_are_probably_classes(tmp_path):
    path = shard(tmp_path / "s.tar", {f"{name}/1.jpg": packs.png() for name in ("cat", "dog")})
    with pytest.raises(DataError, match=r"2 folders \(cat, dog\): set data.source.name to folder"):
        opened(path).index()
    assert len(opened(path, unlabelled=True).index()) == 2


def all_captions(source):
    return {one.key: source.read(one).captions for one in source.index() if one.problem is None}


def test_captions_are_texts_or_keys_of_the_json(tmp_path):
    members = {f"{name}.jpg": packs.png() for name in "abcdefg"} | {
        "a.txt": "\u200fחתול".encode("utf-16"),
        "a.json": as_json(caption="not read"),
        "b.caption": b"two\n\nlines",
        "c.json": as_json(caption="c", caption_type="short", key="c", split=["nano"]),  # as GPIC
        "d.json": as_json(captions=["d", "D"], text="no"),
        "e.json": as_json(short="e", long="a long e", prompt="p"),
        "f.txt": b"",
        "h.txt": b"lost",
    }
    path = shard(tmp_path / "s.tar", members)
    source = opened(path)
    assert all_captions(source) == {
        **{"s/a": ("\u200fחתול",), "s/b": ("two\n\nlines",), "s/c": ("c",), "s/d": ("d", "D")},
        **{"s/e": ("p",), "s/f": ("",), "s/g": ()},
    }
    known = {one.key: one.captioned for one in source.index() if one.problem is None}
    assert known == {f"s/{name}": name != "g" for name in "abcdefg"}
    assert (source.caption_files.without_image, source.caption_files.examples) == (1, ("s/h",))
    assert {"short", "caption_type"} <= set(source.fields.ignored)

    both = opened(path, caption_column=["short", "long"])
    assert all_captions(both)["s/e"] == ("e", "a long e")
    assert all_captions(both)["s/a"] == ()
    named = opened(path, caption_column="caption", caption_lines=True)
    assert all_captions(named)["s/b"] == ("two", "lines")
    with pytest.raises(DataError, match="no field 'nothing'.*data.caption_column"):
        opened(path, caption_column="nothing").index()
    none = opened(path, captions="none")
    assert (none.captioned, all_captions(none)["s/a"]) == (False, ())


def test_captioned_samples_in_folders_need_no_classes(tmp_path):
    members = {f"{name}/1.{kind}": packs.png() for name in "xy" for kind in ["jpg"]}
    with pytest.raises(DataError, match="no labels"):
        opened(shard(tmp_path / "a.tar", members)).index()
    members |= {"x/1.txt": b"a", "y/1.txt": b"b"}
    source = opened(shard(tmp_path / "b.tar", members))
    assert source.class_names == ("unlabelled",)
    assert len(source.index()) == 2
