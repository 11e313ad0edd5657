import json
import os
import stat

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from experiments.common import Parts
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
    results.save_arrays(path, ARRAYS, "mark")
    loaded = results.load_arrays(path, "mark")
    assert len(loaded) == len(ARRAYS)
    for actual, expected in zip(loaded, ARRAYS, strict=True):
        assert_array_equal(actual, expected)
        assert actual.dtype == np.asarray(expected).dtype


def test_checkpoints_of_another_configuration_are_ignored(tmp_path):
    path = tmp_path / "a.npz"
    assert results.load_arrays(path, "mark") is None
    results.save_arrays(path, ARRAYS, "mark")
    assert results.load_arrays(path, "other") is None


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


def test_an_interrupted_part_continues_only_under_its_own_configuration(tmp_path, monkeypatch):
    received = []

    def fake_sweep(build, axes, num_generations, chunk_size, resume):
        received.append(resume)
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.common.sweep", fake_sweep)
    results.save_arrays(tmp_path / "part.npz", [np.arange(2)], "mark")
    for mark in "mark", "changed":
        with pytest.raises(KeyboardInterrupt):
            Parts(tmp_path, mark).sweep("part", None, {}, 10)
    assert_array_equal(received[0][0], np.arange(2))
    assert received[1] is None
