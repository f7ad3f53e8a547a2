"""Which frames of a video make its clips: by the times at which they are shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TIE = 1e-6
"""Seconds: of two frames as near as that, the earlier one is taken."""
_EVEN = (0.5, 1.5)
"""Intervals between frames count for a video's rate if they are so many times the median."""


@dataclass(frozen=True)
class Windows:
    """Up to ``per_video`` clips of ``frames`` frames of each video.

    Points in time lie 1 / ``frames_per_second`` apart, from the first frame to the last one; None
    is the video's own rate, at which each frame of a constant rate is one point. A clip takes every
    ``stride``-th point, of each the frame that is nearest in time. So frames are repeated or left
    out where the rate of a video differs or changes. Clips start evenly over the whole length, from
    the first point to the last possible one; a single clip starts at the first point.
    """

    frames: int
    stride: int = 1
    frames_per_second: float | None = None
    per_video: int = 1

    @property
    def needed(self) -> int:
        """Points in time from the first frame of a clip to its last one."""
        return (self.frames - 1) * self.stride + 1

    def points(self, times: NDArray[np.float64]) -> int:
        """How many points in time a video has whose frames are shown at ``times`` [n]."""
        if not len(times):
            return 0
        return int((times[-1] - times[0]) * self._rate(times) + 0.5) + 1

    def chosen(self, times: NDArray[np.float64]) -> NDArray[np.int64]:
        """Indices of the frames of each clip [k, f]; k < ``per_video`` if a video is too short.

        Args:
            times: seconds at which the frames are shown [n], never falling.
        """
        room = self.points(times) - self.needed
        if room < 0:
            return np.zeros((0, self.frames), np.int64)
        spread = np.arange(self.per_video) * room / max(1, self.per_video - 1)
        starts = np.unique(np.floor(spread + 0.5).astype(np.int64))
        points = starts[:, None] + self.stride * np.arange(self.frames)
        wanted = times[0] + points / self._rate(times)
        after = np.minimum(np.searchsorted(times, wanted), len(times) - 1)
        before = np.maximum(after - 1, 0)
        earlier = wanted - times[before] <= times[after] - wanted + _TIE
        return np.where(earlier, before, after)

    def _rate(self, times: NDArray[np.float64]) -> float:
        return own_rate(times) if self.frames_per_second is None else self.frames_per_second


def own_rate(times: NDArray[np.float64]) -> float:
    """Frames a second: the inverse of the mean interval, of those near the median one.

    So neither rounded times nor a gap change the rate of a video whose rate is constant.
    """
    intervals = np.diff(times)
    intervals = intervals[intervals > 0]
    if not len(intervals):
        return 1.0
    low, high = np.median(intervals) * np.array(_EVEN)
    return float(1 / intervals[(low <= intervals) & (intervals <= high)].mean())
