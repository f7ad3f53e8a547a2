"""One page per stage: read parameters and artifacts, call ``sid2core``, write outputs.

Run as modules (``python -m stages.train``) from the project's root, by DVC or by hand.
"""

import importlib.util
import os
import sys

if importlib.util.find_spec("jax") is None:
    sys.exit(
        f"{sys.executable} has no jax: activate the project's environment "
        "(`make setup`, then `source .venv/bin/activate`) and run the command again"
    )

from sid2core.errors import Sid2Error  # noqa: E402
from sid2core.pipeline import gpu_lease, launch, workdir  # noqa: E402 (need what was just checked)

launch.start_again(__name__, sys.orig_argv)

# After that, so that a lease is never carried over; and before JAX looks for devices.
if _stage := launch.started(__name__, sys.orig_argv):
    try:
        gpu_lease.take(_stage)
    except Sid2Error as error:
        sys.exit(f"{_stage}: {error}")

# What one stage compiled serves the next, and a resumed run: compiling is a fair part of a small
# run. JAX reads these when it is first imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str((workdir.root() / "compiled").absolute()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
