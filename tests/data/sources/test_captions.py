"""Captions beside image files: text files, and tables."""

import json
import pickle

import pytest

from sid2core.data.errors import DataError, Unusable
from sid2core.data.sources import protocol
from sid2core.data.sources.captions import tables, texts
from sid2core.data.sources.fields import Asked, Fields
from sid2core.data.sources.protocol import listed
from tests.data import packs
from tests.data.sources.test_folders import KINDS, opened, put

RIGHT_TO_LEFT = "\u200fחתול 🐈‍⬛"
CSV = 'file_name,text\n1.png,"a cat, ""Tom"""\nsub/2.png,two\n'


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows).encode()


def captions(source):
    """Of every entry its captions, or its problem."""
    return {one.key: one.problem or protocol.loaded(source, one).captions for one in listed(source)}


def folder(tmp_path, members):
    for name, content in members.items():
        packs.write(tmp_path / name, content)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_text_files_beside_images_on_disk_in_archives_and_behind_addresses(tmp_path, kind):
    members = {
        "x/1.png": packs.png(1),
        "x/1.txt": b"\xef\xbb\xbfa cat\r\nasleep \n",
        "x/2.png": packs.png(2),
        "x/2.txt": RIGHT_TO_LEFT.encode("utf-16"),
        "x/2.caption": b"<b>two</b>",
        "y/3.png": packs.png(3),
        "y/3.txt": b"",
        "y/first.jpg": packs.png(4),
        "y/fisrt.txt": b"lost",
    }
    source = opened(put(tmp_path / "data", members, kind))
    assert source.captioned
    assert source.class_names == ("unlabelled",)
    assert captions(source) == {
        "x/1.png": ("a cat\nasleep",),
        "x/2.png": ("<b>two</b>", RIGHT_TO_LEFT),
        "y/3.png": ("",),
        "y/first.jpg": (),
        "y/fisrt.txt": "a caption without an image",
    }
    known = {one.key: one.captioned for one in listed(source) if one.problem is None}
    assert known == {"x/1.png": True, "x/2.png": True, "y/3.png": True, "y/first.jpg": False}
    report = source.caption_files
    assert (report.without_image, report.examples) == (1, ("y/fisrt.txt",))
    assert report.suggestions == (
        "the caption of y/fisrt has no image; the nearest image is y/first",
    )
    sent = pickle.loads(pickle.dumps(source))
    assert sent.read(listed(source)[0]).captions == ("a cat\nasleep",)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_tables_name_images_below_their_folder(tmp_path, kind):
    members = {f"{name}.png": packs.png() for name in ("1", "sub/2", "é/1", "é/2")} | {
        "metadata.csv": CSV.encode(),
        "é/metadata.jsonl": lines(
            {"file_name": "1.png", "text": ["one", RIGHT_TO_LEFT], "score": 3},
            {"file_name": "./2.png", "text": None},
            {"file_name": "1.png", "text": "again"},
            {"file_name": "gone.png", "text": "gone"},
        ),
    }
    source = opened(put(tmp_path / "data", members, kind))
    assert captions(source) == {
        "1.png": ('a cat, "Tom"',),
        "sub/2.png": ("two",),
        "é/1.png": ("one", RIGHT_TO_LEFT, "again"),
        "é/2.png": (),
    }
    assert source.caption_files.without_image == 1
    assert source.caption_files.examples == ("é/gone.png",)


def test_parameters_choose_the_fields(tmp_path):
    table = lines({"file_name": "1.png", "short": "cat", "long": "a cat", "text": "no"})
    members = {"1.png": packs.png(), "1.txt": b"one\n\n two \n", "metadata.jsonl": table}
    path = folder(tmp_path, members)
    assert captions(opened(path)) == {"1.png": ("no", "one\n\n two")}
    assert captions(opened(path, caption_column="short")) == {"1.png": ("cat",)}
    both = opened(path, caption_column=["long", "short"])
    assert captions(both) == {"1.png": ("a cat", "cat")}
    several = opened(path, caption_column="txt", caption_lines=True)
    assert captions(several)["1.png"] == ("one", "two")
    with pytest.raises(DataError, match=r"has no field 'lang'; found .*long.* data.caption_column"):
        _ = opened(path, caption_column="lang").captioned
    none = opened(path, captions="none")
    assert not none.captioned
    assert [(one.key, one.captioned) for one in none.index() if not one.problem] == [
        ("1.png", None)
    ]


def test_usual_fields_are_found_in_capitals_too():
    assert Asked().caption_fields(["URL", "TEXT"]) == ("TEXT",)
    assert Asked().caption_fields(["TEXT", "text", "Caption"]) == ("Caption",)
    assert Asked(caption=("text",)).caption_fields(["TEXT"]) == ()


def test_folders_are_classes_of_captioned_images_only_if_the_parameters_say_so(tmp_path):
    members = {f"{name}/1.png": packs.png() for name in ("cat", "dog")}
    path = folder(tmp_path, members | {"cat/1.txt": b"a", "dog/1.txt": b"b"})
    assert opened(path).class_names == ("unlabelled",)
    named = opened(path, classes="folders")
    assert (named.class_names, named.captioned) == (("cat", "dog"), True)
    assert [entry.label for entry in named.index()] == [0, 1]
    names = packs.write(tmp_path.parent / "names.txt", b"dog\ncat\n")
    assert opened(path, class_names=str(names)).class_names == ("dog", "cat")
    (path / "cat" / "1.txt").unlink()
    (path / "dog" / "1.txt").unlink()
    assert opened(path).class_names == ("cat", "dog")


def test_a_changed_caption_changes_the_stamp_and_the_caption(tmp_path):
    path = folder(tmp_path, {"1.png": packs.png(), "1.txt": b"one"})
    before = opened(path)
    stamp = before.stamp()
    packs.write(path / "1.txt", b"another")
    after = opened(path)
    assert after.stamp() != stamp
    assert captions(after) == {"1.png": ("another",)}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xef\xbb\xbf\xc3\xa9", "é"),
        ("é\r\nb\rc".encode("utf-16"), "é\nb\nc"),
        ("a cat".encode("utf-16-le"), "a cat"),
        ("a cat".encode("utf-16-be"), "a cat"),
        ("猫".encode("utf-32"), "猫"),
        (("x" * 10_000).encode(), "x" * 10_000),
        (b"", ""),
    ],
)
def test_encodings_are_recognised(content, text):
    assert texts.decoded(content) == text


@pytest.mark.parametrize(
    "content", ["é".encode("latin-1"), "猫の".encode("shift-jis"), b"a\0b...."]
)
def test_other_encodings_are_refused(tmp_path, content):
    with pytest.raises(Unusable, match="save it as UTF-8"):
        texts.decoded(content)
    path = folder(tmp_path, {"1.png": packs.png(), "1.txt": content})
    source = opened(path)
    with pytest.raises(Unusable, match=r"its \.txt is no .*save it as UTF-8"):
        source.read(source.index()[0])
    packs.write(path / "metadata.csv", b"file_name,text\n1.png," + content)
    with pytest.raises(DataError, match=r"metadata\.csv is no .*save it as UTF-8"):
        _ = opened(path).captioned


def table(content, name="metadata.csv", **asked):
    found = tables.read(content.encode(), name, "the table", Asked(**asked))
    return [(row.path, row.captions) for row in found.rows]


@pytest.mark.parametrize(
    "content",
    [
        'file_name,text\n1.png,"a, ""b""\nc"\n',
        'file_name;text\n"1.png";"a, ""b""\nc"\n',
        'file_name\ttext\n1.png\t"a, ""b""\nc"\n',
        'file_name, text\r\n1.png, "a, \\"b\\"\nc"\r\n\r\n',
        '"text","file_name"\n"a, ""b""\nc","1.png"',
        'id,file_name,text\n7,1.png,"a, ""b""\nc"\n',
        'File_Name;Text\n1.png;"a, ""b""\nc"\n',
    ],
)
def test_quotation_marks_in_tables(content):
    assert table(content) == [("1.png", ('a, "b"\nc',))]


def test_long_cells_are_read():
    assert table("file_name,text\n1.png," + "x" * 200_000)[0][1] == ("x" * 200_000,)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("file_name,text\n1.png,a, b\n", "metadata.csv", "line 2: 3 cells; the header has 2"),
        ('file_name,text\n1.png,"a\n', "metadata.csv", "no CSV.*double quotes"),
        ("name,text\n1.png,a\n", "metadata.csv", "columns name, text; expected file_name"),
        ("file_name,text\n,a\n", "metadata.csv", "line 2: found file_name ''"),
        ("{}\n[1]\n", "metadata.jsonl", "line 2: found list; expected an object a line"),
        ("\n{'a': 1}", "metadata.jsonl", "line 2: no JSON"),
        ('{"file_name": "1", "text": 3}', "metadata.jsonl", "line 1: text is int; expected"),
        ('{"file_name": "1", "text": "\\ud800"}', "metadata.jsonl", "line 1: .*surrogate"),
        ('{"text": "a"}', "metadata.jsonl", "expected file_name"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(content, name, message):
    with pytest.raises(DataError, match=rf"(?s)the table.*{message}"):
        table(content, name)


def test_a_table_without_captions_is_not_one_of_captions(tmp_path):
    assert table("file_name,label\n1.png,3,4\n") == []
    path = folder(tmp_path, {"a/1.png": packs.png(), "metadata.csv": b"file_name,kind\n1,2,3\n"})
    source = opened(path)
    assert (source.captioned, source.class_names) == (False, ("a",))


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("metadata.json1", "metadata.json1 is not read; expected metadata.jsonl"),
        ("metadata.json", "metadata.json is not read; expected metadata.jsonl"),
        ("Metadata.JSONL", "Metadata.JSONL is not read; expected metadata.jsonl"),
        ("metadta.csv", "metadta.csv is not read; expected metadata.csv"),
        ("captions.jsonl", "captions.jsonl is not read; expected metadata.jsonl or metadata.csv"),
        ("captions.txt", "captions.txt is not read; expected metadata.jsonl or metadata.csv"),
        ("metadata.parquet", "metadata.parquet is not read; expected metadata.jsonl or"),
        ("1.cap", "1 file(s) such as 1.cap are not read; expected .caption"),
        ("1.text", "1 file(s) such as 1.text are not read; expected .txt"),
        ("texts/1.txt", "1 captions lie in other folders than their images; expected"),
        ("1.png.txt", "1 caption(s) such as 1.png.txt are not those of 1.png; expected 1.txt"),
    ],
)
def test_near_misses_of_names_are_suggested(tmp_path, name, suggestion):
    path = folder(tmp_path, {"1.png": packs.png(), name: b"a cat"})
    source = opened(path)
    assert not source.captioned
    (line,) = source.caption_files.suggestions
    assert line.startswith(suggestion)


def test_an_extension_in_capitals_is_read(tmp_path):
    source = opened(folder(tmp_path, {"1.PNG": packs.png(), "1.TXT": b"a cat"}))
    assert captions(source) == {"1.PNG": ("a cat",)}
    assert not source.caption_files.suggestions


def test_captions_of_other_capitals_and_rows_of_other_paths_are_suggested(tmp_path):
    capitals = opened(folder(tmp_path / "a", {"IMG.png": packs.png(), "img.txt": b"a cat"}))
    (line,) = capitals.caption_files.suggestions
    assert line == "1 caption(s) such as img.txt are not those of IMG.png; expected IMG.txt"
    rows = lines(*({"file_name": f"/data/b/{one}.png", "text": "a cat"} for one in (1, 2)))
    paths = opened(folder(tmp_path / "b", {"1.png": packs.png(), "metadata.jsonl": rows}))
    (line,) = paths.caption_files.suggestions
    assert line.startswith("1 row(s) of tables name images such as /data/b/1.png, which does not")


def test_rows_that_are_encoded_as_addresses(tmp_path):
    rows = lines({"file_name": "a%20b.png", "text": "a cat"}, {"file_name": "50%.png", "text": "b"})
    members = {"a b.png": packs.png(1), "50%.png": packs.png(2), "metadata.jsonl": rows}
    source = opened(folder(tmp_path, members))
    assert captions(source) == {"a b.png": (), "50%.png": ("b",)}
    line, *_ = source.caption_files.suggestions
    expected = "1 row(s) of tables name images percent-encoded, such as a%20b.png; expected a b.png"
    assert line == expected


@pytest.mark.parametrize(
    ("column", "suggested"),
    [("description", True), ("blip_caption", True), ("caption_en", True), ("Alt", True)]
    + [(name, False) for name in ("caption_length", "text_encoder", "alter", "id")],
)
def test_a_column_that_probably_has_captions_is_suggested(tmp_path, column, suggested):
    rows = lines({"file_name": "1.png", column: "a cat"})
    source = opened(folder(tmp_path, {"1.png": packs.png(), "metadata.jsonl": rows}))
    expected = f"metadata.jsonl has the column {column}, which is not read; set "
    expected += "data.caption_column to it"
    assert source.caption_files.suggestions == (expected,) * suggested


def test_latents_beside_images_are_counted_and_no_rejects(tmp_path, caplog):
    caplog.set_level("INFO")
    latents = ("1.npz", "1_0512x0768_sdxl.npz", "a_b.npz", "a_b_te.npz")
    members = {"1.png": packs.png(1), "a_b.png": packs.png(2), "1.txt": b"a cat"}
    members |= dict.fromkeys((*latents, "other.npz"), b"PK")
    found = captions(opened(folder(tmp_path, members)))
    problem = "not an image by its name: .npz"
    assert found == {"1.png": ("a cat",), "a_b.png": (), "other.npz": problem}
    assert f"{len(latents)} .npz files beside images are not read" in caplog.text


def test_rows_of_other_extensions(tmp_path):
    """Another case is the same; another format is suggested."""
    rows = lines(*({"file_name": f"{one}", "text": "a cat"} for one in ("1.JPG", "2.PNG", "3.jpg")))
    members = {"1.jpg": packs.png(), "2.jpg": packs.png(), "3.png": packs.png()}
    source = opened(folder(tmp_path, members | {"metadata.jsonl": rows}))
    assert captions(source) == {"1.jpg": ("a cat",), "2.jpg": (), "3.png": ()}
    (line,) = source.caption_files.suggestions
    assert line == "2 row(s) of tables name images such as 2.PNG; expected 2.jpg"


def test_json_beside_images(tmp_path):
    """Beside captioned images it is not an image and not a reject; else its captions are named."""
    path = folder(tmp_path, {"1.png": packs.png(), "1.json": b'{"caption": "a cat"}'})
    (line,) = opened(path).caption_files.suggestions
    assert line.startswith("1 .json files such as 1.json hold captions that are not read")
    packs.write(path / "1.txt", b"a cat")
    packs.write(path / "info.json", b"{}")
    assert captions(opened(path)) == {
        "1.png": ("a cat",),
        "info.json": "not an image by its name: .json",
    }


def test_a_pointer_of_git_lfs_is_no_caption(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    path = folder(tmp_path, {"1.png": packs.png(), "1.txt": pointer})
    with pytest.raises(Unusable, match=r"its \.txt is a Git LFS pointer.*git lfs pull"):
        opened(path).read(opened(path).index()[0])
    packs.write(path / "metadata.jsonl", pointer)
    with pytest.raises(DataError, match=r"metadata\.jsonl is a Git LFS pointer.*git lfs pull"):
        _ = opened(path).captioned


def test_other_files_are_no_near_misses(tmp_path):
    others = ["README.txt", "1.json", "1.xml", "labels.csv", "data.json", "LICENSE", "1.npy"]
    members = {"a/1.png": packs.png()} | {f"a/{name}": b"x" for name in others}
    assert opened(folder(tmp_path, members)).caption_files.suggestions == ()


def test_boxes_of_yolo_are_no_captions(tmp_path):
    box = b"0 0.5 0.5 0.25 0.25\n15 0.1 0.2 0.3 0.4\n"
    path = folder(tmp_path, {"a/1.png": packs.png(), "a/1.txt": box})
    with pytest.raises(DataError, match=r"a/1\.txt hold numbers.*set data\.captions to none"):
        _ = opened(path).captioned
    assert opened(path, captions="none").class_names == ("a",)


@pytest.mark.parametrize("caption", [{}, {"text": "a cat"}])
@pytest.mark.parametrize("captions", ["auto", "none"])
def test_labels_in_a_table_beside_images_are_not_lost(tmp_path, captions, caption):
    names = ("1.png", "2.png")
    rows = [{"file_name": name, "label": number} for number, name in enumerate(names)]
    members = {name: packs.png(number) for number, name in enumerate(names)}
    members["metadata.jsonl"] = lines(*(row | caption for row in rows))
    folder(tmp_path, members)
    with pytest.raises(DataError, match=r"labels in a metadata file \(label\) are not used"):
        opened(tmp_path, captions=captions).index()
    assert len(opened(tmp_path, captions=captions, unlabelled=True).index()) >= len(names)


def test_a_table_of_labels_beside_captioned_images_is_not_lost(tmp_path):
    members = {"1.png": packs.png(1), "1.txt": b"a cat", "sizes.csv": b"x"}
    opened(folder(tmp_path, members)).index()
    with pytest.raises(DataError, match=r"have captions, and the table .* \(labels\.csv\)"):
        opened(folder(tmp_path, {"labels.csv": b"x"})).index()


def test_a_damaged_table_is_reported_where_captions_are_not_read(tmp_path, caplog):
    folder(tmp_path, {"1.png": packs.png(1), "metadata.jsonl": b"{"})
    assert len(opened(tmp_path, captions="none").index()) == 2
    assert "its columns are not checked for labels" in caplog.text


def test_columns_of_tables_that_are_not_read_are_reported(tmp_path):
    rows = lines({"file_name": "1.png", "text": "a cat", "label": 0, "artist": "x"})
    source = opened(folder(tmp_path, {"1.png": packs.png(1), "metadata.jsonl": rows}))
    assert source.captioned
    assert source.fields == Fields(ignored=("label", "artist"))
