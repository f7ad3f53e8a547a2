"""The machine in words, for reports."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import psutil

_GPUS = Path("/proc/driver/nvidia/gpus")


def name() -> str:
    """Such as ``2 × Intel(R) Xeon(R) Processor`` or ``8 × NVIDIA H100``."""
    models = [
        match[1]
        for path in sorted(_GPUS.glob("*/information"))
        if (match := re.search(r"^Model:\s*(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    ]
    if models:
        return ", ".join(f"{models.count(one)} × {one}" for one in dict.fromkeys(models))
    return f"{psutil.cpu_count() or 1} × {_processor()}"


def _processor() -> str:
    """The processor's model; its architecture where the system does not name it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        text = info.read_text(encoding="utf-8", errors="replace")
        if match := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            return match[1].strip()
    return platform.processor() or platform.machine()
