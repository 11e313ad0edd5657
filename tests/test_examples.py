"""Every public member has a short example in its docstring, and the examples run."""

import doctest
import importlib
import inspect
import io
import pkgutil

import pytest

import jaxcollapse
import jaxcollapse.theory

# Of these what they export is public; of those all that they define, or what is named.
EXPORTING = ["", ".data", ".exchanges", ".generators", ".metrics", ".pipeline.assess", ".pipeline.monitor"]
EXPORTING += [".scores", ".selectors", ".transport"]
DEFINING = [".features", ".gaussian.top", ".gaussian.truncation", ".memories", ".privacy", ".silos", ".targets"]
DEFINING += [".workflows", *(f".theory.{module.name}" for module in pkgutil.iter_modules(jaxcollapse.theory.__path__))]
NAMED = (
    ("jaxcollapse.network.codec", "decode"),
    ("jaxcollapse.network.codec", "encode"),
    ("jaxcollapse.network.policy", "Policy"),
    ("jaxcollapse.pipeline.select", "select"),
    ("jaxcollapse.results", "load"),
)

# Records that are returned, never made: the examples of the functions show what they hold.
RETURNED = {
    "jaxcollapse.base.Collapse": "build_collapse",
    "jaxcollapse.base.Info": "record_model",
    "jaxcollapse.base.State": "record_model",
    "jaxcollapse.gaussian.truncation.Frame": "separate",
    "jaxcollapse.memories.Buffer": "buffer_memory",
    "jaxcollapse.memories.Summary": "moments_memory",
    "jaxcollapse.pipeline.monitor.verdict.Verdict": "Monitor",
    "jaxcollapse.targets.Instance": "published_instance",
    "jaxcollapse.theory.finite_size.Correction": "linear_noise",
    "jaxcollapse.theory.finite_size.Response": "respond",
    "jaxcollapse.theory.spectrum.Spectrum": "spectrum",
}
MOST_LINES = 8


def members():
    """List functions and classes of the package by full names, as they are where they are defined."""
    found = {}
    for path in (*EXPORTING, *DEFINING):
        module = importlib.import_module(f"jaxcollapse{path}")
        for member in vars(module).values():
            home = getattr(member, "__module__", None) or ""
            ours = home.startswith("jaxcollapse") if path in EXPORTING else home == module.__name__
            if ours and (inspect.isclass(member) or inspect.isroutine(inspect.unwrap(member))):
                found[f"{home}.{member.__name__}"] = member
    for module, name in NAMED:
        found[f"{module}.{name}"] = getattr(importlib.import_module(module), name)
    return {name: member for name, member in sorted(found.items()) if not name.rpartition(".")[2].startswith("_")}


MEMBERS = members()
EXAMPLES = {name: doctest.DocTestParser().get_examples(inspect.getdoc(member)) for name, member in MEMBERS.items()}
MODULES = sorted({MEMBERS[name].__module__ for name, examples in EXAMPLES.items() if examples})


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    tests = {test.name: test for test in doctest.DocTestFinder().find(importlib.import_module(module)) if test.examples}
    report = io.StringIO()
    for test in tests.values():
        runner.run(test, out=report.write)
    assert not runner.failures, report.getvalue()
    assert {name for name, examples in EXAMPLES.items() if examples and MEMBERS[name].__module__ == module} <= {*tests}


def test_every_public_member_has_an_example():
    assert not [name for name, examples in EXAMPLES.items() if not examples and name not in RETURNED]
    assert {*RETURNED} <= {*MEMBERS}


def test_examples_are_short():
    lines = {name: sum(example.source.count("\n") for example in examples) for name, examples in EXAMPLES.items()}
    assert not {name: number for name, number in lines.items() if number > MOST_LINES}
