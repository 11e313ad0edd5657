"""Experiments: a module for each claim, and studies, which are experiments in another setting."""
