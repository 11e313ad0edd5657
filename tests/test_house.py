"""The rules of the house: citations, directions of imports, purity, docstrings, registries and truthful documents."""

import ast
import importlib
import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

import jaxcollapse
from jaxcollapse.base import Exchange, Generator, Memory, Metric, Workflow

ROOT = Path(__file__).parents[1]
INSTALLED_INSIDE = ("experiments", "paper_figures")  # as links in the package say
SOURCES = {
    "jaxcollapse." * (folder in INSTALLED_INSIDE)
    + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("jaxcollapse", "benchmarks", *INSTALLED_INSIDE)
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not {path.parent, *path.parents} & {ROOT / "jaxcollapse" / name for name in INSTALLED_INSIDE}
}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}
LIBRARY = [
    name
    for name in SOURCES
    if name.startswith("jaxcollapse") and name.split(".")[1:2] not in [[folder] for folder in INSTALLED_INSIDE]
]
DOCUMENTS = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()]

# From the ground up. A module imports from its own package and from lower layers; the rest of its layer is not there.
LAYERS = (
    "analysis linalg prng tree version",
    "base",
    "checks",
    "measures",
    "classifier gaussian lanes memories privacy results silos sizes targets workflows",
    "data generators history transport",
    "exchanges features metrics",
    "scores",
    "selectors",
    "verifiers",
    "recursion",
    "record sweep theory",
    "arguments",
    "simulate",
    "gain",
    "jaxcollapse",
    "experiments paper_figures",
    "network",
    "pipeline",
    "benchmarks command",
)
HEIGHT = {package: height for height, packages in enumerate(LAYERS) for package in packages.split()}
FIGURES_MAY_IMPORT = ["jaxcollapse.analysis", "jaxcollapse.results", "jaxcollapse.paper_figures"]

MAY_TOUCH_FILES = [
    "jaxcollapse.data",
    "jaxcollapse.results",
    "jaxcollapse.command",
    "jaxcollapse.network",
    "jaxcollapse.pipeline",
]
MAY_TELL_TIME = ["jaxcollapse.network", "jaxcollapse.sweep"]
FILE_MODULES = {"datetime", "io", "os", "pickle", "shutil", "tempfile", "time"}
FILE_CALLS = {
    "load_dataset", "loadtxt", "open", "open_dataset", "read_bytes", "read_csv", "read_text",
    "savetxt", "savez", "savez_compressed", "to_csv", "to_netcdf", "write_bytes", "write_text",
    "np.load", "np.save", "jnp.load", "jnp.save",
    "exists", "glob", "iterdir", "mkdir", "rglob", "rmdir", "touch", "unlink",
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


def package(name):
    """Name the package of a module: within the library that below `jaxcollapse`, elsewhere the whole."""
    top, *rest = name.split(".")
    return rest[0] if top == "jaxcollapse" and rest else top


def calls(name):
    """List the calls in a module: the line, and `{"x.f", "f"}` for `x.f(...)`."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            whole = ast.unparse(node.func)
            yield node.lineno, {whole, whole.rpartition(".")[2]}


def test_every_citation_has_an_entry_and_every_entry_is_cited():
    cited = {key for path in SOURCES.values() for key in re.findall(r"\[([a-z]+[12]\d{3}[a-z]*)\]", path.read_text())}
    entries = Counter(re.findall(r"^@\w+\{(.+),$", (ROOT / "references.bib").read_text(), re.MULTILINE))
    assert cited == set(entries)
    assert max(entries.values()) == 1


def test_imports_point_down():
    wrong = {
        f"{name} imports {other}"
        for name in SOURCES
        for other in imports(name)
        if other in SOURCES and package(other) != package(name) and HEIGHT[package(other)] >= HEIGHT[package(name)]
    }
    assert not wrong


def test_figures_import_no_simulation_code():
    wrong = {
        f"{name} imports {other}"
        for name in SOURCES
        if inside(name, ["jaxcollapse.paper_figures"])
        for other in imports(name)
        if inside(other, ["jaxcollapse", "jax"]) and not inside(other, FIGURES_MAY_IMPORT)
    }
    assert not wrong


def test_library_does_not_print():
    wrong = [
        f"{name}, line {line}"
        for name in LIBRARY
        for line, names in calls(name)
        if names & {"print", "pprint", "sys.stdout.write", "sys.stderr.write"}
    ]
    assert not wrong


def test_library_touches_files_and_clocks_in_few_places():
    modules = [name for name in LIBRARY if not inside(name, MAY_TOUCH_FILES)]
    wrong = [f"{name}, line {line}" for name in modules for line, names in calls(name) if names & FILE_CALLS]
    wrong += [
        f"{name} imports {other}"
        for name in modules
        for other in imports(name)
        if inside(other, FILE_MODULES) and (other != "time" or not inside(name, MAY_TELL_TIME))
    ]
    assert not wrong


def test_everything_public_has_a_docstring():
    classes = [node for name in LIBRARY for node in ast.walk(TREES[name]) if isinstance(node, ast.ClassDef)]
    documented = {c.name: {m.name for m in c.body if hasattr(m, "name") and ast.get_docstring(m)} for c in classes}

    def undocumented(scope, prefix, inherited=frozenset()):
        for node in scope.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                if not ast.get_docstring(node) and node.name not in inherited:
                    yield f"{prefix}.{node.name}"
                if isinstance(node, ast.ClassDef):
                    bases = [documented.get(ast.unparse(base), set()) for base in node.bases]
                    yield from undocumented(node, f"{prefix}.{node.name}", set().union(*bases))

    assert not [missing for name in LIBRARY for missing in undocumented(TREES[name], name)]


def made(factory):
    """Tell what a factory makes: of a class its instances, of a function what its annotation says."""
    return factory if isinstance(factory, type) else inspect.signature(factory).return_annotation


def makes(kind):
    return lambda factory: isinstance(made(factory), type) and issubclass(made(factory), kind)


def called_with(*names):
    def belongs(factory):
        call = vars(made(factory)).get("__call__") if isinstance(made(factory), type) else None
        return call is not None and [*inspect.signature(call).parameters][1:] == [*names]

    return belongs


def is_metric(function):
    """Tell a metric, or a factory of metrics that needs numbers alone."""
    parameters = inspect.signature(function).parameters
    needed = {parameter.annotation for parameter in parameters.values() if parameter.default is parameter.empty}
    return [*parameters] == ["key", "generated", "truth"] or (made(function) is Metric and needed <= {int, float})


REGISTRIES = {
    "generators": (makes(Generator), jaxcollapse.GENERATORS),
    "memories": (makes(Memory), jaxcollapse.MEMORIES),
    "workflows": (makes(Workflow), jaxcollapse.WORKFLOWS),
    "exchanges": (makes(Exchange), jaxcollapse.EXCHANGES),
    "scores": (called_with("key", "pool"), jaxcollapse.SCORES),
    "selectors": (called_with("key", "pool", "sizes"), jaxcollapse.SELECTORS),
    "metrics": (is_metric, jaxcollapse.METRICS | jaxcollapse.POINT_METRICS),
}


@pytest.mark.parametrize("where", REGISTRIES)
def test_every_factory_is_in_its_registry(where):
    """A factory is a lower-case callable, defined in the package, that makes a member; by itself, name or product."""
    belongs, registry = REGISTRIES[where]
    modules = [importlib.import_module(name) for name in LIBRARY if package(name) == where]
    factories = {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if name.islower() and name[0] != "_" and callable(value) and value.__module__ == module.__name__
    }
    members = {name: factory for name, factory in factories.items() if belongs(factory)}
    registered = [*registry.values(), *map(made, registry.values())]
    assert members
    assert not [name for name, factory in members.items() if name not in registry and factory not in registered]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_documents_exist(document):
    pattern = r"\b(?:jaxcollapse|experiments|benchmarks|paper_figures|tests)/[a-z0-9_/]+\.py\b"
    assert not [name for name in re.findall(pattern, document.read_text()) if not (ROOT / name).exists()]
