"""FID's Inception by other people, of any weight file; nothing is fetched."""

import numpy as np
import torch

OPERATORS = ("torchvision::nms", "torchvision::qnms")


def admit_torchvision():
    """Let torchvision be imported where its operators are not built for the torch at hand.

    A wheel for CUDA loads no operators beside torch for the CPU, yet registers shapes for two of
    them. Nothing calls them here.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if OPERATORS[0] not in str(error):
            raise
        for name in OPERATORS:
            torch.library.define(
                name, "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import torchvision  # noqa: F401


def channels_first(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def with_places(network, block, x):
    """The network's output, and the first 7 channels of a block's 1 × 1 branch, channels last."""
    found = []
    hook = block.branch1x1.register_forward_hook(lambda *call: found.append(call[-1]))
    with torch.no_grad():
        output = network(x)
    hook.remove()
    return output, found[0][:, :7].permute(0, 2, 3, 1).flatten(1).numpy()


class TorchFidelity:
    """torch-fidelity: mode ``tf1``."""

    def __init__(self, path):
        admit_torchvision()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.names = ["2048", "logits_unbiased", "logits"]
        self.network = FeatureExtractorInceptionV3("inception", self.names, str(path))

    def __call__(self, images):
        output, places = with_places(self.network, self.network.Mixed_6d, channels_first(images))
        pool3, unbiased, logits = (part.numpy() for part in output)
        return {"pool3": pool3, "logits_unbiased": unbiased, "logits": logits, "sfid": places}


class PytorchFid:
    """pytorch-fid: mode ``torch``; with clean-fid's resize before it, ``clean``.

    It stops at the pool: the logits are computed from it.
    """

    def __init__(self, path, monkeypatch):
        admit_torchvision()
        from pytorch_fid import inception

        state = torch.load(path, weights_only=True)
        monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: dict(state))
        self.network = inception.InceptionV3().eval()
        self.kernel, self.bias = (state[f"fc.{name}"].numpy() for name in ("weight", "bias"))

    def __call__(self, images):
        return self._features(channels_first(images).float() / 255)

    def clean(self, images):
        from cleanfid.resize import build_resizer

        resized = np.stack([build_resizer("clean")(image) for image in images])
        # (x - 128) / 128, as clean-fid's own network has it, of the network's 2 y - 1.
        return self._features((channels_first(resized) / 128) / 2)

    def _features(self, x):
        output, places = with_places(self.network, self.network.blocks[2][6], x)
        pool3 = output[0].flatten(1).numpy()
        unbiased = pool3.astype(np.float64) @ self.kernel.T
        logits = unbiased + self.bias
        return {"pool3": pool3, "logits_unbiased": unbiased, "logits": logits, "sfid": places}
