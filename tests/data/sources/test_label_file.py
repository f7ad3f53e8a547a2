import pytest

from sid2core.data.errors import DataError
from sid2core.data.sources import label_file
from sid2core.data.sources.fields import Asked


def read(folder, text, **asked):
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return label_file.read(str(path), "data.labels", Asked(**asked))


def test_labels_are_lines_of_name_and_class(tmp_path):
    lines = [
        "ImageId,PredictionString",
        "ILSVRC2012_val_00048981,n03995372 85 1 499 272",
        "ILSVRC2012_val_00037956,n03481172 131 0 499 254 n03481172 0 1 2 3 ",
        '"a, b.png",golden retriever,0.7',
        "",
        "./x/c.png, cat",
        "d.png,",
        "x/c.png,cat",
    ]
    labels = read(tmp_path, "\n".join(lines)).labels
    assert labels == {
        "ILSVRC2012_val_00048981": "n03995372",
        "ILSVRC2012_val_00037956": "n03481172",
        "a, b.png": "golden retriever",
        "x/c.png": "cat",
        "d.png": "",
    }
    found = {
        path: label_file.looked_up(labels, path)
        for path in (
            "ILSVRC2012_val_00048981.JPEG",
            "val/ILSVRC2012_val_00048981.JPEG",
            "x/c.png",
            "y/x/c.png",
            "d.png",
            "d.jpg",
            "a.b/c",
        )
    }
    assert found == {
        "ILSVRC2012_val_00048981.JPEG": "n03995372",
        "val/ILSVRC2012_val_00048981.JPEG": "n03995372",
        "x/c.png": "cat",
        "y/x/c.png": None,
        "d.png": "",
        "d.jpg": None,
        "a.b/c": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png cat\n", r"line 1: found 'a.png cat'; expected name,class"),
        ("a,cat\nb,dog\na,dog\n", "line 3: 'a' is 'dog' here and 'cat' before; give it one class"),
        ("a,\0\n" + "x" * 200_000 + ",y\n", "is not a CSV file"),
        (b"\xff,cat\n", "is no UTF-8 text"),
    ],
)
def test_bad_files_of_labels_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "a.png;cat\nb.png;dog, big\n",
        "a.png\tcat\nb.png\tdog, big\n",
        ',filename,label\n0,a.png,cat\n1,b.png,"dog, big"\n',
        '0,a,cat\n1,b,"dog, big"\n',
        '1,a.png,cat\n2,b.png,"dog, big"\n',
        'cat,a.png\n"dog, big",b.png\n',
        "photo;kind\na.png;cat\nb.png;dog, big\n",
        "width;file;breed\n3;a.png;cat\n4;b.png;dog, big\n",
    ],
)
def test_delimiters_headers_and_index_columns(tmp_path, text):
    labels = read(tmp_path, text).labels
    found = [label_file.looked_up(labels, name) for name in ("a.png", "b.png")]
    assert found == ["cat", "dog, big"]


CELEBA = "image_id,Bald,Smiling\n000001.jpg,-1,1\n000002.jpg,1,-1\n"


def test_of_many_columns_the_parameters_name_one(tmp_path):
    with pytest.raises(DataError, match=r"columns image_id, Bald, Smiling: set data\.label_column"):
        read(tmp_path, CELEBA)
    with pytest.raises(DataError, match=r"no field 'Bold'.*correct data\.label_column"):
        read(tmp_path, CELEBA, label="Bold")
    found = read(tmp_path, CELEBA, label="Smiling")
    assert found.labels == {"000001.jpg": "1", "000002.jpg": "-1"}
    assert (found.fields.label, found.fields.ignored) == ("Smiling", ("Bald",))
    by_class = read(tmp_path, CELEBA, label="image_id", image="Bald")
    assert by_class.labels == {"-1": "000001.jpg", "1": "000002.jpg"}


def test_names_of_files_match_in_either_unicode_form(tmp_path):
    labels = read(tmp_path, "caf\u00e9.png,cat\n").labels
    assert label_file.looked_up(labels, "x/cafe\u0301.png") == "cat"
