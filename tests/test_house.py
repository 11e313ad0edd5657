"""The rules of the house: citations, directions of imports, purity, docstrings and truthful documents."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("jaxcollapse", "experiments", "paper_figures")
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}
LIBRARY = [name for name in SOURCES if name.startswith("jaxcollapse")]
DOCUMENTS = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()]

# What the modules of a package may not reach through imports, directly or by way of others.
RECURSION = ["jaxcollapse.trajectory", "jaxcollapse.sweep"]
SELECTION = ["jaxcollapse.references", "jaxcollapse.selectors", "jaxcollapse.metrics"]
FORBIDDEN = {
    "jaxcollapse": ["experiments", "paper_figures"],
    "jaxcollapse.base": ["jaxcollapse"],
    "jaxcollapse.generators": SELECTION + RECURSION,
    "jaxcollapse.transport": SELECTION + RECURSION,
    "jaxcollapse.references": RECURSION,
    "jaxcollapse.selectors": RECURSION,
    "jaxcollapse.metrics": RECURSION,
    "jaxcollapse.trajectory": ["jaxcollapse.sweep"],
    "experiments": ["paper_figures"],
}
FIGURES_MAY_IMPORT = ["jaxcollapse.analysis", "paper_figures"]

MAY_PRINT = ["jaxcollapse.cli"]
MAY_TOUCH_FILES = ["jaxcollapse.cli", "jaxcollapse.data", "jaxcollapse.results"]
FILE_MODULES = {"datetime", "io", "os", "pathlib", "pickle", "shutil", "tempfile", "time"}
FILE_CALLS = {
    "load_dataset", "loadtxt", "open", "open_dataset", "read_bytes", "read_csv", "read_text",
    "savetxt", "savez", "savez_compressed", "to_csv", "to_netcdf", "write_bytes", "write_text",
    "np.load", "np.save", "jnp.load", "jnp.save",
}  # fmt: skip


def inside(name, packages):
    return any(name == package or name.startswith(package + ".") for package in packages)


def imports(name):
    """Name the modules that a module imports, lazily or not; of this repository, down to the file."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}, line {node.lineno}: write imports in full"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in SOURCES else node.module)
    return found


def reached(name):
    found, todo = set(), [name]
    while todo:
        new = {m for m in imports(todo.pop()) if m in SOURCES} - found
        found |= new
        todo += new
    return found - {name}


def calls(name):
    """List the calls in a module: the line, and `{"x.f", "f"}` for `x.f(...)`."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            whole = ast.unparse(node.func)
            yield node.lineno, {whole, whole.rpartition(".")[2]}


def test_every_citation_has_an_entry_and_every_entry_is_cited():
    cited = {
        key
        for name, path in SOURCES.items()
        if inside(name, ["jaxcollapse", "experiments"])
        for key in re.findall(r"\[([a-z]+[12]\d{3}[a-z]*)\]", path.read_text())
    }
    entries = Counter(re.findall(r"^@\w+\{(.+),$", (ROOT / "references.bib").read_text(), re.MULTILINE))
    assert cited == set(entries)
    assert max(entries.values()) == 1


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package):
    modules = [name for name in SOURCES if inside(name, [package])]
    assert modules
    wrong = {
        f"{name} reaches {other}" for name in modules for other in reached(name) if inside(other, FORBIDDEN[package])
    }
    assert not wrong


def test_figures_import_no_simulation_code():
    wrong = {
        f"{name} imports {other}"
        for name in SOURCES
        if inside(name, ["paper_figures"])
        for other in imports(name)
        if inside(other, ["jaxcollapse", "experiments", "jax"]) and not inside(other, FIGURES_MAY_IMPORT)
    }
    assert not wrong


def test_library_does_not_print():
    wrong = [
        f"{name}, line {line}"
        for name in LIBRARY
        if not inside(name, MAY_PRINT)
        for line, names in calls(name)
        if names & {"print", "pprint", "sys.stdout.write", "sys.stderr.write"}
    ]
    assert not wrong


def test_library_touches_files_and_clocks_in_few_places():
    modules = [name for name in LIBRARY if not inside(name, MAY_TOUCH_FILES)]
    wrong = [f"{name}, line {line}" for name in modules for line, names in calls(name) if names & FILE_CALLS]
    wrong += [f"{name} imports {other}" for name in modules for other in imports(name) if inside(other, FILE_MODULES)]
    assert not wrong


def test_everything_public_has_a_docstring():
    def undocumented(scope, prefix):
        for node in scope.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node):
                    yield f"{prefix}.{node.name}"
                if isinstance(node, ast.ClassDef):
                    yield from undocumented(node, f"{prefix}.{node.name}")

    assert not [missing for name in LIBRARY for missing in undocumented(TREES[name], name)]


def test_example_of_the_readme_runs(tmp_path):
    readme = ROOT / "README.md"
    assert readme.exists()
    example = re.search(r"^```python\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    assert example, "README.md has no python block"
    done = subprocess.run(
        [sys.executable, "-c", example[1]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_documents_exist(document):
    pattern = r"\b(?:jaxcollapse|experiments|paper_figures|tests)/[a-z0-9_/]+\.py\b"
    assert not [name for name in re.findall(pattern, document.read_text()) if not (ROOT / name).exists()]
