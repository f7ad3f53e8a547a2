"""A SiD2 model as a pipeline of diffusers."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from PIL import Image
from torch import Tensor

from .sampling import draw

Arguments = dict[str, Tensor]
"""Of the network, by name; with one row for all examples, or one for each."""


class SiD2Pipeline(DiffusionPipeline):
    """Draws images or clips in pixels, from a class, a text or the frames before.

    ``tokenizer`` is there for models that take text. ``text_encoder`` is a T5 of ``transformers``
    for models that were trained with one; others have their own inside ``unet``.
    """

    _optional_components = ["tokenizer", "text_encoder"]

    def __init__(self, unet, tokenizer, text_encoder):
        super().__init__()
        self.register_modules(unet=unet, tokenizer=tokenizer, text_encoder=text_encoder)
        self.condition = unet.config.condition

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | Sequence[int | str] | None = None,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | None = None,
        given: Any = None,
        batch_size: int = 1,
        num_inference_steps: int | None = None,
        guidance: float | None = None,
        generator: torch.Generator | None = None,
        noise: Any = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Draw; None leaves a choice to the settings that the model was exported with.

        Args:
            class_labels: classes, by index or name: one for all images, or one each.
            prompt: texts, as the classes.
            negative_prompt: the text that guidance pushes away from.
            given: the first frames, 0 to 255: ``[k, h, w, c]``, or ``[n, k, h, w, c]``.
            batch_size: how many images of one class, text or clip.
            num_inference_steps: of the sampler.
            guidance: g in x + g (x - x_negative).
            generator: of the noise.
            noise: the noise itself, ``[steps, n, …]``, channels last.
            output_type: "pil", or "np" for arrays ``[n, (f,) h, w, c]`` in [0, 1].
        """
        condition = self._condition(class_labels, prompt, given, batch_size)
        count = max([batch_size, *map(len, condition.values())])
        for name, one in condition.items():
            if len(one) not in (1, count):
                raise ValueError(f"{name}: found {len(one)} for {count} images; give 1 or {count}")
        shape = (count, *self.unet.config.image_shape)

        def normal(step: int) -> Tensor:
            if noise is not None:
                return torch.as_tensor(noise[step], dtype=torch.float32)
            return torch.randn(
                shape, generator=generator, device=getattr(generator, "device", None)
            )

        negative = self.null(negative_prompt)
        x = self.drawn(condition, negative, count, normal, num_inference_steps, guidance)
        if "given" in condition:
            frames = condition["given"].to(x) / 127.5 - 1.0
            x = torch.cat([frames.expand(count, *frames.shape[1:]), x], dim=1)
        images = (0.5 * x + 0.5).cpu().numpy()
        return ImagePipelineOutput(images=images if output_type == "np" else _pictures(images))

    def drawn(
        self,
        condition: Arguments,
        negative: Arguments,
        count: int,
        noise: Callable[[int], Tensor],
        steps: int | None,
        guidance: float | None,
    ) -> Tensor:
        """Images ``[count, …]`` in [-1, 1]; the network's arguments have ``count`` rows or one."""
        settings = dict(self.unet.sampling)
        settings["steps"] = settings["steps"] if steps is None else steps
        settings["guidance"] = settings["guidance"] if guidance is None else guidance
        positive, other = (
            {
                name: one.expand(count, *one.shape[1:]).to(self.unet.device)
                for name, one in own.items()
            }
            for own in (condition, negative)
        )

        def network(z: Tensor, logsnr: float, is_other: bool) -> Tensor:
            levels = torch.full((count,), logsnr, device=z.device)
            return self.unet(z, levels, **(other if is_other else positive))

        return draw(network, lambda step: noise(step).to(self.unet.device), settings)

    def _condition(self, labels: Any, prompt: Any, given: Any, count: int) -> Arguments:
        """What is asked for, as arguments of the network."""
        found: dict[str, Any] = {}
        for name, kind, value in (
            ("prompt", self.condition.text, prompt),
            ("class_labels", self.condition.label, labels),
            ("given", self.condition.given, given),
        ):
            if value is not None and kind is None:
                raise ValueError(f"{name}: the model takes none; leave it out")
        if self.condition.text is not None and prompt is None:
            raise ValueError("prompt: found None; the model takes text ('' for none)")
        if self.condition.given is not None and given is None:
            raise ValueError("given: found None; the model continues frames")
        if self.condition.text is not None:
            found |= self._text([prompt] if isinstance(prompt, str) else list(prompt))
        if self.condition.given is not None:
            frames = self._frames(given)
            found |= {"given": frames, "there": torch.ones(len(frames), dtype=torch.bool)}
        if self.condition.label is not None:
            found["labels"] = self._labels(labels, max([count, *map(len, found.values())]))
        return found

    def null(self, prompt: str | None = None) -> Arguments:
        """The null condition, or that of the negative prompt."""
        found: dict[str, Any] = {}
        if prompt is not None and self.condition.text is None:
            raise ValueError("negative_prompt: the model takes no text; leave it out")
        if self.condition.text is not None:
            found |= self._null_text() if prompt is None else self._text([prompt])
        if self.condition.label is not None:
            found["labels"] = torch.tensor([self.condition.label.classes])
        if self.condition.given is not None:
            frames = torch.zeros(1, *self.condition.given.shape, dtype=torch.uint8)
            found |= {"given": frames, "there": torch.tensor([False])}
        return found

    def _labels(self, labels: Any, count: int) -> Tensor:
        """Class indices; without any each class in turn, and beside a text the null class."""
        kind = self.condition.label
        if labels is None and self.condition.text is not None:
            return torch.tensor([kind.classes])
        if labels is None:
            return torch.arange(count) % kind.classes
        found = [
            kind.names.index(one) if one in kind.names else one
            for one in ([labels] if isinstance(labels, int | str) else labels)
        ]
        if not all(one in range(kind.classes) for one in found):
            known = ", ".join(kind.names) or f"0 to {kind.classes - 1}"
            raise ValueError(f"class_labels: found {labels}; expected {known}")
        return torch.tensor(found)

    def _text(self, prompts: list[str]) -> Arguments:
        kind = self.condition.text
        ids, mask = (torch.tensor(one) for one in self.tokenizer(prompts, kind.tokens))
        if kind.dtype == "int32":
            return {"text": ids, "text_mask": mask}
        if self.text_encoder is None:
            raise ValueError("text_encoder: the model was trained with a T5; pass it on loading")
        device = self.text_encoder.device
        vectors = self.text_encoder(ids.to(device), mask.to(device)).last_hidden_state.cpu()
        stored = vectors.to(getattr(torch, kind.dtype)).float()
        return {"text": torch.where(mask[..., None], stored, 0.0), "text_mask": mask}

    def _null_text(self) -> Arguments:
        kind = self.condition.text
        content = bytearray(base64.b64decode(kind.null_tokens))
        tokens = torch.frombuffer(content, dtype=getattr(torch, kind.dtype))
        if kind.dtype != "int32":
            tokens = tokens.float().reshape(-1, kind.channels)
        text = tokens.new_zeros(1, kind.tokens, *tokens.shape[1:])
        text[0, : len(tokens)] = tokens
        return {"text": text, "text_mask": (torch.arange(kind.tokens) < len(tokens))[None]}

    def _frames(self, given: Any) -> Tensor:
        shape = tuple(self.condition.given.shape)
        frames = torch.as_tensor(np.asarray(given))
        frames = frames if frames.ndim == 5 else frames[None]
        if frames.shape[1:] != shape:
            raise ValueError(f"given: found {tuple(frames.shape[1:])}; expected {shape}")
        return frames


def _pictures(images: np.ndarray) -> list[Any]:
    """An image each, of clips a list of its frames."""
    if images.ndim == 5:
        return [_pictures(clip) for clip in images]
    pixels = np.rint(images * 255.0).clip(0, 255).astype(np.uint8)
    return [Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one) for one in pixels]
