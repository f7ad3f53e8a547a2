"""Small pictures for tests, made on the spot."""

import numpy as np
from PIL import Image


def noise(height, width, channels=3, seed=0):
    """Random levels [h, w, c], or [h, w] of one channel."""
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return levels if channels > 1 else levels[..., 0]


def photograph(height, width, seed=0):
    """Levels [h, w, 3] whose amplitudes fall with frequency as those of photographs do."""
    draws = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    planes = []
    for power in (1.2, 1.6, 1.6):
        waves = np.fft.rfft2(draws.normal(size=(height, width))) / frequency**power
        plane = np.fft.irfft2(waves, (height, width))
        planes.append(plane / plane.std())
    luma, red, blue = planes
    levels = 127 + 45 * np.stack([luma + red / 3, luma, luma + blue / 3], axis=-1)
    return levels.clip(0, 255).astype(np.uint8)


def save(path, levels, **options):
    """Write an array as an image file; the name's extension is the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path, **options)
    return path


def folder(root, counts, size=6, suffix=".png"):
    """``<class>/<number><suffix>`` under ``root``: as many pictures a class as ``counts`` says."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            save(root / name / f"{number:03d}{suffix}", noise(size, size, seed=(label, number)))
    return root


def clips(root, lengths, size=6):
    """``<class>/<clip>/<number>.png``: frame f of any clip is grey of level f."""
    for name, length in lengths.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(length):
            save(root / name / f"{number}.png", np.full((size, size, 3), number, np.uint8))
    return root
