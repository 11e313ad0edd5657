"""The directive `result NAME`: the command that runs an experiment, its tables, and the code that runs and draws it."""

import importlib
import os
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from jaxcollapse.command import FIGURES, RUNNABLE

ROOT = Path(__file__).parents[2]
CODE = """
:::{{dropdown}} `{name}`
```{{literalinclude}} {path}
:language: python
```
:::
"""


def tables(name: str) -> list[Path]:
    """List the tables of an experiment: of all experiments its name is the longest that a table's begins with."""
    found = sorted((ROOT / "paper_figures" / "figures").glob(f"{name}*.csv"))
    return [path for path in found if max(filter(path.stem.startswith, RUNNABLE), key=len) == name]


def code(name: str) -> list[Path]:
    """List the modules that run an experiment and draw its figures, those of a study after its experiment's."""
    module = RUNNABLE[name]
    experiment = importlib.import_module(module).run.__module__
    drawing = [figure for stem, figure in FIGURES.items() if stem.startswith(experiment.rpartition(".")[2])]
    names = dict.fromkeys((module, experiment, *drawing))
    return [ROOT.joinpath(*each.split(".")[1:]).with_suffix(".py") for each in names]


class Result(SphinxDirective):
    """What a page on an experiment takes from the code."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        (name,) = self.arguments
        here = Path(self.env.doc2path(self.env.docname)).parent
        links = [f"{{download}}`{path.name} <{os.path.relpath(path, here)}>`" for path in tables(name)]
        lines = ["```sh", f"jaxcollapse run {name} --preset paper", "```", ""]
        lines += [f"Tables: {', '.join(links)}", ""] * bool(links)
        for path in code(name):
            self.env.note_dependency(str(path))
            lines.append(CODE.format(name=path.relative_to(ROOT), path=os.path.relpath(path, here)))
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("result", Result)
    return {"parallel_read_safe": True}
