"""What shape a Residual U-ViT has: the configuration that stands beside its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sid2core.conditioning import ConditionSpec
from sid2core.errors import Sid2Error

Kind = Literal["res", "transformer"]


class ModelError(Sid2Error):
    """The network does not fit the images it is asked to model."""


@dataclass(frozen=True)
class UViTConfig:
    """Shape of a Residual U-ViT; lists have one entry a level, finest first, the last the middle.

    What the paper leaves open is an option with one default in ``params.yaml``.

    Attributes:
        image_shape: height, width and channels of the image, or frames, height, width and channels
            of a clip without its given frames; z and the output are of this shape.
        condition: the kinds of condition that the network takes.
        patch_size: side of a patch: the finest level works at height / patch_size.
        channels: width of each level.
        blocks: kind of block of each level.
        encoder_depth: blocks on the way down, for all but the last level.
        decoder_depth: blocks on the way up, likewise.
        mid_depth: blocks of the last level.
        dropout: dropout rate of each level.
        temporal_strides: by how much the descent from each level but the last thins out frames.
        emb_channels: width of the conditioning vector.
        head_size: channels of one attention head, if not ``heads``.
        heads: number of attention heads at every level, if not ``head_size``.
        position: ``learned`` embeddings added before a run of Transformer blocks, or ``rope``,
            rotations of q and k by the position along each axis.
        film: where a Transformer block is modulated: before ``attention``, ``mlp``, or ``both``.
        order: of attention and MLP in a Transformer block; ``parallel`` adds both at once.
        text_channels: width of the text tokens that blocks look at; None is ``emb_channels``.
        text_positions: whether text tokens have learned positions.
        text_pooled: whether the text's mean is added to the conditioning vector.
        compute_dtype: of activations; parameters, norms, softmax and output are float32.
    """

    image_shape: tuple[int, ...]
    condition: ConditionSpec
    patch_size: int
    channels: tuple[int, ...]
    blocks: tuple[Kind, ...]
    encoder_depth: tuple[int, ...]
    decoder_depth: tuple[int, ...]
    mid_depth: int
    dropout: tuple[float, ...]
    temporal_strides: tuple[int, ...]
    emb_channels: int
    head_size: int | None
    heads: int | None
    position: Literal["learned", "rope"]
    film: Literal["both", "attention", "mlp"]
    order: Literal["attention_first", "mlp_first", "parallel"]
    text_channels: int | None
    compute_dtype: Literal["float32", "bfloat16"]
    text_positions: bool = True
    text_pooled: bool = True

    def __post_init__(self) -> None:
        levels = len(self.channels)
        factor = self.patch_size * 2 ** (levels - 1)
        *frames, height, width, _ = self.image_shape
        if height % factor or width % factor:
            msg = (
                f"images of {height}×{width} do not divide by {factor} (patch_size "
                f"{self.patch_size} and {levels} levels); change model.patch_size, "
                f"the number of model.channels, or the image size"
            )
            raise ModelError(msg)
        self._check_given()
        thinning = math.prod(self.temporal_strides)
        if self.positions_shape[0] % thinning if frames else thinning > 1:
            what = (
                f"clips of {self.positions_shape[0]} frames"
                if frames
                else "images, which have no frames,"
            )
            msg = f"{what} do not divide by {thinning}, the product of model.temporal_strides"
            raise ModelError(f"{msg} {list(self.temporal_strides)}; change them, or data.frames")
        if self.condition.text is not None and "transformer" not in self.blocks:
            msg = "model.blocks: found no transformer; text needs attention in at least one level"
            raise ModelError(msg)

    def _check_given(self) -> None:
        given = self.condition.given
        if given is None or (self.is_video and given.shape[1:] == self.image_shape[1:]):
            return
        msg = f"condition: found given frames of shape {list(given.shape)}; expected frames of a "
        raise ModelError(f"{msg}clip whose others are {list(self.image_shape)}")

    @property
    def given_frames(self) -> int:
        """How many clean frames the network puts before z."""
        return 0 if self.condition.given is None else self.condition.given.shape[0]

    @property
    def positions_shape(self) -> tuple[int, ...]:
        """Shape of what the levels work on: ``image_shape`` with the given frames before it."""
        if not self.given_frames:
            return self.image_shape
        frames, *others = self.image_shape
        return (self.given_frames + frames, *others)

    @property
    def frames(self) -> int | None:
        """How many frames a whole clip has; None for images."""
        return self.positions_shape[0] if self.is_video else None

    @property
    def is_video(self) -> bool:
        """Whether examples are clips [f, h, w, c]."""
        return len(self.image_shape) == 4

    def stride(self, level: int) -> tuple[int, ...]:
        """By how much the descent from ``level`` shrinks each axis of positions."""
        return (self.temporal_strides[level], 2, 2) if self.is_video else (2, 2)

    def patch(self) -> tuple[int, ...]:
        """Sides of a patch: one frame deep."""
        return (1, self.patch_size, self.patch_size) if self.is_video else (self.patch_size,) * 2

    def grid(self, level: int) -> tuple[int, ...]:
        """(Frames,) height and width of the feature maps of ``level``."""
        sizes = [
            size // side for size, side in zip(self.positions_shape, self.patch(), strict=False)
        ]
        for above in range(level):
            sizes = [size // side for size, side in zip(sizes, self.stride(above), strict=True)]
        return tuple(sizes)

    @property
    def text_width(self) -> int | None:
        """Width of the text tokens that blocks look at; None without text."""
        return None if self.condition.text is None else self.text_channels or self.emb_channels

    def depth(self, level: int) -> int:
        """Blocks of ``level``, down and up together."""
        if level == len(self.channels) - 1:
            return self.mid_depth
        return self.encoder_depth[level] + self.decoder_depth[level]

    def heads_of(self, level: int) -> tuple[int, int]:
        """Number and size of the attention heads of ``level``."""
        width = self.channels[level]
        size = self.head_size or width // (self.heads or 1)
        return width // size, size
