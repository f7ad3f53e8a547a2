import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sid2core.conditioning import UNLABELLED
from sid2core.data.prepare import splits
from sid2core.data.sources import opening, protocol, scenes
from sid2core.data.sources.shapes import Shapes
from tests import tiny


def opened(**data):
    values = tiny.source("shapes", **({"count": 20, "image_size": 16} | data))
    return opening.opened(tiny.params(data=values).data)


def test_the_parameters_say_how_many_and_how_large():
    source, held_out = opened()
    assert (source, held_out) == (Shapes(20, 16, 16), None)
    assert opened(image_size=[12, 20])[0].shape == (12, 20, 3)


@pytest.mark.parametrize("count", [8, 20, 1000])
def test_classes_take_turns(count):
    source = Shapes(count, 8, 8)
    assert source.class_names == tuple(scenes.SHAPES)
    entries = protocol.listed(source)
    assert entries == source.index()
    counts = Counter(entry.label for entry in entries)
    assert set(counts) == set(range(8))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert [entry.key for entry in entries[:2]] == ["shapes/0000000", "shapes/0000001"]
    assert entries[-1].key == f"shapes/{count - 1:07d}"


def test_what_is_read_is_the_scene_of_the_entrys_label():
    source = Shapes(30, 16, 24)
    for entry in source.index():
        content = source.read(entry)
        scene = scenes.scene(0, int(entry.key.removeprefix("shapes/")))
        assert source.class_names[entry.label] == scene.shape
        assert (content.captions, content.size) == ((scene.caption,), (24, 16))
        assert content.attributes == scene.attributes
        np.testing.assert_array_equal(content.image, scene.draw(16, 24))
        record = protocol.loaded(source, entry)
        assert (record.label, record.captions) == (entry.label, content.captions)


def test_a_copy_in_another_process_reads_the_same():
    source = Shapes(9, 16, 16)
    other = pickle.loads(pickle.dumps(source))
    assert other == source
    for entry in reversed(source.index()):
        np.testing.assert_array_equal(other.read(entry).image, source.read(entry).image)


def test_sizes_and_counts_share_keys_and_splits():
    few, many, large = Shapes(80, 8, 8), Shapes(160, 8, 8), Shapes(80, 64, 64)
    assert few.index() == large.index() == many.index()[:80]
    names = few.class_names
    parts = [splits.split(one.index(), names, 0.8, 3, fixed=True) for one in (few, large)]
    assert parts[0] == parts[1]


def test_unseen_pairs_are_in_the_eval_split_alone():
    source = Shapes(2000, 8, 8, 0.1)
    assert [entry.key for entry in source.index()] == [
        one.key for one in Shapes(2000, 8, 8).index()
    ]
    pairs = set(scenes.some_pairs(0, 0.1))
    parts = splits.split(source.index(), source.class_names, 0.8, 0, fixed=True)
    found = {
        split: {scenes.pair(0, int(entry.key[7:])) for entry in entries}
        for split, entries in parts.items()
    }
    assert pairs <= found["eval"]
    assert found["train"] | pairs == found["eval"] | found["train"]
    assert not pairs & found["train"]
    assert len(found["train"]) == 72
    assert opened(count=2000, unseen_pairs=0.1)[0] == Shapes(2000, 16, 16, 0.1)


def test_spread_brings_shapes_to_the_middle():
    source = opened(spread=0.0)[0]
    assert source == Shapes(20, 16, 16, spread=0.0)
    for entry in source.index():
        scene = scenes.scene(0, int(entry.key[7:]))
        middle = replace(scene, start=scene.start._replace(x=0.0, y=0.0))
        np.testing.assert_array_equal(source.read(entry).image, middle.draw(16, 16))
    assert source.index() == Shapes(20, 16, 16).index()


def test_without_labels_the_entries_are_the_same():
    source = opened(unlabelled=True)[0]
    assert source == Shapes(20, 16, 16, unlabelled=True)
    labels = {entry.label for entry in protocol.listed(source)}
    assert (labels, source.class_names) == ({0}, UNLABELLED)
    assert [one.key for one in source.index()] == [one.key for one in Shapes(20, 16, 16).index()]


def test_the_stamp_changes_with_the_count():
    assert Shapes(8, 4, 4).stamp() == Shapes(8, 8, 8).stamp() != Shapes(9, 4, 4).stamp()
    assert not Shapes(8, 4, 4).metadata


def test_clips_show_the_scene_as_it_moves():
    source = opened(frames=5, image_size=12)[0]
    assert source == Shapes(20, 12, 12, frames=5)
    assert source.shape == (5, 12, 12, 3)
    assert source.index() == Shapes(20, 12, 12).index()
    content = source.read(source.index()[3])
    scene = scenes.scene(0, 3)
    for frame, image in enumerate(content.image):
        np.testing.assert_array_equal(image, scene.draw(12, 12, frame / 8))
    assert len({image.tobytes() for image in content.image}) == 5
    assert content.captions == (scene.caption,)
