"""Documents: their examples run, notebooks too, and README is short."""

import re
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RUN = [README, *(ROOT / "docs" / name for name in ("quickstart.md", "privacy.md", "how-to/own.md", "how-to/sweeps.md"))]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*_*.md"))


def blocks(document, opening):
    return re.findall(rf"(?ms)^```{opening}\n(.*?)^```$", document.read_text())


@pytest.mark.parametrize("document", [*RUN, *NOTEBOOKS], ids=lambda path: path.stem)
def test_examples_of_documents_run(document, monkeypatch, tmp_path):
    """One after the other, as a reader copies them."""
    monkeypatch.setattr(plt, "show", lambda: None)
    monkeypatch.chdir(tmp_path)
    code, names = blocks(document, r"\{code-cell\}" if document in NOTEBOOKS else "python"), {}
    assert code
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, block in enumerate(code):
            exec(compile(block, f"{document.name}, block {number}", "exec"), names)
    plt.close("all")


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 120
    (example,) = blocks(README, "python")
    assert len([line for line in example.splitlines() if line and not line.startswith(("import", "from"))]) <= 10


def test_links_of_the_readme_lead_somewhere():
    """Those of the site's pages are checked where it is built."""
    found = [
        *re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text()),
        *re.findall(r'(?:src|srcset)="([^"]+)"', README.read_text()),
    ]
    assert len(found) > 15
    assert not [link for link in found if not (ROOT / link).exists()]


def test_names_in_documents_are_spelt_as_in_the_code():
    """Every word in backquotes that looks like a name of the code is one: of a member, an argument, a field, a file."""
    sources = [
        path
        for folder in ("jaxcollapse", "experiments", "paper_figures", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
    ]
    known = {word for path in sources for word in re.findall(r"\w+", path.read_text() + path.stem)}
    known |= {*re.findall(r"\w+", (ROOT / "pyproject.toml").read_text() + (ROOT / "references.bib").read_text())}
    pages = [README, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        (page.name, name)
        for page in pages
        if "_build" not in page.parts
        for quoted in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text())
        for name in re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", quoted)
    }
    assert len(named) > 100
    assert not sorted((page, name) for page, name in named if name not in known)
