"""A directive that documents modules: those named, and where a package is named all that lie in it."""

import importlib
import pkgutil

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def modules_of(name: str) -> list[str]:
    """List a module, or the modules of a package, by their names."""
    package = importlib.import_module(name)
    if not hasattr(package, "__path__"):
        return [name]
    found = [each.name for each in pkgutil.iter_modules(package.__path__, f"{name}.") if not each.ispkg]
    return [each for each in found if not each.rsplit(".", 1)[1].startswith("_")]


class Modules(SphinxDirective):
    """Document the public members of each module, a section each."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write a section for each module, and parse it."""
        names = [name for line in self.content for name in modules_of(line.strip())]
        text = "\n\n".join(
            f"## {name.rsplit('.', 1)[1]}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```"
            for name in names
        )
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True}
