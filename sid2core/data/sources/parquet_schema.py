"""Which columns of a Parquet file hold pictures, captions and labels, by its schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import types

from sid2core.data.errors import DataError
from sid2core.data.sources import classes, fields
from sid2core.data.sources.fields import Asked
from sid2core.errors import few

_IMAGES = ("image", "img", "jpg")
_LABEL = "label"


class Labels(NamedTuple):
    """The column of the labels."""

    column: str
    kind: str
    """integers or strings."""
    names: tuple[str, ...] | None
    """The class names that integers count, if the schema has them."""


class Columns(NamedTuple):
    """What of a file is read."""

    image: str
    captions: tuple[str, ...]
    labels: Labels | None
    ignored: tuple[str, ...]


def columns(schema: pa.Schema, where: str, asked: Asked) -> Columns:
    """The columns that count; ``asked`` are those that the parameters name.

    Raises:
        DataError: there are no pictures, a named column is missing, or the labels are ambiguous or
            neither integers nor strings.
    """
    image, captions = pictures(schema, where, asked)
    labels = _labels(schema, where, asked)
    used = {image, *captions, labels and labels.column}
    return Columns(
        image, captions, labels, tuple(name for name in schema.names if name not in used)
    )


def pictures(schema: pa.Schema, where: str, asked: Asked) -> tuple[str, tuple[str, ...]]:
    """The columns of the pictures and of the captions.

    Raises:
        DataError: there are no pictures, or a named column is missing or holds no captions.
    """
    if asked.image is not None:
        fields.require(asked.image, schema.names, where, fields.IMAGE_KEY)
    image = asked.image or next((name for name in _IMAGES if name in schema.names), None)
    if image is None:
        msg = f"{where} has columns {few(schema.names)}; expected one of {', '.join(_IMAGES)}"
        raise DataError(f"{msg}: set {fields.IMAGE_KEY} to that of the pictures")
    kind = schema.field(image).type
    if types.is_struct(kind):
        inner = [kind.field(place) for place in range(kind.num_fields)]
        kind = next((field.type for field in inner if field.name == "bytes"), pa.null())
    if not _is_binary(kind):
        msg = f"{where} has a column {image} of {schema.field(image).type}; expected files' bytes"
        raise DataError(f"{msg}, or a struct with a field bytes: write encoded pictures")
    for name in asked.caption:
        fields.require(name, schema.names, where, fields.CAPTION_KEY)
        if not _holds_captions(schema.field(name).type):
            msg = f"{where} has a column {name} of {schema.field(name).type}; expected strings, or "
            raise DataError(f"{msg}lists of strings: correct {fields.CAPTION_KEY}")
    texts = [name for name in schema.names if _holds_captions(schema.field(name).type)]
    return image, asked.caption_fields([name for name in texts if name != asked.label])


def _labels(schema: pa.Schema, where: str, asked: Asked) -> Labels | None:
    """The column of the labels: ``label``, else the only one that looks like labels."""
    features = _features(schema)
    candidates = [
        name
        for name in schema.names
        if _class_names(features, name) is not None or fields.is_label_like(name)
    ]
    column = fields.label(asked, candidates, schema.names, where, _LABEL)
    if column is None:
        return None
    kind = schema.field(column).type
    if types.is_integer(kind) or types.is_boolean(kind):
        return Labels(column, "integers", _class_names(features, column))
    if _is_string(kind):
        return Labels(column, "strings", None)
    msg = f"{where} has labels of {kind} in the column {column}; expected integers or strings"
    cure = f"set {fields.LABEL_KEY} to another column, or {fields.UNLABELLED_KEY} to true"
    raise DataError(f"{msg}: {cure}")


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """What Hugging Face's JSON in the schema says of each column."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _class_names(features: Mapping[str, Any], column: str) -> tuple[str, ...] | None:
    """The names of a ClassLabel."""
    feature = features.get(column)
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list) or not names:
        return None
    if not all(isinstance(name, str) for name in names):
        return None
    return tuple(map(classes.normal, names))


def _is_binary(kind: pa.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _holds_captions(kind: pa.DataType) -> bool:
    lists = types.is_list(kind) or types.is_large_list(kind)
    return _is_string(kind.value_type if lists else kind)


def _is_string(kind: pa.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
