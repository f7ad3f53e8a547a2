"""Studies: several variants and seeds of the pipeline, run as DVC experiments and compared."""
