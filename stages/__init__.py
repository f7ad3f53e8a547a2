"""One page per stage: read parameters and artifacts, call ``sid2core``, write outputs.

Run as modules (``python -m stages.train``) from the project's root, by DVC or by hand.
"""

import importlib.util
import sys

if importlib.util.find_spec("jax") is None:
    sys.exit(
        f"{sys.executable} has no jax: activate the project's environment "
        "(`make setup`, then `source .venv/bin/activate`) and run the command again"
    )
