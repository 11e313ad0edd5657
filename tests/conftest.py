"""Shapes and types of the whole package are checked at run time, in tests only."""

import sys
import typing
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `experiments` and `paper_figures`
install_import_hook("jaxcollapse", "typecheck.checked")

import jax

from jaxcollapse import base

# beartype can ask whether a function keeps a protocol only where the protocol allows the question.
for member in vars(base).values():
    if getattr(member, "_is_protocol", False) and member is not typing.Protocol:
        typing.runtime_checkable(member)


@pytest.fixture
def x64():
    """Run a test in double precision."""
    with jax.enable_x64(True):
        yield
