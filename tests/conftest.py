"""Shapes and types of the whole package are checked at run time, in tests only."""

import sys
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `experiments` and `paper_figures`
install_import_hook("jaxcollapse", "typecheck.checked")


@pytest.fixture
def x64():
    """Run a test in double precision."""
    with jax.enable_x64(True):
        yield
