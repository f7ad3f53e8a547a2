"""The tests; packages from outside may bring a `tests` of their own, which this one precedes."""
