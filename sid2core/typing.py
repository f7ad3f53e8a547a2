"""Names of array shapes, so that signatures read like the paper.

``b`` batch, ``f`` frames, ``h w`` height and width, ``c`` channels, ``n d`` samples and features.
"""

from jaxtyping import Array, Bool, Float, Int, Key, UInt8

__all__ = [
    "Array",
    "Bool",
    "Clip",
    "Embedding",
    "Features",
    "Float",
    "Image",
    "Int",
    "Key",
    "Labels",
    "LogSnr",
    "Pixels",
    "RawExamples",
    "Samples",
    "Scalar",
    "Time",
]

Image = Float[Array, "b h w c"]
"""A batch of images in [-1, 1]."""
Clip = Float[Array, "b f h w c"]
"""A batch of clips of f frames in [-1, 1]."""
Samples = Float[Array, "b ..."]
"""A batch of examples of any rank: images or video."""
Pixels = UInt8[Array, "b h w c"]
"""A batch of raw images, 0 to 255."""
RawExamples = UInt8[Array, "b ..."]
"""A batch of raw images or clips, 0 to 255."""
Embedding = Float[Array, "b e"]
"""Conditioning vector of each example."""
Labels = Int[Array, "b"]
"""Class indices."""
LogSnr = Float[Array, "b"]
"""Log signal-to-noise ratio of each example, in nats."""
Time = Float[Array, "b"]
"""Diffusion time of each example: 0 is data, 1 is noise."""
Features = Float[Array, "n d"]
"""Feature vectors of n images."""
Scalar = Float[Array, ""]
