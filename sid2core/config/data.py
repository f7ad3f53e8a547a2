"""The sections that say which images there are and how they are read, and the table of sources."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from sid2core.config.registry import Choice, Registry
from sid2core.config.section import (
    FilePath,
    NonNegative,
    OpenFraction,
    ParamsError,
    Plain,
    Positive,
    PositiveFloat,
    Section,
)

Shape = tuple[int, ...]
"""[h, w, c] of an image, or [f, h, w, c] of a clip."""
COLUMNS = ("label_column", "image_column", "caption_column")
"""Keys that name fields of files."""
_Name = Annotated[str, Field(min_length=1)]
MOST_UNSEEN = 0.5
"""The largest share of pairs of attributes that training may lack: each value occurs in others."""


class Digits(Plain):
    """The digits that come with scikit-learn."""

    size: ClassVar[Shape] = (8, 8, 1)
    refuses: ClassVar[tuple[str, ...]] = ("image_size", "channels", *COLUMNS, "unlabelled")

    def shape(self, data: Data) -> Shape | None:
        """The shape of one example."""
        return self.size


class Shapes(Section):
    """Drawn shapes in colour, as many as ``count``; with ``frames``, clips in which they move.

    ``unseen_pairs`` is the share of the pairs (shape, colour) that only the eval split has;
    ``spread`` is how far from the middle shapes lie: 1 anywhere, 0 in the middle.
    """

    needs: ClassVar[tuple[str, ...]] = ("image_size",)
    refuses: ClassVar[tuple[str, ...]] = ("channels", *COLUMNS)

    count: Positive
    unseen_pairs: Annotated[float, Field(ge=0, le=MOST_UNSEEN, allow_inf_nan=False)]
    spread: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    frames: Positive | None

    def shape(self, data: Data) -> Shape | None:
        """The shape of one example."""
        if data.sides is None:
            return None
        return (*(() if self.frames is None else (self.frames,)), *data.sides, 3)


class MovingDigits(Section):
    """Clips of moving digits, ``count`` of them, each of ``frames`` frames with so many ``digits``.

    ``classes`` says whether the digits are the class, or the directions in which they set off.
    """

    needs: ClassVar[tuple[str, ...]] = ("image_size",)
    refuses: ClassVar[tuple[str, ...]] = ("channels", *COLUMNS)
    smallest: ClassVar[int] = 12
    """Pixels of the shorter side; a digit has 8."""

    count: Positive
    frames: Positive
    digits: Literal[1, 2]
    classes: Literal["digit", "motion"]

    def shape(self, data: Data) -> Shape | None:
        """The shape of one example."""
        return None if data.sides is None else (self.frames, *data.sides, 1)


class Emoji(Plain):
    """The emoji of OpenMoji, drawn on ``data.background``."""

    needs: ClassVar[tuple[str, ...]] = ("image_size",)
    refuses: ClassVar[tuple[str, ...]] = ("channels", *COLUMNS, "unlabelled")

    def shape(self, data: Data) -> Shape | None:
        """The shape of one example."""
        return None if data.sides is None else (*data.sides, 3)


class Files(Section):
    """Files of the train split, and of the eval split: paths, or addresses that fsspec knows.

    Without ``eval_path`` both splits come from ``path``, by ``data.train_fraction``.
    """

    needs: ClassVar[tuple[str, ...]] = ("image_size", "channels")

    path: FilePath
    eval_path: FilePath | None

    def shape(self, data: Data) -> Shape | None:
        """The shape of one example."""
        if data.sides is None or data.channels is None:
            return None
        return (*data.sides, data.channels)


class Frames(Files):
    """Clips of ``frames`` frames, every ``frame_stride``-th of those in a folder."""

    refuses: ClassVar[tuple[str, ...]] = COLUMNS

    frames: Positive
    frame_stride: Positive

    def shape(self, data: Data) -> Shape | None:
        """The shape of one example."""
        image = super().shape(data)
        return None if image is None else (self.frames, *image)


class Named(Files):
    """Files, and a text file that names the classes in label order, one per line."""

    class_names: FilePath | None


class Labelled(Named):
    """The same, and a CSV file of name,class for images that are in no class folder."""

    labels: FilePath | None


class Windows(Files):
    """Video files, of each ``clips_per_video`` clips of ``frames`` frames.

    These are every ``frame_stride``-th of ``frames_per_second``; null is the file's own rate.
    """

    frames: Positive
    frame_stride: Positive
    frames_per_second: PositiveFloat | None
    clips_per_video: Positive

    def shape(self, data: Data) -> Shape | None:
        """The shape of one example."""
        image = super().shape(data)
        return None if image is None else (self.frames, *image)


class Videos(Labelled, Windows):
    """Video files: the folders and the CSV file of labels as for images."""

    refuses: ClassVar[tuple[str, ...]] = ("caption_column",)


class Kinetics(Windows):
    """Files ``{youtube_id}_{start}_{end}`` anywhere below the path, and Kinetics' CSV files."""

    refuses: ClassVar[tuple[str, ...]] = COLUMNS

    csv: FilePath | Annotated[list[FilePath], Field(min_length=1)]


SOURCES = Registry("data.source")
SOURCES.register("digits", Digits, "sid2core.data.sources.digits:Digits.of")
SOURCES.register("shapes", Shapes, "sid2core.data.sources.shapes:Shapes.of")
SOURCES.register(
    "moving_digits", MovingDigits, "sid2core.data.sources.moving_digits:MovingDigits.of"
)
SOURCES.register("emoji", Emoji, "sid2core.data.sources.emoji:Emoji.of")
SOURCES.register("folder", Labelled, "sid2core.data.sources.folders:Folder.of")
SOURCES.register("frames", Frames, "sid2core.data.sources.video.frames:Frames.of")
SOURCES.register("videos", Videos, "sid2core.data.sources.video.videos:Videos.of")
SOURCES.register("kinetics", Kinetics, "sid2core.data.sources.video.kinetics:Kinetics.of")
SOURCES.register("imagenet", Labelled, "sid2core.data.sources.folders:Folder.of_imagenet")
SOURCES.register("arrays", Labelled, "sid2core.data.sources.arrays:Arrays.of")
SOURCES.register("parquet", Named, "sid2core.data.sources.parquet:Parquet.of")
SOURCES.register("webdataset", Named, "sid2core.data.sources.webdataset:WebDataset.of")


class Source(Choice):
    """Where images come from.

    Targets take ``data``, the whole section, and ``part``: ``path`` for the train split (or both),
    ``eval_path`` for the eval split of a source whose settings have that key and give it.

    A kind's settings may say which keys of ``data`` it ``needs`` or ``refuses``, and the ``shape``
    of an example as far as the parameters determine it.
    """

    registry: ClassVar[Registry] = SOURCES


class Data(Section):
    """What ``prepare`` reads, to which shape, and how it splits and shards it."""

    source: Source
    label_column: _Name | None
    image_column: _Name | None
    unlabelled: bool
    classes: Literal["auto", "folders"]
    captions: Literal["auto", "required", "none"]
    caption_column: _Name | Annotated[list[_Name], Field(min_length=1)] | None
    caption_lines: bool
    max_missing_captions: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    image_size: Positive | Annotated[list[Positive], Field(min_length=2, max_length=2)] | None
    channels: Literal[1, 3] | None
    crop: Literal["adm", "centre", "squash"]
    background: str
    jpeg: Literal["exact", "scaled"]
    max_pixels: Positive
    max_reject_fraction: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    given_frames: NonNegative
    train_fraction: OpenFraction
    shard_records: Positive
    row_group_records: Positive

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width, or None for the source's own."""
        size = self.image_size
        if isinstance(size, list):
            height, width = size
            return height, width
        return None if size is None else (size, size)

    @property
    def shape(self) -> Shape | None:
        """The shape of one example; None if only the source itself knows it."""
        shape = getattr(self.source.settings, "shape", None)
        found: Shape | None = shape(self) if callable(shape) else None
        return found

    @model_validator(mode="after")
    def _fitting(self) -> Data:
        name, settings = self.source.name, self.source.settings
        for key in ("image_size", "channels", *COLUMNS, "unlabelled"):
            given = getattr(self, key) not in (None, False)
            if not given and key in getattr(settings, "needs", ()):
                raise ValueError(f"source {name} needs {key}, found null")
            if given and key in getattr(settings, "refuses", ()):
                neutral = "false" if key == "unlabelled" else "null"
                raise ValueError(f"source {name} does not take {key}; set {key} to {neutral}")
        smallest = getattr(settings, "smallest", 0)
        if self.sides is not None and min(self.sides) < smallest:
            raise ValueError(
                f"source {name} needs image_size of at least {smallest}, found {min(self.sides)}"
            )
        return self


class Loader(Section):
    """What the training stages do to prepared images as they read them, by chance."""

    horizontal_flip: bool
    max_shift: NonNegative
    clip_frames: Positive | None
    """Of stored clips, a window of so many frames: at random in training, else the first one."""


def clip_shape(shape: Shape, clip_frames: int | None) -> Shape:
    """What is read of stored clips [f, h, w, c]: [clip_frames, h, w, c], or all for None.

    Raises:
        ParamsError: the data are images, or their clips are shorter.
    """
    if clip_frames is None:
        return shape
    frames = shape[0] if len(shape) == 4 else 1
    if len(shape) == 4 and clip_frames <= frames:
        return (clip_frames, *shape[1:])
    found = f"clips have {frames} frames" if len(shape) == 4 else "the data are images"
    msg = f"loader.clip_frames: found {clip_frames}; {found}: "
    raise ParamsError(f"{msg}set it to null" + (", or lower it" if len(shape) == 4 else ""))
