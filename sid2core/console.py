"""Standard output and error that can always be written to, whatever the program was started with.

A service may start a program with closed streams, a container in a language of 128 characters.
"""

from __future__ import annotations

import io
import os
import sys


def prepare() -> None:
    r"""Open closed streams to nowhere; write characters that a stream lacks as ``\xe9``.

    A closed stream's number would be given to the next file that is opened, and whatever native
    libraries print would end up in that file.
    """
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, errors="backslashreplace"))
        elif number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
