"""One page per stage: read parameters and artifacts, call ``sid2core``, write outputs.

Run as modules (``python -m stages.train``) from the project's root, by DVC or by hand. A stage's
first statement prepares its process (:func:`sid2core.pipeline.launch.prepare`), before anything
imports JAX; importing a stage does nothing.
"""
