"""ONNX: the network as a graph that ONNX Runtime computes, and a program in NumPy that draws.

    denoiser.onnx  (z [b, …], logsnr [b], condition) → the network's output, for every b
    null.npz       the null condition
    draw.py        draws; needs numpy and onnxruntime

PyTorch makes the graph from the module of the format ``torch``: both formats have one source, and
no second environment is needed (jax2onnx asks for an older Orbax than this project).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sid2core.exporting import cases, formats, names, programs
from sid2core.exporting.exported import Exported
from sid2core.exporting.names import Arrays, Shape
from sid2core.models.fit import WeightsError

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

SUMMARY = "a graph of ONNX with its weights, and a program in NumPy that draws from it"
LIBRARY = "onnxruntime"
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")
ABSENT = ("jax", "jaxlib", "flax", "torch", "sid2core")
PROGRAM = Path(programs.DRAW)
FREE = True
use = programs.use
DENOISER = "denoiser.onnx"
OPSET = 21
"""Of ONNX 1.16: ONNX Runtime reads it from 1.18 on."""
_LARGE = 1_500_000_000
"""Bytes of weights from which on they are in a file beside the graph, which may have 2 GB."""
_ROUNDS = 2
"""Of the optimisation: a second one folds what the first made constant."""
_BATCH = 2
"""Of the example that PyTorch traces: it takes a size of 1 for a constant."""


def write(exported: Exported, folder: Path) -> None:
    """Write the folder."""
    programs.write(exported, folder, "draw_onnx.py", ["sampling.py"], ["numpy", "onnxruntime"])
    params = names.all_to_torch(exported.trained.params)
    large = sum(one.nbytes for one in params.values()) > _LARGE
    graph(exported, params).save(folder / DENOISER, external_data=large)


def graph(exported: Exported, params: Arrays) -> torch.onnx.ONNXProgram:
    """The network with these weights; an initializer has the name of its weight in PyTorch."""
    import torch

    from sid2core.exporting.files.model import ResidualUViT

    shape = exported.trained.shape
    network = ResidualUViT(shape).eval()
    network.load_state_dict({name: torch.tensor(one) for name, one in params.items()})
    null = cases.arrays(shape.condition.null(_BATCH))
    example = {"z": np.zeros((_BATCH, *shape.image_shape), np.float32)}
    example |= {"logsnr": np.zeros(_BATCH, np.float32), **null}
    batch = torch.export.Dim("b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of deprecated names in its own code
        made = torch.onnx.export(
            network,
            kwargs={name: torch.tensor(one) for name, one in example.items()},
            dynamic_shapes={name: {0: batch} for name in example},
            input_names=list(example),
            output_names=["output"],
            opset_version=OPSET,
            optimize=False,
            verbose=False,
        )
    assert made is not None
    _optimise(made.model)
    return made


def _optimise(model: ir.Model) -> None:
    """Fold constants and merge nodes, but leave the weights alone.

    The option of PyTorch's exporter transposes some of them, whose names are then lost.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer, rewriter

    weights = set(model.graph.initializers)

    def foldable(node: ir.Node) -> bool | None:
        """None leaves the decision to the optimiser."""
        own = any(one is not None and one.name in weights for one in node.inputs)
        return False if own else None

    for _ in range(_ROUNDS):
        optimizer.fold_constants(model, should_fold=foldable)
        rewriter.rewrite(model)
        common.RemoveUnusedNodesPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedOpsetsPass()(model)
    common.ClearMetadataAndDocStringPass()(model)  # stack traces with paths of this machine


def read(folder: Path, shapes: Mapping[str, Shape]) -> Arrays:
    """The weights, as the project names and lays them out.

    Raises:
        ExportError: ONNX is not installed.
    """
    formats.of_name("onnx")
    import onnx
    from onnx import numpy_helper

    path, expected = folder / DENOISER, names.torch_shapes(shapes)
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf has errors of its own
        msg = f"{path} cannot be read ({error}); export the model again"
        raise WeightsError(msg) from None
    found = {one.name: one for one in model.graph.initializer if one.name in expected}
    wrong = names.difference({name: tuple(one.dims) for name, one in found.items()}, expected)
    if wrong:
        raise WeightsError(f"{path} {wrong}: the weights are of another network")
    arrays: dict[str, Any] = {name: numpy_helper.to_array(one) for name, one in found.items()}
    return names.from_torch(arrays, shapes)
