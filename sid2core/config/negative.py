"""The parameters of the training of ``train_negative``: those of the base model, with its changes.

Not only types and bounds: its values shape a result, so it is part of the programs that import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from sid2core.config.params import Params
from sid2core.config.section import ParamsError, Section

_OF_THE_BASE = ("emas", "snapshots", "init_from", "freeze")
"""Keys of ``train`` that are null for the negative."""
Changed = TypeVar("Changed", bound=Section)


def params_of(params: Params) -> Params:
    """``params`` with the sections ``model`` and ``train`` of the negative.

    Raises:
        ParamsError: the changes do not fit the rest of the section; the message names the key.
    """
    own = params.train_negative.model_dump()
    model = own.pop("model")
    nothing: dict[str, Any] = dict.fromkeys(_OF_THE_BASE)
    heads: dict[str, Any] = {} if model["head_size"] is None else {"heads": None}
    return params.model_copy(
        update={
            "model": _changed(params.model, model, heads, "train_negative.model"),
            "train": _changed(params.train, own, nothing, "train_negative"),
        }
    )


def _changed(
    base: Changed, own: Mapping[str, Any], further: Mapping[str, Any], key: str
) -> Changed:
    values = {name: value for name, value in own.items() if value is not None}
    try:
        return type(base).model_validate({**base.model_dump(), **values, **further})
    except ValidationError as error:
        reasons = (item["msg"].removeprefix("Value error, ") for item in error.errors())
        msg = f"{key}: {'; '.join(reasons)}"
        raise ParamsError(msg) from None
