"""Videos that this file writes with PyAV: what becomes of good, odd and damaged ones."""

import io
import struct

import av
import numpy as np
import psutil
import pytest

from sid2core.data import encode
from sid2core.data.decode.decoding import Recipe
from sid2core.data.decode.video import container as containers
from sid2core.data.decode.video.container import upright
from sid2core.data.decode.video.decoding import clips
from sid2core.data.decode.video.readers import times_of
from sid2core.data.decode.video.windows import Windows
from sid2core.data.errors import Unusable
from tests.data import videos
from tests.refusals import refused

SIZE = Recipe(32, 48, 3, "squash", "white", "exact", 10**6)
FOUR = Windows(4)


def decoded(content, windows=FOUR, recipe=SIZE):
    return [clip.image for clip in clips(io.BytesIO(content), recipe, windows)]


def refusal(content, windows=FOUR, recipe=SIZE):
    with pytest.raises(Unusable) as caught:
        decoded(content, windows, recipe)
    return str(caught.value)


@pytest.mark.parametrize(
    ("form", "codec", "pixels"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("matroska", "ffv1", "yuv444p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("mpegts", "libx264", "yuv420p"),
        ("mov", "mjpeg", "yuvj420p"),
    ],
)
def test_frames_come_in_the_order_in_which_they_are_shown(form, codec, pixels):
    """Also with B-frames, whose packets are in another order."""
    content = videos.encoded(videos.frames(12), codec, pixels, form)
    first, second = decoded(content, Windows(5, stride=2, per_video=2))
    assert first.shape == (5, 32, 48, 3)
    assert videos.shown(first) == [0, 2, 4, 6, 8]
    assert videos.shown(second) == [3, 5, 7, 9, 11]


@pytest.mark.parametrize("form", ["gif", "webp", "png"])
def test_animated_pictures_are_videos(form):
    content = videos.animation(videos.frames(9), form)
    (clip,) = decoded(content, Windows(4, frames_per_second=5))
    np.testing.assert_array_equal(clip, videos.frames(9)[:8:2])
    assert refusal(content, Windows(10)) == "9 frame(s); 10 at stride 1 need 10"
    assert refusal(content[:20], Windows(2)).startswith(("no frame", "SyntaxError", "OSError"))


@pytest.mark.parametrize("form", ["gif", "webp"])
def test_equal_frames_of_an_animation_count(tmp_path, form):
    """Encoders store them as one frame that lasts longer; the last one too."""
    order = [0, 1, 1, 2, 3, 3]
    encode.ENCODERS[form](tmp_path / "clip", videos.frames(4)[order], 8)
    (clip,) = decoded((tmp_path / "clip").read_bytes(), Windows(6))
    assert videos.shown(clip) == order


def test_an_animation_has_the_delays_of_its_frames():
    """0.1, 0.1, 0.3 and 0.1 s; whole multiples alone are equal frames."""
    content = videos.animation(videos.frames(4), "webp", [100, 100, 300, 100])
    assert videos.shown(decoded(content, Windows(6))[0]) == [0, 1, 2, 2, 2, 3]
    assert times_of([33, 34, 67]) == [[0], [33], [67, 100]]
    assert times_of([30, 40, 250]) == [[0], [30], [70]]
    assert times_of([1, 10**6]) == [[0], [1]]
    assert times_of([]) == []


def test_a_variable_rate_is_sampled_by_time():
    """Frames at 0, 0.1 … 0.9 s, then at 1, 1.5 … 3 s: half a second apart are these."""
    seconds = [*np.arange(10) / 10, *1 + np.arange(5) / 2]
    content = videos.encoded(videos.frames(15), "ffv1", "yuv444p", "matroska", seconds)
    (clip,) = decoded(content, Windows(7, frames_per_second=2))
    assert videos.shown(clip) == [0, 5, 10, 11, 12, 13, 14]


def test_without_an_index_a_file_is_refused():
    content = videos.encoded(videos.frames(6))
    assert refusal(content[: content.index(b"moov") - 4]).startswith("no index (moov atom)")
    assert refusal(b"hello" * 100).startswith("no video that FFmpeg reads")
    assert refusal(b"") == "the file is empty"
    assert refusal(b"\x00\x05\x16\x07" + bytes(80)).startswith("AppleDouble")
    assert "Git LFS" in refusal(b"version https://git-lfs.github.com/spec/v1\n")


def test_of_a_file_that_is_cut_off_the_part_before_the_cut_is_used():
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 48, 3), np.uint8)
    content = videos.encoded(images, container={"movflags": "faststart"})
    cut = content[: int(0.6 * len(content))]
    first, last = decoded(cut, Windows(4, per_video=2))
    whole = decoded(content, Windows(17, per_video=1))[0]
    np.testing.assert_array_equal(first, whole[:4])
    places = [k for k in range(14) if np.array_equal(whole[k : k + 4], last)]
    assert places
    assert places[0] in range(1, 13)
    assert refusal(cut, Windows(16)).endswith("need 16; it is damaged or cut off")


def test_sound_alone_and_empty_containers_are_refused():
    assert refusal(videos.audio()) == "no video in it, only audio"
    empty = videos.encoded(videos.frames(3), form="avi")
    assert refusal(empty[: empty.index(b"movi") + 4]) == "no frame can be decoded"


def test_a_video_that_is_too_short_says_how_long_it_is():
    content = videos.encoded(videos.frames(5))
    assert refusal(content, Windows(4, stride=2)) == "5 frame(s); 4 at stride 2 need 7"
    assert refusal(content, Windows(4, 1, 5)) == "3 frame(s) at 5 a second; 4 at stride 1 need 4"


@pytest.mark.parametrize("claimed", [1, 3, 4000])
def test_the_frame_count_in_the_header_is_not_used(claimed):
    content = bytearray(videos.encoded(videos.frames(9), form="avi"))
    head = content.index(b"strh") + 8
    content[head + 32 : head + 36] = struct.pack("<I", claimed)
    with av.open(io.BytesIO(bytes(content))) as container:
        assert container.streams.video[0].frames == claimed
    assert videos.shown(decoded(bytes(content), Windows(9))[0]) == list(range(9))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_and_mirroring_are_applied(degrees, mirrored):
    """A matrix of FFmpeg rotates counterclockwise, and then mirrors left and right."""
    images = videos.frames(2) + np.array([40, 0, 0], np.uint8)
    images[:, :8, :8] = (0, 0, 200)
    content = videos.encoded(images, "png", "rgb24", "mov", rotation=(degrees, mirrored))
    expected = np.rot90(images, degrees // 90, (1, 2))
    expected = expected[:, :, ::-1] if mirrored else expected
    height, width = expected.shape[1:3]
    recipe = Recipe(height, width, 3, "squash", "white", "exact", 10**6)
    (clip,) = decoded(content, Windows(2), recipe)
    np.testing.assert_array_equal(clip, expected)


def test_a_matrix_at_an_angle_is_refused():
    matrix = np.array([1, 1, 0, -1, 1, 0, 0, 0, 1], np.int32)
    with refused(Unusable, "display matrix", "no multiple of 90 degrees"):
        upright(np.zeros((2, 2, 3), np.uint8), matrix)


def test_odd_sizes_ten_bits_and_grey():
    odd = videos.frames(4, 31, 47)
    recipe = Recipe(31, 47, 3, "squash", "white", "exact", 10**6)
    (clip,) = decoded(videos.encoded(odd, "ffv1", "yuv420p", "matroska"), recipe=recipe)
    assert abs(clip.astype(int) - odd)[:, :12, :20].max() < 4
    deep = videos.encoded(videos.frames(4), "ffv1", "yuv420p10le", "matroska")
    assert abs(decoded(deep)[0].astype(int) - videos.frames(4))[:, :14, :22].max() < 4
    grey = videos.encoded(videos.frames(4), "ffv1", "gray", "matroska")
    assert videos.shown(decoded(grey)[0]) == [0, 1, 2, 3]


def test_alpha_is_composed_over_the_background():
    content = videos.encoded(videos.frames(4, channels=4), "qtrle", "argb", "mov")
    (clip,) = decoded(content)
    assert abs(clip[:, 20:, 30:].astype(int) - 127).max() < 3  # half black, half white
    assert abs(clip[3, 4, 4].astype(int) - 142).max() < 3


def test_oblong_pixels_become_square():
    """Twice as wide as high: a picture of 24 x 32 is shown at 48 x 32."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 24, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for image in videos.frames(3, 32, 24):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())
    (content,) = clips(io.BytesIO(file.getvalue()), SIZE, Windows(3))
    assert content.size == (48, 32)


def test_large_frames_are_refused_before_they_are_decoded(monkeypatch):
    content = videos.encoded(videos.frames(3))
    small = Recipe(32, 48, 3, "squash", "white", "exact", 1000)
    monkeypatch.setattr(containers, "_pixels", None)
    assert refusal(content, Windows(2), small) == "48x32 pixels are more than data.max_pixels 1000"


def test_a_playlist_opens_no_other_file(tmp_path):
    (tmp_path / "a.ts").write_bytes(videos.encoded(videos.frames(9), "libx264", form="mpegts"))
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:0.9,", f"file://{tmp_path}/a.ts"]
    path = tmp_path / "a.m3u8"
    path.write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]))
    with av.open(path) as container:
        assert len(list(container.decode(video=0))) == 9
    with path.open("rb") as file, refused(Unusable, "no video", "that FFmpeg reads"):
        clips(file, SIZE, FOUR)


def test_memory_does_not_grow_with_the_length_of_a_video():
    """Sixty frames of 0.46 MB as they are decoded; twenty are the first and those referred to."""
    content = videos.encoded(videos.frames(60, 480, 640), "libx264", preset="ultrafast")
    process, reader = psutil.Process(), containers.Container(io.BytesIO(content), SIZE)
    memory = [process.memory_info().rss for _ in reader.frames()]
    assert len(memory) == 60
    assert max(memory) - memory[20] < 8 * 2**20


def test_memory_is_that_of_one_frame_and_the_clips_however_long_and_many_the_videos(tmp_path):
    """Each pass closes its file: PyAV leaks megabytes for each container that is left open."""
    long = videos.encoded(videos.frames(25, 240, 320), "libx264", g="5")
    recipe = Recipe(8, 8, 3, "squash", "white", "exact", 10**6)
    process = psutil.Process()

    def grown(times):
        before = process.memory_info().rss
        for _ in range(times):
            decoded(long, Windows(4, per_video=2), recipe)
        return process.memory_info().rss - before

    grown(3)
    assert grown(12) < 8 * 2**20
    (tmp_path / "a.mp4").write_bytes(long)
    with (tmp_path / "a.mp4").open("rb") as file:
        clips(file, recipe, Windows(2))
        assert [one.path for one in process.open_files() if one.path.endswith("a.mp4")] == [
            str(tmp_path / "a.mp4")
        ]
