"""The sections of ``params.yaml`` that say which images there are and how they are read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sid2core.config.section import NonNegative, OpenFraction, Positive, Section


class Data(Section):
    """What ``prepare`` reads, to which shape, and how it splits and shards it."""

    source: Literal[
        "digits", "shapes", "folder", "frames", "imagenet", "arrays", "parquet", "webdataset"
    ]
    path: str | None
    eval_path: str | None
    labels: str | None
    class_names: str | None
    count: Positive | None
    image_size: Positive | Annotated[list[Positive], Field(min_length=2, max_length=2)] | None
    channels: Literal[1, 3] | None
    frames: Positive | None
    frame_stride: Positive | None
    crop: Literal["adm", "centre", "squash"]
    background: str
    jpeg: Literal["exact", "scaled"]
    max_pixels: Positive
    max_reject_fraction: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    train_fraction: OpenFraction
    shard_records: Positive
    row_group_records: Positive
    workers: Positive | None
    dask_address: str | None

    @model_validator(mode="after")
    def _fitting(self) -> Data:
        needs, may = _DATA_KEYS[self.source]
        for name in _DATA_KEYS_OF_SOURCES:
            given = getattr(self, name) is not None
            if not given and name in needs:
                raise ValueError(f"source {self.source} needs {name}, found null")
            if given and name not in needs and name not in may:
                raise ValueError(f"source {self.source} has no use for {name}; set it to null")
        return self


_SHAPE = ("image_size", "channels")
_FILES = ("path", *_SHAPE)
_DATA_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "digits": ((), ()),
    "shapes": (("count", "image_size"), ()),
    "folder": (_FILES, ("eval_path", "labels", "class_names")),
    "frames": ((*_FILES, "frames", "frame_stride"), ("eval_path",)),
    "imagenet": (_FILES, ("eval_path", "labels", "class_names")),
    "arrays": (_FILES, ("eval_path", "labels", "class_names")),
    "parquet": (_FILES, ("eval_path", "class_names")),
    "webdataset": (_FILES, ("eval_path", "class_names")),
}
"""By source: the keys of ``data`` that it needs, and those that it may be given beside them."""
_DATA_KEYS_OF_SOURCES = (
    *("path", "eval_path", "labels", "class_names", "count"),
    *("image_size", "channels", "frames", "frame_stride"),
)


class Loader(Section):
    """What the training stages do to prepared images as they read them, by chance."""

    horizontal_flip: bool
    max_shift: NonNegative
