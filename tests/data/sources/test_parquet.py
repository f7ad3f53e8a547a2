import json
import pickle
import uuid

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import opening, parquet
from sid2core.data.sources.fields import CAPTION_KEY
from sid2core.data.sources.protocol import listed
from tests import tiny
from tests.data import packs, pictures
from tests.refusals import SPLITS, UNLABELLED

NAMES = ["cat", "dog", "owl"]


def opened(path, **keys):
    data = tiny.source("parquet", **({"path": str(path), "image_size": 4, "channels": 3} | keys))
    return opening.opened(tiny.params(data=data).data)[0]


def table(rows, names=None, **columns):
    """As Hugging Face writes it; ``names`` make a ClassLabel of the labels."""
    structs = [{"bytes": packs.png(row), "path": f"{row}.png"} for row in range(rows)]
    made = pa.table({"image": structs} | columns)
    if names is None:
        return made
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = json.dumps({"info": {"features": features}})
    return made.replace_schema_metadata({"huggingface": metadata})


def write(path, made, rows=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path, row_group_size=rows)
    return path


def found(source):
    names = source.class_names
    return {
        one.key: names[one.label] if one.problem is None else one.problem for one in listed(source)
    }


def test_rows_of_a_file_in_the_layout_of_hugging_face(tmp_path):
    made = table(5, NAMES, label=[2, 0, 2, None, 3], caption=["a", "b", None, "d", "é"])
    source = opened(write(tmp_path / "train-00000-of-00001.parquet", made))
    assert source.class_names == ("cat", "dog", "owl")
    assert (source.shape, source.captioned, source.fixed, source.grouped) == (
        (4, 4, 3),
        True,
        False,
        True,
    )
    stem = "train-00000-of-00001"
    assert found(source) == {
        f"{stem}/0000000": "owl",
        f"{stem}/0000001": "cat",
        f"{stem}/0000002": "owl",
        f"{stem}/0000003": UNLABELLED,
        f"{stem}/0000004": "label 3; there are classes 0 to 2",
    }
    sent, entries = pickle.loads(pickle.dumps((source, source.index())))
    assert [entry.group for entry in entries] == [0, 0, 1, 1, 2]
    for row, (entry, caption) in enumerate(zip(entries, "ab_dé", strict=True)):
        content = sent.read(entry)
        np.testing.assert_array_equal(content.image, pictures.noise(4, 4, seed=row))
        assert (content.captions, content.size) == ((caption,) if caption != "_" else (), (4, 4))
    assert source.stamp() == sent.stamp()


@pytest.mark.parametrize("column", ["image", "img", "jpg"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_bytes_and_other_names_of_the_column(tmp_path, column, kind):
    made = pa.table(
        {column: pa.array([packs.png(row) for row in range(3)], kind), "label": ["b", "a", "b"]}
    )
    source = opened(write(tmp_path / "a.parquet", made))
    assert source.class_names == ("a", "b")
    assert list(found(source).values()) == ["b", "a", "b"]
    assert not source.captioned
    content = source.read(source.index()[2])
    np.testing.assert_array_equal(content.image, pictures.noise(4, 4, seed=2))
    assert content.captions == ()


@pytest.mark.parametrize("kind", ["folder", "memory", "pattern"])
def test_many_files(tmp_path, kind):
    for name, label in (("x/b", 7), ("a", 10)):
        write(tmp_path / f"data/{name}.parquet", table(3, label=[label] * 3), rows=3)
    packs.write(tmp_path / "data/README.md", b"text")
    path = str(tmp_path / "data")
    if kind == "memory":
        path = f"memory://{uuid.uuid4().hex}"
        fsspec.filesystem("memory").put(str(tmp_path / "data") + "/", path, recursive=True)
    elif kind == "pattern":
        path += "/{a,x/b}.parquet"
    source = opened(path)
    assert source.class_names == ("7", "10")
    rows = {f"a/{row:07d}": "10" for row in range(3)} | {f"x/b/{row:07d}": "7" for row in range(3)}
    other = {} if kind == "pattern" else {"README.md": "not a .parquet file"}
    assert found(source) == rows | other
    usable = [entry for entry in source.index() if entry.problem is None]
    assert [entry.group for entry in usable] == [0, 0, 0, 1, 1, 1]
    for entry, seed in zip(usable, [0, 1, 2] * 2, strict=True):
        image = source.read(entry).image
        np.testing.assert_array_equal(image, pictures.noise(4, 4, seed=seed))


def test_class_names_are_matched_by_name(tmp_path):
    (tmp_path / "names").write_text("owl\nhen\ncat\n")
    path = write(tmp_path / "a.parquet", table(4, NAMES, label=[0, 1, 2, 5]))
    source = opened(path, class_names=str(tmp_path / "names"))
    assert source.class_names == ("owl", "hen", "cat")
    none = "its class {!r} is not in data.source.parquet.class_names".format
    assert list(found(source).values()) == ["cat", none("dog"), "owl", none("5")]
    plain = opened(write(tmp_path / "b.parquet", table(4, label=[0, 1, 2, 5])),
                   class_names=str(tmp_path / "names"))  # fmt: skip
    wrong = "label 5; there are classes 0 to 2"
    assert list(found(plain).values()) == ["owl", "hen", "cat", wrong]


def test_rows_without_labels_are_one_class(tmp_path):
    source = opened(write(tmp_path / "a.parquet", table(3, text=["a", "b", "c"])))
    assert source.class_names == ("unlabelled",)
    assert list(found(source).values()) == ["unlabelled"] * 3
    assert source.captioned
    assert [source.read(entry).captions for entry in source.index()] == [("a",), ("b",), ("c",)]


def test_rows_without_bytes_are_unusable(tmp_path):
    structs = [{"bytes": None, "path": "a.png"}, None, {"bytes": b"", "path": None}]
    made = pa.table(
        {"image": pa.array(structs, pa.struct({"bytes": pa.binary(), "path": pa.string()}))}
    )
    source = opened(write(tmp_path / "a.parquet", made))
    entries = source.index()
    for entry in entries[:2]:
        with pytest.raises(
            Unusable, match=r"its row holds no bytes of a picture; .*embed_external_files"
        ):
            source.read(entry)
    with pytest.raises(Unusable):
        source.read(entries[2])


def test_a_row_group_is_read_once_while_its_rows_are_wanted(tmp_path, monkeypatch):
    source = opened(write(tmp_path / "a.parquet", table(20, label=[0] * 20), rows=5))
    entries, reads = source.index(), []
    read_row_group = pq.ParquetFile.read_row_group
    parquet._group.cache_clear()

    def counted(self, group, **options):
        reads.append((group, options["columns"]))
        return read_row_group(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    for entry in entries:
        source.read(entry)
    assert reads == [(group, ["image.bytes"]) for group in range(4)]
    pq.write_table(table(20, label=[1] * 20), tmp_path / "a.parquet", row_group_size=4)
    assert len({entry.group for entry in opened(tmp_path).index()}) == 5


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (pa.table({"pixels": [b""], "label": [0]}), "has columns pixels, label; expected one of"),
        (pa.table({"image": [0]}), "has a column image of int64; expected files' bytes"),
        (pa.table({"image": [{"path": "a"}]}), "or a struct with a field bytes"),
        (table(1, label=[0.5]), "labels of double in the column label; expected integers"),
        (table(1, label=[[1]]), "list<element: int64> in the column label; expected"),
        (table(0, label=pa.array([], pa.int64())).cast(table(1, label=[0]).schema),
         "holds no row of an image; found nothing"),
    ],
)  # fmt: skip
def test_what_has_no_pictures_or_labels_is_refused(tmp_path, made, message):
    with pytest.raises(DataError, match=message):
        opened(write(tmp_path / "a.parquet", made)).index()


def test_files_of_several_splits_are_not_mixed(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / f"{split}-00000-of-00001.parquet", table(1, label=[0]))
    message = (
        rf"holds files of several splits \(test, train\), .*: set data.source.parquet.path to "
        rf"{tmp_path}/train-\* and data.source.parquet.eval_path to {tmp_path}/test-\*$"
    )
    with pytest.raises(DataError, match=message):
        opened(tmp_path).index()
    assert len(opened(tmp_path / "train-*").index()) == 1


def test_a_folder_without_parquet_and_a_damaged_file(tmp_path):
    packs.write(tmp_path / "a.txt", b"")
    with pytest.raises(
        DataError, match="holds no Parquet file: set data.source.parquet.path to a folder of such"
    ):
        opened(tmp_path).index()
    content = write(tmp_path / "b.parquet", table(3, label=[0, 1, 0])).read_bytes()
    for damaged in (b"", b"PAR1", content[:-20], content[:200] + content[-4:]):
        (tmp_path / "b.parquet").write_bytes(damaged)
        with pytest.raises(DataError, match=r"b\.parquet is no Parquet file, or damaged .*anew"):
            opened(tmp_path / "b.parquet").index()


def damage(path, chunks):
    """Overwrite columns of row groups, each given as (group, column)."""
    content, metadata = bytearray(path.read_bytes()), pq.ParquetFile(path).metadata
    for group, column in chunks:
        chunk = metadata.row_group(group).column(column)
        first = chunk.dictionary_page_offset or chunk.data_page_offset
        content[first : first + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("names", [None, ["a", "b"]])
def test_every_row_of_a_damaged_row_group_is_set_aside_under_its_own_key(tmp_path, names):
    path = write(tmp_path / "a.parquet", table(7, names, label=[0, 1, 0, 1, 0, 1, 1]))
    labels, pictures_ = (1, 2), (2, 0)
    source = opened(damage(path, [labels, pictures_]))
    entries = source.index()
    assert [entry.key for entry in entries] == [f"a/{row:07d}" for row in range(7)]
    damaged = [row for row, entry in enumerate(entries) if entry.problem]
    assert damaged == [2, 3]
    assert all("its row group is damaged (" in entries[row].problem for row in damaged)
    assert [entries[row].label for row in (0, 1, 4, 5, 6)] == [0, 1, 0, 1, 1]
    for row in (4, 5):
        with pytest.raises(Unusable, match=r"its row group is damaged \("):
            source.read(entries[row])
    for row in (0, 1, 6):
        image = source.read(entries[row]).image
        np.testing.assert_array_equal(image, pictures.noise(4, 4, seed=row))


def test_labels_that_are_too_few_are_damage(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", table(4, NAMES, label=[0, 1, 2, 0]))
    read = parquet._table
    monkeypatch.setattr(parquet, "_table", lambda *args: read(*args).slice(args[1]))
    wrong = "its row group is damaged: 1 labels of 2 rows"
    assert list(found(opened(path)).values()) == ["cat", "dog", wrong, wrong]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (["a", "b"], ["b", "a"], "its labels have 'b' as class 0, and those of .*/1.parquet 'a'"),
        (["a"], ["a", "b"], "its labels have 'b' as class 1, and those of .*/1.parquet None"),
        (["a", "b"], None, "its labels have None as class 0, and those of .*/1.parquet 'a'"),
        (None, ["a", "b"], "its labels have 'a' as class 0, and those of .*/1.parquet None"),
        (["a", "b"], "text", "its labels are strings in the column label, and .* integers in"),
        ("text", None, "its labels are integers in the column label, and .* strings in"),
        ("none", "text", "its labels are strings in the column label, and .* none"),
    ],
)
def test_files_whose_labels_mean_different_classes_stop(tmp_path, first, second, message):
    for name, kind in (("1", first), ("2", second)):
        columns = {"text": {"label": ["a", "b"]}, "none": {}}.get(str(kind), {"label": [0, 1]})
        names = kind if isinstance(kind, list) else None
        write(tmp_path / f"data/{name}.parquet", table(2, names, **columns))
    cure = "write all files alike, or name the classes in data.source.parquet.class_names"
    with pytest.raises(
        DataError, match=f"data.source.parquet.path .*/2.parquet: {message}.*: {cure}"
    ):
        opened(tmp_path / "data").index()


def test_class_names_settle_what_labels_mean(tmp_path):
    for number, (names, columns) in enumerate(
        [(["a", "b"], [0, 1]), (["b", "a"], [0, 1]), (None, ["a", "b"]), (None, [1, 0])]
    ):
        write(tmp_path / f"data/{number}.parquet", table(2, names, label=columns))
    listed_ = str(packs.write(tmp_path / "names", b"a\nb\n"))
    assert "".join(found(opened(tmp_path / "data", class_names=listed_)).values()) == "abbaabba"


def test_files_without_labels_among_others_are_set_aside(tmp_path):
    write(tmp_path / "1.parquet", table(1, ["a"], label=[0]))
    write(tmp_path / "2.parquet", table(1))
    assert list(found(opened(tmp_path)).values()) == ["a", UNLABELLED]


def test_row_groups_too_large_to_read_at_once_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", table(3, label=[0, 1, 0]), rows=3)
    monkeypatch.setattr(parquet, "_GROUP", 100)
    with pytest.raises(
        DataError, match="has a row group of .*write it anew with row groups of some"
    ):
        opened(path).index()
    monkeypatch.setattr("sid2core.data.storage.paths.size", lambda path: 2)
    wrong = "a.parquet is damaged: it claims 3 rows, and has 2 bytes; fetch it anew, or leave"
    with pytest.raises(DataError, match=wrong):
        opened(path, class_names=str(packs.write(tmp_path / "names", b"a\nb\n"))).index()


@pytest.mark.parametrize(
    "metadata",
    [b"no json", b"[" * 10_000, b"{}", b'{"info": 1}', b'{"info": {"features": {"label": []}}}'],
)
def test_metadata_that_name_no_classes_are_no_matter(tmp_path, metadata):
    made = table(2, label=[4, 2]).replace_schema_metadata({b"huggingface": metadata})
    assert opened(write(tmp_path / "a.parquet", made)).class_names == ("2", "4")


FEATURES = {"fine_label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def with_features(made, features):
    return made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


@pytest.mark.parametrize("column", ["labels", "fine_label", "class", "species"])
def test_the_only_column_that_looks_like_labels_is_used(tmp_path, column):
    source = opened(
        write(tmp_path / "a.parquet", table(2, **{column: ["b", "a"], "width": [1, 2]}))
    )
    assert list(found(source).values()) == ["b", "a"]
    assert (source.fields.label, source.fields.ignored) == (column, ("width",))


def test_a_class_label_of_any_name_is_used(tmp_path):
    made = with_features(table(2, animal=[1, 0]), {"animal": FEATURES["fine_label"]})
    source = opened(write(tmp_path / "a.parquet", made))
    assert list(found(source).values()) == ["dog", "cat"]
    assert source.fields.spare_classes


def test_of_several_labels_the_parameters_name_one(tmp_path):
    """As CIFAR-100 has them."""
    made = table(2, fine_label=[1, 0], coarse_label=[5, 6]).rename_columns({"image": "img"})
    path = write(tmp_path / "a.parquet", with_features(made, FEATURES))
    message = r"look like labels \(fine_label, coarse_label\): set data.label_column to one of"
    with pytest.raises(DataError, match=message):
        opened(path).index()
    fine = opened(path, label_column="fine_label", image_column="img")
    assert list(found(fine).values()) == ["dog", "cat"]
    assert fine.fields.ignored == ("coarse_label",)
    assert list(found(opened(path, label_column="coarse_label")).values()) == ["5", "6"]
    none = opened(path, unlabelled=True)
    assert list(found(none).values()) == ["unlabelled"] * 2
    assert none.fields.ignored == ("fine_label", "coarse_label")
    for key in ("label_column", "image_column"):
        with pytest.raises(DataError, match=f"has no field 'kind'.*correct data.{key}"):
            opened(path, **({"label_column": "fine_label"} | {key: "kind"})).index()


def test_pictures_and_yes_or_no_labels_of_other_names(tmp_path):
    made = table(2, smiling=[True, False]).rename_columns({"image": "photo"})
    path = write(tmp_path / "a.parquet", made)
    with pytest.raises(DataError, match=r"has columns photo, smiling; .*set data\.image_column"):
        opened(path).index()
    source = opened(path, image_column="photo", label_column="smiling")
    assert list(found(source).values()) == ["1", "0"]
    image = source.read(source.index()[1]).image
    np.testing.assert_array_equal(image, pictures.noise(4, 4, seed=1))


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["train/0.parquet", "validation/0.parquet"], ["train", "validation"]),
        (["c-train-0.parquet", "c-test-0.parquet"], ["c-train-*", "c-test-*"]),
    ],
)
def test_splits_in_folders_and_in_names_are_refused_with_paths_that_work(tmp_path, names, paths):
    for row, name in enumerate(names):
        write(tmp_path / name, table(1, label=[row]))
    with pytest.raises(DataError, match=SPLITS) as caught:
        opened(tmp_path).index()
    keys = ("data.source.parquet.path", "data.source.parquet.eval_path")
    for row, (key, path) in enumerate(zip(keys, paths, strict=True)):
        assert f"{key} to {tmp_path}/{path}" in str(caught.value)
        assert list(found(opened(tmp_path / path)).values()) == [str(row)]


def test_files_of_save_to_disk_are_refused_with_the_cure(tmp_path):
    packs.write(tmp_path / "train/data-00000-of-00001.arrow", b"")
    with pytest.raises(DataError, match=r"holds Arrow files.*to_parquet\("):
        opened(tmp_path).index()


_MIB = 2**20


@pytest.mark.parametrize("column", ["image", "label", "caption"])
def test_rows_that_share_a_value_share_its_memory(tmp_path, column):
    """6,000 rows of one 4 MiB value are 24 GiB if each row has its own."""
    part = np.random.default_rng(0).bytes(8192).hex().encode()  # a file of a byte a row at least
    rows, large = 6000, part * (4 * _MIB // len(part))
    small = {"image": packs.png(), "label": b"cat", "caption": b"text"}
    values = {name: large if name == column else value for name, value in small.items()}
    kinds = {"image": pa.binary(), "label": pa.string(), "caption": pa.string()}
    places = pa.array([0] * rows, pa.int32())
    made = {
        name: pa.DictionaryArray.from_arrays(places, pa.array([value], pa.binary()).cast(kind))
        for (name, value), kind in zip(values.items(), kinds.values(), strict=True)
    }
    structs = pa.StructArray.from_arrays([made["image"]], ["bytes"])
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(made | {"image": structs}), path, compression="zstd")
    assert path.stat().st_size < 100_000
    source = opened(path)
    before = pa.total_allocated_bytes()
    entries = listed(source)
    assert len(entries) == rows
    if column == "image":
        with pytest.raises(Unusable, match="no image"):
            source.read(entries[-1])
    else:
        assert source.read(entries[-1]).image.shape == (4, 4, 3)
    assert pa.total_allocated_bytes() - before < 64 * _MIB


@pytest.mark.parametrize(
    ("size", "lacking"), [(2**20, True), (2**62, False)], ids=["memory", "damage"]
)
def test_lack_of_memory_is_no_damage(tmp_path, monkeypatch, size, lacking):
    path = write(tmp_path / "a.parquet", table(2, NAMES, label=[0, 1]))
    source = opened(path)
    entries = listed(source)

    def fail(*_):
        msg = f"malloc of size {size} failed"
        raise pa.ArrowMemoryError(msg)

    monkeypatch.setattr(parquet, "_table", fail)
    parquet._group.cache_clear()
    if lacking:
        with pytest.raises(DataError, match=r"not enough memory .*lower runtime\.workers"):
            source.read(entries[0])
    else:
        with pytest.raises(Unusable, match="damaged"):
            source.read(entries[0])


def test_captions_are_strings_or_lists_of_strings(tmp_path):
    made = table(3, caption=["a", None, ""], long=[["b", "c"], [], None], prompt=["p"] * 3)
    path = write(tmp_path / "a.parquet", made)

    def captions(**keys):
        source = opened(path, **keys)
        return [source.read(entry).captions for entry in source.index()]

    assert captions() == [("a",), (), ("",)]
    assert captions(caption_column=["long", "prompt"]) == [("b", "c", "p"), ("p",), ("p",)]
    assert captions(captions="none") == [()] * 3
    assert not opened(path, captions="none").captioned
    with pytest.raises(DataError, match="no field 'x'.*data.caption_column"):
        captions(caption_column="x")
    with pytest.raises(DataError, match="column image of .*expected strings.*data.caption_column"):
        captions(caption_column="image")


def test_a_column_that_probably_has_captions_is_suggested(tmp_path):
    path = write(tmp_path / "a.parquet", table(2, description=["a", "b"], width=[1, 2]))
    (line,) = opened(path).caption_files.suggestions
    assert line == f"{path} has the column description, which is not read; set {CAPTION_KEY} to it"
    assert opened(path, captions="none").caption_files.suggestions == ()
    assert opened(path, caption_column="description").caption_files.suggestions == ()
