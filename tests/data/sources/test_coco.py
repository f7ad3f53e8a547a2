"""COCO's annotation files are counted, and its captions convert as the document says."""

import json
import re

import pytest

from sid2core.data.errors import DataError
from sid2core.data.prepare.captions import agreed
from tests import tiny
from tests.data import packs
from tests.data.layouts import opened
from tests.data.sources.test_captions import captions
from tests.refusals import refused

BOXES = ("instances_train2017.json", "x/_annotations.coco.json", "person_keypoints_val2017.json")


def test_boxes_and_masks_are_counted(tmp_path, caplog):
    for name in ("1.png", "x/2.png"):
        packs.write(tmp_path / name, packs.png())
    for name in (*BOXES, "instances.json"):
        packs.write(tmp_path / name, b"{}")
    opened(tmp_path, classes="folders").index()
    assert "3 annotation file(s) of COCO are not read (instances_train2017.json," in caplog.text


@pytest.mark.parametrize("wish", ["auto", "required"])
def test_captions_that_are_not_read_stop_unlabelled_data_with_what_to_do(tmp_path, wish):
    packs.write(tmp_path / "1.png", packs.png())
    packs.write(tmp_path / "captions_train2017.json", b"{}")
    keys = {"path": str(tmp_path), "captions": wish, "image_size": 4, "channels": 3}
    data = tiny.params(data=tiny.source("folder", **keys)).data
    with refused(DataError, "captions_train2017.json is not read", "metadata.jsonl (docs/data.md)"):
        agreed([opened(tmp_path, captions=wish)], data)


def test_captions_convert_as_the_document_says(tmp_path, monkeypatch):
    coco = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
        "annotations": [
            {"image_id": 2, "caption": "two"},
            {"image_id": 7, "caption": "<b>one</b>"},
            {"image_id": 2, "caption": "zwei"},
        ],
    }
    for image in coco["images"]:
        packs.write(tmp_path / "train2017" / image["file_name"], packs.png())
    file = tmp_path / "annotations" / "captions_train2017.json"
    packs.write(file, json.dumps(coco).encode())
    document = (tiny.ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(  import json\n.*?)```", document, re.S)
    monkeypatch.chdir(tmp_path)
    exec(re.sub("(?m)^  ", "", program), {})
    assert captions(opened(tmp_path / "train2017")) == {
        "a.png": ("<b>one</b>",),
        "b.png": ("two", "zwei"),
    }
