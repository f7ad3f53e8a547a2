"""Moment-matching distillation (arXiv 2406.04103): a student that takes k steps.

The student learns to draw, at every time, images whose conditional mean given a noisier version is
the teacher's. With times s < t at most 1/k apart, z_t a noisy state, x~ = g_eta(z_t) and
z_s ~ q(z_s | z_t, x~), its images satisfy E[x~ | z_s] = g_theta(z_s), the teacher's estimate.

- :mod:`~sid2core.distillation.states`: which times, states z_t and z_s an objective sees
- :mod:`~sid2core.distillation.teacher`: the guided teacher
- :mod:`~sid2core.distillation.objectives`: what the forms share, the weight of errors among it
- :mod:`~sid2core.distillation.protocol`: what a form is
- :mod:`~sid2core.distillation.alternating`: the form with an auxiliary network
- :mod:`~sid2core.distillation.parameter_space`: the form without one
- :mod:`~sid2core.distillation.trainer`: the training that all forms share
"""
