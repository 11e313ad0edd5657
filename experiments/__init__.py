"""Experiments: one module for each claim. `python -m experiments.NAME --preset smoke|quick|paper --out DIR`."""
