"""What stands between the tests and the implementations that they compare with."""

import torch

OPERATORS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def admit_torchvision():
    """Let torchvision be imported where its operators are not built for the torch at hand.

    torch-fidelity imports it. A wheel for CUDA loads none of its operators beside torch for the
    CPU, and registers derivatives of some nevertheless; nobody calls them here.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name, schema in OPERATORS.items():
            torch.library.define(name, schema)
        import torchvision  # noqa: F401


admit_torchvision()
