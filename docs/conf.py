"""Configuration of the site: `make docs`."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "extensions"))

from jaxcollapse.version import __version__  # noqa: E402

project = "jaxcollapse"
author = "the authors of jaxcollapse"
project_copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
    "sphinx_design",
    "sphinx_copybutton",
    "myst_nb",
    "mathml",
    "modules",
    "result",
]
exclude_patterns = ["_build", "examples", "extensions", "pictures"]
linkcheck_ignore = ["http://localhost"]
html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"jaxcollapse {__version__}"

bibtex_bibfiles = ["../references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True

default_role = "py:obj"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_attr_annotations = False  # their shapes have stars, which are markup


def cite(app, what, name, obj, options, lines):
    """Turn `[key]_` of docstrings into citations of the bibliography."""
    lines[:] = [re.sub(r"\[(\w+)\]_", r":cite:`\1`", line) for line in lines]


def shorten(app, what, name, obj, options, signature, returned):
    """Name arrays in signatures as the source does."""
    return tuple(part and part.replace("jaxlib._jax.", "") for part in (signature, returned))


def skip(app, what, name, obj, skipped, options):
    """Leave out fields of tuples, which the class's docstring describes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Hear of members."""
    app.connect("autodoc-process-docstring", cite)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-skip-member", skip)
