"""Measurements side by side with peers, as ratios within one run; no test depends on them."""
