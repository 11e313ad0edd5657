"""Gaussian models and quadratic scores: the ground floor under the sampler, the metrics and the theory."""
