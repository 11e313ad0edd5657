"""Formulas as MathML, which browsers draw by themselves: no script, and no network."""

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def converted(latex: str, display: str) -> str:
    r"""Convert a formula; of LaTeX the converter lacks `\arg` before a limit."""
    for limit in ("min", "max"):
        latex = latex.replace(rf"\arg\{limit}", rf"\operatorname*{{arg\,{limit}}}")
    found = convert(latex, display=display)
    if "\\" in found:
        raise ValueError(f"formula: {latex} has a command that is not converted")
    return found


def inline(self, node: nodes.math) -> None:
    """Write a formula in a line."""
    self.body.append(converted(node.astext(), "inline"))
    raise nodes.SkipNode


def block(self, node: nodes.math_block) -> None:
    """Write a formula of its own, of one line or of several."""
    latex = node.astext()
    if "&" in latex or r"\\" in latex:
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    self.body.append(self.starttag(node, "div", CLASS="math") + converted(latex, "block") + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True}
