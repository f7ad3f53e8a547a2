"""Parts of :mod:`benchmarks.distillation`: what trains and measures, and the table."""
