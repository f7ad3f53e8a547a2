import json

import numpy as np
import pytest

from sid2core.data.errors import DataError, Unusable
from sid2core.data.prepare import listing, overview, preparation, splits
from sid2core.data.prepare.workers import Workers
from sid2core.data.sources import opening, protocol
from tests import tiny
from tests.data import packs, videos
from tests.refusals import refused

SIZE = {"image_size": [32, 48], "channels": 3, "crop": "squash"}


def settings(name="videos", **keys):
    return tiny.params(data=tiny.source(name, **({"frames": 3} | SIZE | keys))).data


def opened(path, name="videos", **keys):
    return opening.opened(settings(name, path=str(path), **keys))[0]


def problems(source):
    return {entry.key: entry.problem for entry in source.index() if entry.problem}


@pytest.fixture(scope="module")
def clip():
    return videos.encoded(videos.frames(8))


def test_folders_are_classes_and_every_file_is_accounted_for(tmp_path, clip):
    files = {"run/a.mp4": clip, "run/deep/b.mov": clip, "jump/c.mp4": clip, "loose.mp4": clip}
    files |= {"run/notes.txt": b"x", "run/d.jpg": b"x", "run/._a.mp4": b"\0\5\x16\7"}
    source = opened(videos.write(tmp_path, files), clips_per_video=2)
    assert source.class_names == ("jump", "run")
    entries = protocol.listed(source)
    assert [entry.key for entry in entries if entry.problem is None] == [
        *("jump/c.mp4#0", "jump/c.mp4#1", "run/a.mp4#0", "run/a.mp4#1"),
        *("run/deep/b.mov#0", "run/deep/b.mov#1"),
    ]
    assert problems(source) == {
        "loose.mp4": "it lies in no class folder",
        "run/d.jpg": "not a video by its name: .jpg",
        "run/notes.txt": "not a video by its name: .txt",
    }
    first, second = (source.read(entry).image for entry in entries[:2])
    assert (videos.shown(first), videos.shown(second)) == ([0, 1, 2], [5, 6, 7])


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_flat_files_and_labels(tmp_path, clip, kind):
    files = {"a.mp4": clip, "b.gif": videos.animation(videos.frames(4), "gif")}
    make = {"zip": packs.zipped, "tar": packs.tar}[kind]
    archive = packs.write(tmp_path / f"a.{kind}", make(files))
    source = opened(archive)
    assert len(source.class_names) == 1
    assert [videos.shown(source.read(entry).image) for entry in source.index()] == [[0, 1, 2]] * 2
    (tmp_path / "labels.csv").write_text("file,label\na.mp4,dog\nb.gif,cat\n")
    source = opened(archive, labels=str(tmp_path / "labels.csv"))
    assert [source.class_names[entry.label] for entry in source.index()] == ["dog", "cat"]


def test_folders_of_another_source_are_named_with_it(tmp_path, clip):
    videos.write(tmp_path, {"images/a/1.jpg": b"x", "videos/a/1.mkv": clip})
    with refused(DataError, "holds no <class>/<video>", "of folders of frame images"):
        opened(tmp_path / "images").index()
    with refused(DataError, "data.source.folder.path", "set data.source.name to videos"):
        data = tiny.params(data=tiny.source("folder", path=str(tmp_path / "videos"), **SIZE)).data
        opening.opened(data)[0].index()


def test_names_of_any_script_in_linked_folders(tmp_path, clip):
    videos.write(tmp_path, {"all/Größe ä/мяч 1 🎈#1.MP4": clip, "all/b/x y.mp4": clip})
    (tmp_path / "linked").mkdir()
    for name in ("Größe ä", "b"):
        (tmp_path / "linked" / name).symlink_to(tmp_path / "all" / name)
    source = opened(tmp_path / "linked", clips_per_video=2)
    entries = [entry for entry in source.index() if entry.problem is None]
    assert [entry.key for entry in entries] == [
        *("Größe ä/мяч 1 🎈#1.MP4#0", "Größe ä/мяч 1 🎈#1.MP4#1", "b/x y.mp4#0", "b/x y.mp4#1")
    ]
    assert videos.shown(source.read(entries[1]).image) == [5, 6, 7]


def test_clips_of_a_video_are_in_one_split(tmp_path, clip):
    files = {f"{kind}/{row}.mp4": b"" for kind in "ab" for row in range(40)}
    source = opened(videos.write(tmp_path, files), clips_per_video=3)
    parts = splits.split(source.index(), source.class_names, 0.5, 0, fixed=False)
    inside = {split: {entry.video for entry in entries} for split, entries in parts.items()}
    assert not inside["train"] & inside["eval"]
    assert sum(map(len, parts.values())) == 240
    assert all(len(entries) == 3 * len(inside[split]) for split, entries in parts.items())
    least = splits.split(source.index()[:6], ("a", "b"), 1e-9, 0, fixed=False)["train"]
    assert [entry.video for entry in least] == [least[0].video] * 3


def test_a_video_is_decoded_once_for_all_its_clips(tmp_path, clip, monkeypatch):
    source = opened(videos.write(tmp_path, {"a/a.mp4": clip}), clips_per_video=3)
    opens = []
    tree = type(source.tree)
    original = tree.open
    monkeypatch.setattr(tree, "open", lambda *args: opens.append(args) or original(*args))
    read = [source.read(entry).image for entry in source.index()]
    assert [videos.shown(image) for image in read] == [[0, 1, 2], [3, 4, 5], [5, 6, 7]]
    read[0][:] = 0
    assert videos.shown(source.read(source.index()[0]).image) == [0, 1, 2]
    assert len(opens) == 1


def test_a_video_without_room_for_more_clips_says_so(tmp_path, clip):
    source = opened(videos.write(tmp_path, {"a/a.mp4": clip}), clips_per_video=9)
    entries = source.index()
    assert len(entries) == 9
    with refused(Unusable, "clips_per_video", "room for 6 different clip(s)"):
        source.read(entries[8])


def test_the_manifest_accounts_for_every_video_and_every_clip(tmp_path, clip):
    short = videos.encoded(videos.frames(2))
    files = {f"{kind}/{row}.mp4": clip for kind in "ab" for row in range(6)}
    files |= {"a/short.mp4": short, "b/cut.mp4": clip[:200], "a/notes.txt": b""}
    videos.write(tmp_path / "in", files)
    data = settings(
        **{"path": str(tmp_path / "in"), "clips_per_video": 2, "max_reject_fraction": 0.5},
        **{"train_fraction": 0.5, "shard_records": 8, "row_group_records": 4},
    )
    parts = listing.parts(data, 0)
    preparation.write(parts, tmp_path / "work", data, Workers(1))
    (tmp_path / "made").mkdir()
    for part in parts:
        preparation.place(part, tmp_path / "work", tmp_path / "made")
    found = overview.metadata(parts, tmp_path / "made")
    json.dumps(found)
    assert found["shape"] == [3, 32, 48, 3]
    total = {
        name: sum(split[name] for split in found["videos"].values())
        for name in ("videos", "videos_used", "clips", "rejected_clips", "rejected_videos")
    }
    assert total == {
        **{"videos": 15, "videos_used": 12, "clips": 24},
        **{"rejected_clips": 4, "rejected_videos": 1},
    }
    assert found["decoding"]["clips_per_video"] == 2
    overview.write(tmp_path / "reports", parts, tmp_path / "made")
    metrics = json.loads((tmp_path / "reports/metrics.json").read_text())
    assert (metrics["videos"], metrics["clips"]) == (15, 24)


# Kinetics

HEAD = "label,youtube_id,time_start,time_end,split"


def names(*rows):
    """The name of the file of each row of a CSV file."""
    parts = [row.split(",") for row in rows]
    return [f"{one[1]}_{int(one[2]):06}_{int(one[3]):06}.mp4" for one in parts]


def table(path, *rows):
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return str(path)


ROWS = [
    *("run,aaaaaaaaaaa,1,11,train", "jump,b_b-bbbbbbb,2,12,train", "run,ccccccccccc,3,13,train"),
    *("jump,ddddddddddd,0,10,val", "run,eeeeeeeeeee,0,10,validate", "run,fffffffffff,0,10,test"),
]


def test_kinetics_has_its_labels_splits_and_missing_videos_from_its_csv(tmp_path, clip):
    files = [*names(*ROWS[:2]), *names(*ROWS[3:4]), *names(ROWS[5])]
    videos.write(tmp_path, {f"some/where/{name}": clip for name in files})
    videos.write(tmp_path, {"zzzzzzzzzzz_000001_000002.mp4": clip, "other.mp4": clip})
    csv = table(tmp_path / "all.csv", *ROWS, "sit,ggggggggggg,0,10,train")
    source = opened(tmp_path, "kinetics", csv=csv)
    assert source.class_names == ("jump", "run", "sit")
    usable = [entry for entry in protocol.listed(source) if entry.problem is None]
    assert [(source.class_names[one.label], one.split) for one in usable] == [
        *(("run", "train"), ("jump", "train"), ("jump", "eval"))
    ]
    assert problems(source) == {
        "other.mp4": "its name is not <youtube_id>_<start>_<end>",
        "zzzzzzzzzzz_000001_000002.mp4": "data.source.kinetics.csv does not name it",
    }
    assert source.counts == {"csv_rows": 6, "missing_videos": 3, "videos_of_other_splits": 1}
    np.testing.assert_array_equal(videos.shown(source.read(usable[0]).image), [0, 1, 2])
    parts = listing.parts(settings("kinetics", path=str(tmp_path), csv=csv), 0)
    assert parts[0].class_names == ("jump", "run")
    counts = overview.video_counts(parts)
    assert [counts[split]["videos"] for split in splits.SPLITS] == [4, 1]
    assert counts["train"]["missing_videos"] == 3
    assert "missing_videos" not in counts["eval"]


def test_kinetics_in_two_folders_with_two_csv_files(tmp_path, clip):
    videos.write(tmp_path / "train", {name: clip for name in names(*ROWS[:3])})
    videos.write(tmp_path / "val", {name: clip for name in names(*ROWS[3:])})
    csvs = [table(tmp_path / "a.csv", *ROWS[:3]), table(tmp_path / "b.csv", *ROWS[3:])]
    paths = {"path": str(tmp_path / "train"), "eval_path": str(tmp_path / "val")}
    parts = listing.parts(settings("kinetics", csv=csvs, **paths), 0)
    assert [len(part.entries) for part in parts] == [3, 2]
    counts = overview.video_counts(parts)
    assert [counts[split]["csv_rows"] for split in splits.SPLITS] == [3, 2]
    assert counts["eval"]["videos_of_other_splits"] == 1


def test_a_csv_file_may_have_spaces_and_lines_of_windows(tmp_path, clip):
    videos.write(tmp_path, {"-_b-bbbbbbb_000000_000010.mp4": clip})
    rows = [
        "label, youtube_id, time_start, time_end, split",
        '"ride, run", -_b-bbbbbbb , 0, 10, val',
    ]
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    source = opened(tmp_path, "kinetics", csv=str(tmp_path / "a.csv"))
    assert source.class_names == ("ride, run",)
    assert problems(source) == {}
    assert source.counts["missing_videos"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has no column label, youtube_id, time_start, time_end, split"),
        (f"{HEAD}\nrun,aaaaaaaaaaa,x,11,train\n", "line 2"),
        (f"{HEAD}\nrun,aaaaaaaaaaa,1,11,dev\n", "a split of train, val"),
        ("youtube_id,time_start,time_end,split,label\naaaaaaaaaaa,1,11,train\n", "a label"),
    ],
)
def test_a_csv_file_that_is_none_of_kinetics_is_refused(tmp_path, clip, text, message):
    videos.write(tmp_path, {names(ROWS[0])[0]: clip})
    (tmp_path / "a.csv").write_text(text)
    with refused(DataError, "data.source.kinetics.csv", message):
        opened(tmp_path, "kinetics", csv=str(tmp_path / "a.csv")).index()
