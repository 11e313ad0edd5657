"""Directives that document modules, all of a package where one is named, and the members of a registry."""

import importlib
import inspect
import pkgutil
import re

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


class Members(SphinxDirective):
    """List the members of a registry, MODULE:NAME, with the first sentence of each one's docstring."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write a table, and parse it."""
        module, name = self.arguments[0].split(":")
        registry = getattr(importlib.import_module(module), name)
        rows = [f"| `{member}` | {sentence_of(module, member, value)} |" for member, value in registry.items()]
        return self.parse_text_to_nodes("\n".join(["| member | what it does |", "|---|---|", *rows]))


def sentence_of(module: str, member: str, value: object) -> str:
    """Find the first sentence of a member's docstring, or of what the package calls by its name."""
    package = importlib.import_module(module)
    named = [getattr(package, name, None) for name in (member, f"load_{member}", f"{member}_split")]
    texts = [
        inspect.getdoc(each)
        for each in (getattr(value, "make", value), *named)
        if inspect.isroutine(each) or inspect.isclass(each)
    ]
    paragraph = " ".join(next(filter(None, texts)).split("\n\n")[0].split())
    return re.sub(r":math:`([^`]*)`", r"$\1$", re.sub(r"\[(\w+)\]_", r"{cite}`\1`", paragraph))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("modules", Modules)
    app.add_directive("members", Members)
    return {"parallel_read_safe": True}
