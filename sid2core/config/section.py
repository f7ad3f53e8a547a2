"""What every section of ``params.yaml`` is made of: strict mappings and bounded numbers."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sid2core.errors import Sid2Error

LARGEST = 2**31 - 1
"""Steps and counts are 32-bit integers on the devices."""
Positive = Annotated[int, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[int, Field(ge=0, le=LARGEST)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # JAX keeps 32 bits of it
OpenFraction = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
FilePath = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path or an address; ``~`` is the home folder."""
Bits = Annotated[int, Field(ge=1, le=8)]  # a pixel has 8


class ParamsError(Sid2Error):
    """``params.yaml`` cannot be used as it stands; the message names each key and its cure."""


class Section(BaseModel):
    """A strict mapping: no unknown key, no missing key, no coercion from another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Plain(Section):
    """The parameters of a kind that has none."""
