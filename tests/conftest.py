"""Shapes and types are checked whenever a function of the package is called, in tests only."""

import gc
import sys
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]
# These take a user's arrays on the host, and say themselves what is wrong with them.
FIRST_TO_SEE_INPUT = [
    "arguments",
    "command",
    "data",
    "experiments",
    "network",
    "paper_figures",
    "recursion",
    "silos",
    "simulate",
    "sizes",
    "sweep",
]

gc.set_threshold(100_000)  # tracing makes many objects that stay: looking through them takes an eighth of its time
sys.path.insert(0, str(ROOT))  # for `experiments` and `paper_figures`
modules = {f"jaxcollapse.{path.stem}" for path in (ROOT / "jaxcollapse").glob("[!_]*")}
install_import_hook(sorted(modules - {f"jaxcollapse.{name}" for name in FIRST_TO_SEE_INPUT}), "typecheck.checked")


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Free the memory of a module's programs: those of all modules take gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def x64():
    """Run a test in double precision."""
    with jax.enable_x64(True):
        yield
