"""The error of studies."""

from __future__ import annotations

from sid2core.errors import Sid2Error


class StudyError(Sid2Error):
    """A study's file, or the state of its experiments, does not allow what was asked for."""
