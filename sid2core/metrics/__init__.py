"""Feature extractors, statistics and distances."""
