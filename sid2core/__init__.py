"""Simpler Diffusion (SiD2): pixel-space diffusion on JAX as a declarative DVC pipeline.

Three lines draw images::

    import sid2core

    model = sid2core.load_model("artifacts/train")
    images = model.sample(16, label=3)  # uint8 [16, h, w, c]

Importing the package is cheap: JAX is imported when a name below is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sid2core.inference.public import Model, load_model
    from sid2core.inference.request import Request
    from sid2core.metrics.sample_files import save_samples

__all__ = ["Model", "Request", "__version__", "load_model", "save_samples"]

__version__: str


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    if name == "__version__":
        from importlib.metadata import version

        return version("sid2")
    if name == "save_samples":
        from sid2core.metrics import sample_files

        return sample_files.save_samples
    if name == "Request":
        from sid2core.inference import request

        return request.Request
    from sid2core.inference import public

    return getattr(public, name)
