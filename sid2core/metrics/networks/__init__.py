"""Feature extractors: Inception, DINOv2, I3D, and the data set's own classifier."""
