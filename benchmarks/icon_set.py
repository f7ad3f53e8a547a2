"""Write a few thousand icons of five classes and mixed formats, to try the pipeline on.

    sudo python -m benchmarks.icons --install
    python -m benchmarks.icon_set icons            # icons/<class>/…
    python -m benchmarks.icon_set icons-flat --flat
    sid2 preset --for icons --time 30m && dvc repro

The PNG files of the icon themes from 48 pixels on, each picture once, written again as PNG, JPEG,
WebP, GIF and TIFF in turn.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from pathlib import Path

from PIL import Image

THEMES = Path("/usr/share/icons")
CLASSES = ("actions", "apps", "devices", "mimetypes", "places")
FORMATS = ("png", "jpg", "png", "webp", "png", "gif", "tiff")
LEAST = 48
"""Pixels of the shorter side."""


def main() -> None:
    """Write the folder and print how many icons each class has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--flat", action="store_true", help="all in one folder, without classes")
    options = parser.parse_args()
    seen, counts = set[str](), Counter[str]()
    for path in sorted(THEMES.rglob("*.png")):
        kind = next((name for name in CLASSES if name in path.parts), None)
        if kind is None or path.is_symlink():
            continue
        icon = Image.open(path).convert("RGBA")
        digest = hashlib.sha256(icon.resize((16, 16)).tobytes()).hexdigest()
        if min(icon.size) < LEAST or digest in seen:
            continue
        seen.add(digest)
        target = options.folder if options.flat else options.folder / kind
        target.mkdir(parents=True, exist_ok=True)
        _write(icon, target / f"{kind}-{counts[kind]:04d}", FORMATS[len(seen) % len(FORMATS)])
        counts[kind] += 1
    print(f"{counts.total()} icons: " + ", ".join(f"{k} {n}" for k, n in sorted(counts.items())))


def _write(icon: Image.Image, path: Path, extension: str) -> None:
    if extension == "jpg":  # has no transparency
        white = Image.new("RGBA", icon.size, "white")
        icon = Image.alpha_composite(white, icon).convert("RGB")
    icon.save(path.with_suffix(f".{extension}"))


if __name__ == "__main__":
    main()
