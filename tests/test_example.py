"""The worked example: one silo collapses the run, and the monitor says so; all together do not."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "docs" / "examples" / "digits.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("digits_example", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def rows(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(example, "NUM_GENERATIONS", 2)
    return example.write_features(tmp_path, *example.load())


@pytest.mark.parametrize(("name", "statuses"), [("single", [0, 4, 4]), ("together", [0, 0, 0])])
def test_one_silo_is_told_from_all_together(example, rows, tmp_path, name, statuses, capsys):
    assert example.run(tmp_path, name, rows) == statuses
    assert (tmp_path / f"{name}.html").read_text().count("<svg") >= 2
