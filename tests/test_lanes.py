"""Sweeps in chunks of lanes, on one device and on several: equal to the vmapped run, cut to the memory, resumed."""

import functools
import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest
import xarray as xr
from several_devices import DIM, NUM_KEPT, BrokenError, axes, break_at, build, prepare, problem, small

from jaxcollapse import results
from jaxcollapse.base import Collapse, Info, Run, State
from jaxcollapse.checks import memory_needed
from jaxcollapse.generators import gaussian
from jaxcollapse.lanes import FILLED, Layout
from jaxcollapse.memories import buffer_memory
from jaxcollapse.recursion import build_collapse, run, sample_and_select
from jaxcollapse.selectors import random
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import seeds, sweep
from jaxcollapse.tree import row
from jaxcollapse.workflows import accumulate_subsample

ROOT, GIB = Path(__file__).parents[1], 2**30
MODULE = importlib.import_module("jaxcollapse.sweep")


def assert_same_bits(found, expected):
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())


def layout_of(found):
    return list(found.attrs["layout"].values())[:4]  # lanes, devices, lanes a device, chunks


@pytest.fixture
def needs(monkeypatch):
    """List what each compiled program of a sweep needs on a device, in bytes."""
    found, compile_all = [], MODULE.compile_all

    def listed(*arguments):
        compiled = compile_all(*arguments)
        found.append(memory_needed(compiled))
        return compiled

    monkeypatch.setattr(MODULE, "compile_all", listed)
    return found


def has(monkeypatch, memory):
    """Let the machine have some bytes of memory."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=int(memory)))


def test_lanes_are_the_mapped_run_bit_for_bit():
    points, width = {name: axis.values for name, axis in axes().items()}, 3

    @jax.jit
    @jax.vmap
    def mapped(budget, seed):
        return run(*build(budget, seed, **problem(), **prepare(seed, **problem())))[1]

    found = small(lanes=width)
    assert layout_of(found) == [8, 1, width, 3]
    for first in range(0, 8, width):
        at = np.unravel_index(np.minimum(np.arange(first, first + width), 7), (2, 4))
        expected = mapped(*(row(values, index) for values, index in zip(points.values(), at, strict=True)))
        for name in expected._fields:
            values = found[name].values.reshape(8, *found[name].shape[2:])[first : first + width]
            np.testing.assert_array_equal(values, getattr(expected, name)[: len(values)])


@pytest.mark.parametrize(
    ("num_lanes", "num_devices", "most", "width", "num_chunks"),
    [
        (8, 1, 8, 8, 1),
        (8, 1, 7, 4, 2),
        (7, 1, 3, 3, 3),
        (7, 1, 0, 2, 4),
        (1, 1, 9, 1, 1),
        (7, 2, 7, 4, 2),
        (9, 2, 8, 6, 2),
        (2, 2, 2, 4, 1),
        (1, 4, 4, 4, 1),
        (1000, 8, 999, 504, 2),
    ],
)
def test_chunks_are_balanced_over_devices_of_two_lanes_at_least(num_lanes, num_devices, most, width, num_chunks):
    mesh = SimpleNamespace(size=num_devices)
    layout = Layout(mesh, (num_lanes,), 0, num_lanes, 0).at_most(most)
    assert (layout.width, len(layout.chunks)) == (width, num_chunks)
    covered = [lane for low, high in layout.chunks for lane in range(low, high)]
    assert covered == list(range(num_lanes))
    assert max(high - low for low, high in layout.chunks) <= width


def test_a_sweep_that_does_not_fit_is_cut_to_the_memory_and_equal(monkeypatch, needs):
    whole, chunks = small(), small(lanes=4)
    assert layout_of(whole) == [8, 1, 8, 1]
    needed = needs[0]
    has(monkeypatch, needed / FILLED)
    assert_same_bits(small(), whole)
    needs.clear()
    has(monkeypatch, (needed - 1) / FILLED)
    cut = small()
    assert layout_of(cut) == [8, 1, 4, 2]
    assert needs[0] > needs[1]
    assert len(needs) == 2
    assert_same_bits(cut, chunks)
    small(lanes=2)
    has(monkeypatch, needs[-1])
    assert layout_of(small()) == [8, 1, 2, 4]
    has(monkeypatch, needs[-1] - 1)
    with pytest.raises(ValueError, match=r"^0\.0 GiB of memory are needed of 0\.0: lower the sizes$"):
        small()


def test_a_width_that_does_not_fit_is_refused_before_it_is_compiled(monkeypatch, needs):
    has(monkeypatch, 1000)
    for options in ({}, {"lanes": 8}):
        with pytest.raises(ValueError, match=r"^0\.0 GiB of memory are needed of 0\.0: lower the sizes$"):
            small(**options)
    assert not needs


@pytest.mark.parametrize("lanes", [0, -1, 2.5, "all"])
def test_lanes_that_are_no_number_are_refused(lanes):
    with pytest.raises(ValueError, match=r"^lanes = "):
        small(lanes=lanes)


def test_memory_on_the_device_is_flat_in_lanes_and_generations(needs):
    for num_seeds, num_generations in ((4, 60), (400, 60), (4, 6000)):
        with pytest.raises(BrokenError):
            small(num_seeds, num_generations, lanes=4, progress=break_at(0))
    assert len(set(needs)) == 1
    assert len(needs) == 3


def test_a_buffer_takes_what_its_points_take_once(needs):
    def buffered(seed, num_generations):
        keep = sample_and_select(gaussian(), random())
        collapse = build_collapse(gaussian(), keep, accumulate_subsample(buffer_memory()))
        bounds = sizes(NUM_KEPT, 0.5, num_generations)
        return Run(seed, collapse, problem()["truth"], bounds, lambda key, state, info: state.params)

    for num_generations in (60, 160):
        for width in (4, 8):
            build_ = functools.partial(buffered, num_generations=num_generations)
            with pytest.raises(BrokenError):
                sweep(build_, {"seed": seeds(8)}, lanes=width, progress=break_at(0))
    (few, more), (many, most) = np.reshape(needs, (2, 2))
    assert ((most - many) - (more - few)) / (100 * 4) == NUM_KEPT * (DIM + 1) * 4  # bytes a generation and lane


def test_a_lane_that_is_not_finite_touches_no_other():
    def scaled(scale, seed):
        fixed = problem()
        truth = fixed["truth"]._replace(mean=scale * fixed["truth"].mean)
        return build(row(axes()["budget"].values, 0), seed, truth, **prepare(seed, fixed["target"]))

    finite, spoiled = (
        sweep(scaled, {"scale": [1.0, second, 3.0], "seed": axes()["seed"]}, lanes=4) for second in (2.0, np.nan)
    )
    assert np.isnan(spoiled["mean"][1]).all()
    assert np.isfinite(finite["mean"]).all()
    for i in (0, 2):
        assert_same_bits(spoiled.isel(scale=i), finite.isel(scale=i))


@pytest.mark.parametrize("generation", [0, 3, 5, 8, 15])
def test_chunks_of_lanes_continue_bit_for_bit(tmp_path, generation):
    path, whole = tmp_path / "part.npz", small(lanes=3)
    with pytest.raises(BrokenError):
        small(lanes=3, interval=0, checkpoint=path, progress=break_at(generation))
    assert len(list(tmp_path.iterdir())) == {0: 0, 3: 1, 5: 1, 8: 2, 15: 3}[generation]
    seen = []
    resumed = small(
        lanes=None if generation else 3,
        checkpoint=path,
        progress=lambda done, total, doing: seen.append((done, total, doing)),
    )
    assert ("compiling" in {doing for *_, doing in seen}) == (generation < 15)
    assert seen[-1] == (15, 15, "running")
    assert resumed.identical(whole)


def test_a_checkpoint_of_another_width_is_refused_and_its_own_is_the_default(tmp_path):
    path = tmp_path / "part.npz"
    found = small(lanes=3, checkpoint=path)
    assert small(checkpoint=path).identical(found)
    with pytest.raises(
        ValueError, match=r"part\.npz is the checkpoint of another run, which differs in lanes, program"
    ):
        small(lanes=4, checkpoint=path)


def test_two_processes_give_what_one_device_gives_of_as_many_lanes(tmp_path):
    """As Slurm starts them; only the first writes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    slurm = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    environment = os.environ | slurm | {"PYTHONPATH": str(ROOT), "JAX_COORDINATOR_ADDRESS": address}
    command = [sys.executable, str(ROOT / "tests" / "several_processes.py"), str(tmp_path)]
    running = [
        subprocess.Popen(
            command,
            env=environment | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    said = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert f"geodesic: {tmp_path / 'geodesic.nc'}" in said[0][1]
    assert "geodesic" not in said[1][1]
    files = ["found.nc", "geodesic.nc", "part, chunk 1.npz", "part.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert results.load(tmp_path / "geodesic.nc").attrs["sweeps"]["first"] == {
        "lanes": 10, "devices": 2, "lanes_per_device": 2, "chunks": 3, "shards": 1
    }  # fmt: skip
    assert_same_bits(results.load(tmp_path / "found.nc"), small(lanes=2))


def test_a_nan_is_looked_for_and_told():
    def spoiled(scale, seed):
        def init(params, sizes):
            return State(jnp.int32(0), params, jnp.zeros(2))

        def step(key, state, sizes):
            new = jnp.where(state.generation == 2, scale, 1.0)
            return State(state.generation + 1, state.params, state.memory.at[1].set(new)), Info((), (), {})

        return Run(seed, Collapse(init, step), jnp.float32(1), sizes(1, 1.0, 5), lambda key, state, info: state.params)

    scales = {"scale": [1.0, np.nan], "seed": seeds([7, 8, 9])}
    message = r"^the state holds a NaN in memory, first in generation 3 of scale = nan, seed = 7$"
    with pytest.raises(ValueError, match=message):
        sweep(spoiled, scales, lanes=2, debug_nans=True)
    assert sweep(spoiled, scales, lanes=2).sizes["generation"] == 6
    assert sweep(spoiled, scales | {"scale": [1.0, 2.0]}, lanes=2, debug_nans=True).sizes["generation"] == 6


def test_two_devices_give_what_one_gives_of_as_many_lanes_a_device(tmp_path):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    command = [sys.executable, str(ROOT / "tests" / "several_devices.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "whole": [True, [8, 2, 4, 1]],
        "places": ["P('lanes',)"],  # of the state, as it comes and goes, and of the records
        "compiled": 1,
        "chunks": [True, [8, 2, 2, 2]],
        "padded": [True, [6, 2, 3, 1]],
        "two lanes": [True, [2, 2, 2, 1]],
        "double": [True, [8, 2, 4, 1]],
        "files": ["part, chunk 1.npz", "part.npz"],
        "refused": " is the checkpoint of another run, which differs in devices, program: remove it",
        "resumed": [True, [8, 2, 2, 2]],
        "from": [8, 10, "compiling"],
    }
