"""A headless Chromium under test.

It is controlled through its debugging pipe, so the tests need only the browser.
"""

from __future__ import annotations

import base64
import io
import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-sync",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
# Seconds within which Chromium must answer; it starts slowly on a busy machine.
PATIENCE = 120
# 1280 x 900 is a laptop's window, 390 x 844 a phone's.
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


class Browser:
    """A headless Chromium: one pipe for commands, one for replies and events."""

    def __init__(self, program: str, profile: Path) -> None:
        down, self._down = os.pipe()
        self._up, up = os.pipe()
        # The browser reads file descriptor 3 and writes 4; the shell puts the pipes there.
        line = 'exec "$0" "$@" 3<&"$SID2_DOWN" 4>&"$SID2_UP"'
        self._process = subprocess.Popen(
            ["bash", "-c", line, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            env={**os.environ, "SID2_DOWN": str(down), "SID2_UP": str(up)},
            pass_fds=(down, up),
            stderr=subprocess.DEVNULL,
        )
        os.close(down)
        os.close(up)
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[dict[str, Any]] = []
        target = next(
            entry["targetId"]
            for entry in self.send("Target.getTargets")["targetInfos"]
            if entry["type"] == "page"
        )
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **values: Any) -> dict[str, Any]:
        """Send a command and return its result; events that arrive before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._down, json.dumps(message).encode() + b"\0")
        while (reply := self._receive()).get("id") != self._number:
            self.events.append(reply)
        assert "error" not in reply, reply
        return reply["result"]

    def open(
        self, address: str, width: int, height: int, scheme: str = "light", motion: str = ""
    ) -> None:
        """Load an address in a window of this size and wait until it is complete."""
        self.events.clear()
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        media = [{"name": name, "value": value} for name, value in wishes.items()]
        self.send("Emulation.setEmulatedMedia", features=media)
        self.send("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the open page."""
        reply = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"]["value"]

    def screenshot(self) -> Image.Image:
        """The whole open page."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")

    def close(self) -> None:
        """Close the browser."""
        self._session = None
        self.send("Browser.close")
        self._process.wait(30)
        os.close(self._down)
        os.close(self._up)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._up], [], [], PATIENCE)[0], "Chromium does not answer"
            part = os.read(self._up, 1 << 20)
            assert part, "Chromium closed its pipe"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast of two colours ``rgb(r, g, b)``."""
    levels = []
    for colour in (first, second):
        values = np.array([float(v) for v in colour[4:-1].split(",")]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        levels.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(levels) + 0.05) / (min(levels) + 0.05)
