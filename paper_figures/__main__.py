"""Draw every figure whose results are there: `python -m paper_figures --results DIR --out DIR`."""

import importlib
import pkgutil

import paper_figures
from paper_figures import style

results, out = style.directories("paper_figures")
for module in pkgutil.iter_modules(paper_figures.__path__):
    if (results / f"{module.name}.csv").exists():
        style.save(module.name, importlib.import_module(f"paper_figures.{module.name}").draw, results, out)
