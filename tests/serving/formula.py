"""A model that is a formula: each step of its drawing is an image of one grey."""

import threading

import numpy as np

from sid2core.errors import Sid2Error
from sid2core.serving import pictures

START = {
    "samplers": ["ddpm", "ddim"],
    "limits": {"count": 64, "steps": 256},
    "axis": [-10.0, 10.0],
    "start": {
        "models": ["base", "student_2"],
        "guidance": 0.5,
        "interval": False,
        "from": -3,
        "to": 5,
        "autoguidance": False,
        "sampler": "ddpm",
        "steps": 4,
        "seed": 0,
        "count": 4,
    },
}


class Formula:
    """Draws ``count`` images of 8 × 8 pixels in ``steps`` steps.

    Attributes:
        go: drawings wait for it before their second step.
        drawn: what was asked for and drawn to the end.
        begun: what was begun.
    """

    def __init__(self, **about):
        self.go, self.begun, self.drawn = threading.Event(), [], []
        self.go.set()
        self._about = {"summary": "8 × 8", "classes": ["zero", "one"], "student": None}
        self._about |= {"text": False, "given": [], "autoguidance": False} | about

    def about(self):
        return self._about

    def work(self, asked):
        count = asked.get("count", 1)
        if not isinstance(count, int) or not 1 <= count <= 64:
            raise Sid2Error(f"count: found {count!r}; expected 1 to 64")

        def run(update):
            self.begun.append(asked)
            steps = asked.get("steps", 2)
            for step in range(1, steps + 1):
                image = np.full((count, 8, 8, 1), 255 * step // steps, np.uint8)
                update({"event": "step", "step": step, "steps": steps} | pictures.sheet(image))
                assert self.go.wait(30)
            self.drawn.append(asked)
            return {"summary": "4 steps"} | pictures.sheet(image)

        return run
