"""What a power cut or a failing disk does to a file."""

import random


def truncated(path):
    """The first half of the file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path):
    """Its size, without its bytes."""
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path):
    """One bit of it changed, a place that depends on the file's name and size."""
    content = bytearray(path.read_bytes())
    bit = random.Random(f"{path.name} {len(content)}").randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


DAMAGES = [truncated, zeroed, flipped]
