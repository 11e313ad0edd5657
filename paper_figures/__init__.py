"""Figures: one module each, reading result files only.

`python -m paper_figures.NAME --results DIR --out DIR` draws one, `python -m paper_figures` all whose results are there.
"""
