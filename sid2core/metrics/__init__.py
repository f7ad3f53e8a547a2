"""Feature extractors, statistics and distances.

``kid``, ``inception_score``, ``precision_recall`` and ``density_coverage`` take arrays of features.
They and the modules are looked up when first asked for: a stage that needs one imports its module
by name, so that it hangs on that file alone.
"""

import importlib
import importlib.util
from typing import Any

_FUNCTIONS = {
    "density_coverage": "manifold",
    "inception_score": "divergence",
    "kid": "kernel_distance",
    "precision_recall": "manifold",
}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted([*globals(), *_FUNCTIONS])
