import json
import os
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from jaxcollapse import results


class BrokenError(Exception):
    pass


def break_off(file):
    file.write(b"half")
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
    results.write_atomic(path, lambda file: file.write(b"new"))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_leftovers_are_those_of_the_file_alone(tmp_path):
    names = (".a.nc.x1_ab2cd", "a.nc", ".a.nc", ".a.nc.short", ".b.nc.x1_ab2cd", ".a.nc.x1_ab2cd.txt")
    for name in names:
        (tmp_path / name).touch()
    assert results.leftovers(tmp_path / "a.nc") == [tmp_path / names[0]]


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


def test_fingerprints_tell_configurations_versions_code_and_files_apart(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    configuration = {"a": 1, "b": (1, 2), "data": tmp_path / "data"}
    one = results.fingerprint(configuration)
    assert one == results.fingerprint(dict(reversed(configuration.items())))
    assert one != results.fingerprint(configuration | {"a": 2})
    (tmp_path / "data" / "x.bin").write_bytes(b"1")
    two = results.fingerprint(configuration)
    (tmp_path / "data" / "x.bin").write_bytes(b"12")
    assert len({one, two, results.fingerprint(configuration)}) == 3
    now, found = results.fingerprint({}), results.versions()
    assert {*results.PACKAGES, "jaxcollapse", "python", "device"} == set(found)
    with monkeypatch.context() as patched:
        patched.setattr(results, "versions", lambda: found | {"jax": "0.0.0"})
        assert now != results.fingerprint({})
    monkeypatch.setattr(results, "code", lambda: "other")
    assert now != results.fingerprint({})


def test_the_code_is_that_of_package_experiments_and_figures(monkeypatch, tmp_path):
    for name in ("a.py", "experiments/b.py", "notes.txt"):
        (tmp_path / "elsewhere" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "elsewhere" / name).write_text("1")
    package = tmp_path / "package"
    package.mkdir()
    (package / "linked").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(results, "__file__", str(package / "results.py"))
    read = results.code.__wrapped__
    found = [read()]
    for name in ("elsewhere/a.py", "elsewhere/experiments/b.py", "package/c.py"):
        (tmp_path / name).write_text("2")
        found.append(read())
    assert len(set(found)) == 4
    (tmp_path / "elsewhere" / "notes.txt").write_text("2")
    assert read() == found[-1]


def test_results_can_be_read_back(tmp_path):
    attributes = {
        "warnings": ["3 of these", "4 of those"],
        "summary": {"x": np.float32(0.5), "y": (1, [np.inf, np.nan])},
    }
    shown = np.arange(6, dtype=np.int16).reshape(2, 3) + 250
    arrays = {"v": (("seed", "t"), np.arange(6.0).reshape(2, 3)), "shown": (("seed", "t"), shown)}
    dataset = xr.Dataset(arrays, {"seed": [3, 9], "t": ["a", "bc", "d"]}, attributes)
    results.save(tmp_path / "a.nc", dataset)
    found = results.load(tmp_path / "a.nc")
    xr.testing.assert_equal(found, dataset)
    assert found.shown.dtype == np.int16
    assert found.attrs == {"warnings": ["3 of these", "4 of those"], "summary": {"x": 0.5, "y": [1, [None, None]]}}
    assert os.listdir(tmp_path) == ["a.nc"]


@pytest.mark.parametrize("content", [b"", b"text", "cut", "other"])
def test_what_is_no_result_is_refused(tmp_path, content):
    path = tmp_path / "a.nc"
    results.save(path, xr.Dataset({"v": ("t", np.arange(100.0))}, attrs={"a": 1}))
    if content == "cut":
        content = path.read_bytes()[:50]
    if content == "other":
        content = bytes(xr.Dataset({"v": ("t", np.arange(3.0))}, attrs={"a": "no JSON"}).to_netcdf(engine="scipy"))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.nc is no result, or a damaged one"):
        results.load(path)


def test_json_is_strict():
    tree = {1: np.nan, "a": [np.inf, np.int64(3), True, None, "text"], "b": np.array([1.5, -np.inf]), "c": jnp.ones(2)}
    found = json.dumps(results.strict(tree), allow_nan=False)
    assert json.loads(found) == {"1": None, "a": [None, 3, True, None, "text"], "b": [1.5, None], "c": [1, 1]}
