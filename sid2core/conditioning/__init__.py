"""What a model is conditioned on: the class, a text, clean frames, and kinds added from outside.

A batch is (examples, condition). The sources, the network and the class metrics look inside a
condition; every other module passes it on unopened. A :class:`ConditionSpec` says which kinds a
data set has, or a model takes. It makes the null condition, drops conditions for training, and
reads them from prepared records. Without any kind the data are unconditional: the condition has no
leaves, and there is nothing for guidance to push away from.

Importing this package does not import JAX, because parameter files are checked without it.
"""

from sid2core.conditioning.condition import (
    Condition,
    Given,
    Text,
    columns,
    concatenated,
    taken,
    whole,
)
from sid2core.conditioning.kinds import (
    KINDS,
    UNLABELLED,
    ConditionError,
    ConditionKind,
    GivenKind,
    LabelKind,
    Records,
    TextKind,
    null_tokens,
    register,
)
from sid2core.conditioning.spec import ConditionSpec, captioned, words

__all__ = [
    "KINDS",
    "UNLABELLED",
    "Condition",
    "ConditionError",
    "ConditionKind",
    "ConditionSpec",
    "Given",
    "GivenKind",
    "LabelKind",
    "Records",
    "Text",
    "TextKind",
    "captioned",
    "columns",
    "concatenated",
    "null_tokens",
    "register",
    "taken",
    "whole",
    "words",
]
