"""What evaluation adds for clips with given frames: baselines and repeated continuations."""
