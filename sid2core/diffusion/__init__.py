"""The method: schedule, parametrisation, weighting, losses, samplers and guidance as pure functions."""
