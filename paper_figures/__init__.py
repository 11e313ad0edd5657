"""Figures: one module each. `python -m paper_figures.NAME --results DIR --out DIR` reads result files only."""
