"""Measurements side by side with peers, as ratios within one run; no test depends on them.

Like the stages they run with the settings of :mod:`sid2core.processor`; ``--bare`` goes without.
"""

import sys

from sid2core import processor

if "--bare" not in sys.orig_argv:
    processor.start_again(__name__, sys.orig_argv)
