import dataclasses
import json
import os
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from experiments.common import Settings, main
from jaxcollapse import results


class BrokenError(Exception):
    pass


def break_off(path):
    path.write_text("half")
    raise BrokenError


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(BrokenError):
        results.write_atomic(tmp_path / "a.csv", break_off)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(BrokenError):
        results.write_atomic(path, break_off)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_a_written_file_is_alone_and_readable_by_all(tmp_path):
    path = tmp_path / "a.txt"
    results.write_atomic(path, lambda p: p.write_text("new"))
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_prepare_makes_the_directory(tmp_path):
    results.prepare(tmp_path / "a" / "b", ["x.csv"], overwrite=False)
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_prepare_refuses_to_overwrite_unasked(tmp_path):
    (tmp_path / "x.csv").write_text("precious")
    with pytest.raises(FileExistsError, match=r"x\.csv exists: give --overwrite to replace it"):
        results.prepare(tmp_path, ["y.csv", "x.csv"], overwrite=False)
    results.prepare(tmp_path, ["x.csv"], overwrite=True)
    assert (tmp_path / "x.csv").read_text() == "precious"


def test_prepare_refuses_a_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OSError, match="out"):
        results.prepare(tmp_path / "out", ["x.csv"], overwrite=True)
    with pytest.raises(OSError, match="out"):
        results.prepare(tmp_path / "out" / "deeper", ["x.csv"], overwrite=True)


def test_prepare_refuses_an_unwritable_directory(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    # Permissions do not bind a superuser, so that the refusal is simulated.
    monkeypatch.setattr(results.tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match="read-only"):
        results.prepare(tmp_path, ["x.csv"], overwrite=True)
    assert list(tmp_path.iterdir()) == []


ARRAYS = [np.arange(3.0), np.int32(4), np.zeros((0, 2)), np.array([np.nan, 1e-40], np.float32)]


def test_checkpoints_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "a.npz"
    results.save_arrays(path, ARRAYS, {"data": "mark"})
    loaded = results.load_arrays(path, {"data": "mark"})
    assert len(loaded) == len(ARRAYS)
    for actual, expected in zip(loaded, ARRAYS, strict=True):
        assert_array_equal(actual, expected)
        assert actual.dtype == np.asarray(expected).dtype


def test_checkpoints_of_another_run_are_refused_with_what_differs(tmp_path, monkeypatch):
    path, identity = tmp_path / "a.npz", {"axes": "1", "data": "2", "program": "3"}
    assert results.load_arrays(path, identity) is None
    results.save_arrays(path, ARRAYS, identity)
    for changed, differs in (({"axes": "4", "program": "5"}, "axes, program"), ({"code": "6"}, "code")):
        with pytest.raises(ValueError, match=f"another run, which differs in {differs}: remove it$"):
            results.load_arrays(path, identity | changed)
    found = results.versions()
    monkeypatch.setattr(results, "versions", lambda: found | {"numpy": "0.0.0"})
    with pytest.raises(ValueError, match=r"another run, which differs in numpy: remove it$"):
        results.load_arrays(path, identity)


def test_damaged_checkpoints_are_refused(tmp_path):
    path, identity = tmp_path / "a.npz", {"data": "1"}
    results.save_arrays(path, ARRAYS, identity)
    whole = path.read_bytes()
    np.savez(tmp_path / "without_identity.npz", *ARRAYS)
    for content in (b"", b"text", whole[:100], whole[:-10], (tmp_path / "without_identity.npz").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz is no checkpoint, or a damaged one: remove it"):
            results.load_arrays(path, identity)


def test_digests_tell_shapes_types_places_and_bits_apart():
    trees = [
        {"a": np.arange(4)},
        {"b": np.arange(4)},
        {"a": np.arange(4).reshape(2, 2)},
        {"a": np.arange(4, dtype=np.int32)},
        {"a": np.arange(4) + 1},
        {"a": np.array([0.0, 1])},
        {"a": np.array([-0.0, 1])},
        {"a": jax.random.key(0)},
        {"a": jax.random.key(1)},
        {"a": None},
    ]
    assert len({results.digest(tree) for tree in trees}) == len(trees)
    assert results.digest({"a": jnp.arange(3.0)}) == results.digest({"a": np.arange(3, dtype=np.float32)})
    grid = np.arange(6).reshape(2, 3)
    assert results.digest(grid.T) == results.digest(np.ascontiguousarray(grid.T))


def test_fingerprints_tell_configurations_and_versions_apart(monkeypatch):
    one = results.fingerprint({"a": 1, "b": (1, 2)})
    assert one == results.fingerprint({"b": (1, 2), "a": 1})
    assert one != results.fingerprint({"a": 2, "b": (1, 2)})
    found = results.versions()
    assert set(results.PACKAGES) | {"python", "device"} <= set(found)
    monkeypatch.setattr(results, "versions", lambda: found | {"jax": "0.0.0"})
    assert one != results.fingerprint({"a": 1, "b": (1, 2)})


def test_json_tables_and_arrays_can_be_read_back(tmp_path):
    results.save_json(tmp_path / "a.json", {"x": np.float32(0.5), "y": [1, 2]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 0.5, "y": [1, 2]}
    table = pd.DataFrame({"name": ["a", "b"], "value": [1 / 3, 1e-20]})
    results.save_table(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), table, rtol=1e-6)
    dataset = xr.Dataset({"v": (("seed", "t"), np.arange(6.0).reshape(2, 3))}, coords={"seed": [3, 9]})
    results.save_dataset(tmp_path / "a.nc", dataset)
    with xr.open_dataset(tmp_path / "a.nc", engine="scipy") as stored:
        xr.testing.assert_equal(stored.load(), dataset)
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "a.json", "a.nc"]


def test_warnings_of_a_sweep_are_written_as_lines(tmp_path):
    dataset = xr.Dataset({"v": ("t", np.arange(3.0))}, attrs={"warnings": ["3 of these", "4 of those"]})
    results.save_dataset(tmp_path / "a.nc", dataset)
    assert dataset.attrs["warnings"] == ["3 of these", "4 of those"]
    with xr.open_dataset(tmp_path / "a.nc", engine="scipy") as stored:
        assert stored.attrs["warnings"] == "3 of these\n4 of those"


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Configuration of an experiment."""

    size: int = 1
    """Of it."""


def interrupted_once(function, out, size, monkeypatch):
    """Run an experiment of one part, and interrupt it after that; return what the part gave."""
    received = []

    def run(config, runner):
        received.append(runner.once("part", function, np.arange(2)))
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["name", "--out", str(out), "--size", size])
    with pytest.raises(SystemExit) as stopped:
        main("name", run, Config, {"quick": {}})
    return stopped.value.code, received


def test_an_interrupted_part_continues_only_under_its_own_configuration(tmp_path, monkeypatch):
    saved, save = [], results.save_arrays
    monkeypatch.setattr(results, "save_arrays", lambda *arguments: saved.append(save(*arguments)))
    for size, saves in (("2", 1), ("2", 1), ("3", 2), ("2", 2)):
        code, (found,) = interrupted_once(lambda data: 2 * data, tmp_path, size, monkeypatch)
        assert code == 130
        assert_array_equal(found, [0, 2])
        assert len(saved) == saves
    assert len(list(tmp_path.glob("name.parts/*/part.npz"))) == 2


def test_an_interrupted_part_of_other_code_is_refused(tmp_path, monkeypatch, capsys):
    interrupted_once(lambda data: 2 * data, tmp_path, "2", monkeypatch)
    code, received = interrupted_once(lambda data: 3 * data, tmp_path, "2", monkeypatch)
    assert (code, received) == (2, [])
    assert "is the checkpoint of another run, which differs in program: remove it" in capsys.readouterr().err
