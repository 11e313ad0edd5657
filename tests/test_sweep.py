import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal
from oracle import random_problem

from jaxcollapse import results
from jaxcollapse.base import Measure, Moments, Run, Target
from jaxcollapse.gaussian.top import top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.measures import uniform_measure
from jaxcollapse.memories import buffer_memory, moments_memory
from jaxcollapse.recursion import build_collapse, run, sample_and_select
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import random, top
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis, along, seeds, sweep
from jaxcollapse.tree import row
from jaxcollapse.workflows import accumulate, fresh_mix, replace

NUM_KEPT, DIM, BUDGETS = 12, 2, (0.2, 0.5)
MEAN, COVARIANCE, LOCATION, FACTOR = map(jnp.float32, random_problem(0, DIM))
TRUTH, TARGET = Moments(jnp.float32(1), MEAN, COVARIANCE), Target(LOCATION, FACTOR)


class BrokenError(Exception):
    pass


def refuses(message):
    return pytest.raises(ValueError, match="^" + re.escape(message))


def record(key, state, info):
    return {"model": state.params, "mass": info.kept.weights.sum()}


NEAREST = top(mahalanobis(TARGET))


def simulation(seed, bounds, *, select=NEAREST, record=record):
    collapse = build_collapse(gaussian(), sample_and_select(gaussian(), select), accumulate(moments_memory()))
    return Run(seed, collapse, TRUTH, bounds, record)


def small(num_generations=6, *, budgets=BUDGETS, num_seeds=2, key=3, record=record, target=TARGET, **options):
    """Sweep a small simulation over budgets and seeds."""
    grid = sizes(NUM_KEPT, budgets, num_generations)

    def build(budget, seed, target):
        return simulation(seed, budget, select=top(mahalanobis(target)), record=record)

    axes = {"budget": Axis(budgets, grid), "seed": seeds(num_seeds, key)}
    return sweep(build, axes, fixed={"target": target}, **options)


def assert_same_bits(actual, expected):
    xr.testing.assert_identical(actual, expected)
    for name in expected:
        assert actual[name].dtype == expected[name].dtype


def break_at(generation, error=BrokenError):
    """Make a progress function that raises once so many generations are done."""

    def progress(done, total, doing):
        if doing == "running" and done == generation:
            raise error

    return progress


def test_every_point_is_the_run_alone():
    found, bounds = small(4), sizes(NUM_KEPT, BUDGETS, 4)
    for i, budget in enumerate(BUDGETS):
        for j, key in enumerate(seeds(2, 3).values):
            _, alone = jax.jit(lambda key, b: run(*simulation(key, b)))(key, row(bounds, i))
            at = found.sel(budget=budget).isel(seed=j)
            np.testing.assert_allclose(at["model.mean"], alone["model"].mean, rtol=1e-5)
            np.testing.assert_allclose(at["mass"], alone["mass"])


def test_results_have_labelled_dimensions():
    def build(rate, kind, seed):
        return simulation(seed, sizes(NUM_KEPT, 0.5, 2), record=lambda *_: {"pair": jnp.ones(2), "sum": rate + kind})

    axes = {"rate": [0.5, 1.0, 2.0], "kind": Axis(["near", "far"], jnp.arange(2.0)), "seed": seeds([7, 9])}
    found = sweep(build, axes, dims={"pair": ["side"]}, coords={"side": ["left", "right"]})
    assert_array_equal(found["sum"].isel(seed=0, generation=1), [[0.5, 1.5], [1, 2], [2, 3]])
    assert found.pair.dims == ("rate", "kind", "seed", "generation", "side")
    assert found.pair.shape == (3, 2, 2, 3, 2)
    for name, labels in {"rate": [0.5, 1, 2], "kind": ["near", "far"], "side": ["left", "right"]}.items():
        assert_array_equal(found[name], labels)
    assert_array_equal(found.seed, [7, 9])
    assert_array_equal(found.generation, range(3))
    assert found.attrs["warnings"] == []


def test_records_that_are_no_dictionary_are_named_by_their_fields():
    axes, bounds = {"seed": seeds(2)}, sizes(NUM_KEPT, 0.5, 2)
    moments = sweep(lambda seed: simulation(seed, bounds, record=lambda key, state, info: state.params), axes)
    assert {name: v.dims[2:] for name, v in moments.items()} == {
        "mass": (),
        "mean": ("mean_0",),
        "covariance": ("covariance_0", "covariance_1"),
    }
    bare = sweep(lambda seed: simulation(seed, bounds, record=lambda key, state, info: state.params.mass), axes)
    assert list(bare) == ["record"]
    assert bare.record.dims == ("seed", "generation")


def test_axes_that_do_not_fit_their_labels_are_refused():
    def build(**point):
        raise BrokenError

    with refuses("axis 'seed': 2 labels do not fit values stacked [(3,)]"):
        sweep(build, {"seed": Axis([1, 2], jnp.arange(3))})
    with refuses("axis 'seed': 2 labels do not fit values stacked [(2,), (3,)]"):
        sweep(build, {"seed": Axis([1, 2], (jnp.arange(2), jnp.arange(3)))})
    with refuses("axis 'seed': 1 labels do not fit values stacked [()]"):
        sweep(build, {"seed": Axis([1], jnp.ones(()))})
    with refuses("axis 'seed': must be numbers, or an Axis of labels and values"):
        sweep(build, {"seed": [True, False]})


def test_the_key_of_a_seed_depends_on_its_label_alone():
    labels, keys = seeds([4, 0, 2], 5)
    assert_array_equal(labels, [4, 0, 2])
    assert_array_equal(seeds(5, 5).labels, range(5))
    assert (keys == seeds(5, 5).values[jnp.array([4, 0, 2])]).all()
    assert (keys != seeds([4, 0, 2], 6).values).all()


def test_seeds_that_are_none_are_refused():
    for wrong in (0, [], [0.5], [[1, 2]]):
        with refuses(f"seeds = {wrong!r}: must be a number of them, at least 1, or a list of integers"):
            seeds(wrong)


def test_datasets_are_laid_side_by_side_with_their_warnings():
    def dataset(x, t, **attributes):
        return xr.Dataset({"x": ("t", x)}, {"t": t}, attributes)

    both = along("kind", {"near": dataset([1.0, 2], [0, 1]), "far": dataset([3.0, 4], [0, 1])})
    assert both.x.dims == ("kind", "t")
    assert_array_equal(both.x.sel(kind="far"), [3, 4])
    lacking = along("num_kept", {5: dataset([1.0], [0], warnings=["one", "two"]), 7: dataset([2.0], [1])})
    assert lacking.attrs == {"warnings": ["5: one", "5: two"]}
    assert_array_equal(lacking.num_kept, [5, 7])
    assert_array_equal(lacking.x, [[1, np.nan], [np.nan, 2]])


def test_what_is_prepared_is_evaluated_once_and_reaches_build(tmp_path):
    evaluated = []

    def prepare(seed, scale, data):
        jax.debug.callback(lambda *_: evaluated.append(1), scale, jax.random.key_data(seed))
        return {"location": scale * data.mean(axis=0), "drawn": jax.random.normal(seed)}

    def build(seed, scale, data, location, drawn):
        # Were it not prepared, what is written in a generation would be evaluated in each.
        return simulation(seed, sizes(NUM_KEPT, 0.5, 6), record=lambda *_: {"location": location, "drawn": drawn})

    data, axes = jnp.arange(8.0).reshape(4, 2), {"scale": [1.0, 3.0, 5.0], "seed": seeds(2)}
    found = sweep(build, axes, fixed={"data": data}, prepare=prepare, checkpoint=tmp_path / "part.npz", interval=0)
    jax.effects_barrier()
    assert len(evaluated) == 6  # points, not generations or chunks
    expected = np.array([1.0, 3, 5])[:, None, None, None] * np.asarray(data.mean(axis=0))
    assert_array_equal(found.location, np.broadcast_to(expected, (3, 2, 7, 2)))
    drawn = jax.vmap(jax.random.normal)(axes["seed"].values)
    np.testing.assert_allclose(found.drawn, np.broadcast_to(drawn[:, None], (3, 2, 7)), rtol=1e-6)


def test_fixed_and_prepared_arrays_are_arguments_of_the_program():
    received = []

    def build(seed, data, select, prepared):
        received.extend([data, select.score.target.factor, prepared])
        return simulation(seed, sizes(NUM_KEPT, 0.5, 2), select=select)

    fixed = {"data": np.ones((1000, DIM), np.float32), "select": NEAREST}
    sweep(build, {"seed": seeds(2)}, fixed=fixed, prepare=lambda seed, data, select: {"prepared": data.sum(axis=0)})
    assert received
    assert all(isinstance(value, jax.core.Tracer) for value in received)


@pytest.mark.parametrize("num_generations", [0, 5])
def test_a_sweep_in_chunks_is_the_sweep_bit_for_bit_and_says_what_it_does(num_generations):
    seen = []
    chunks = small(num_generations, interval=0, progress=lambda *at: seen.append(at))
    assert_same_bits(chunks, small(num_generations))
    running = [(done, num_generations, "running") for done in (0, *range(num_generations + 1))]
    assert seen == [(0, 0, "tracing"), (0, num_generations, "compiling"), *running]
    assert chunks["model.mean"].shape == (2, 2, num_generations + 1, DIM)


def test_chunks_grow_until_they_fill_the_interval():
    seen = []
    grown = small(120, interval=1e6, progress=lambda done, *_: seen.append(done))
    assert_same_bits(grown, small(120))
    assert seen == [0, 0, 0, 0, 4, 20, 70, 120]  # four times as many each, and 50 at most


@pytest.mark.parametrize("generation", [0, 1, 6])
def test_an_interrupted_sweep_continues_bit_for_bit(tmp_path, generation):
    path, whole = tmp_path / "part.npz", small()
    with pytest.raises(BrokenError):
        small(interval=0, checkpoint=path, progress=break_at(generation))
    seen = []
    resumed = small(interval=0, checkpoint=path, progress=lambda done, total, doing: seen.append((doing, done)))
    assert [done for doing, done in seen if doing == "running"] == [0] * (generation == 0) + list(range(generation, 7))
    assert_same_bits(resumed, whole)
    seen.clear()
    assert_same_bits(small(checkpoint=path, progress=lambda done, total, doing: seen.append(doing)), whole)
    assert seen == ["tracing", "running"]


def test_a_sweep_that_the_user_interrupts_saves_what_is_done(tmp_path):
    path, seen = tmp_path / "part.npz", []
    with pytest.raises(KeyboardInterrupt):
        small(120, interval=1e6, checkpoint=path, progress=break_at(70, KeyboardInterrupt))
    small(120, checkpoint=path, progress=lambda done, total, doing: seen.append(done))
    assert seen[1] == 70


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "other arrays"])
def test_a_damaged_checkpoint_is_set_aside_and_computed_again(tmp_path, damage):
    path, whole = tmp_path / "part.npz", small(checkpoint=tmp_path / "part.npz")
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 1
    path.write_bytes({"empty": b"", "cut": content[:-10]}.get(damage, content))
    if damage == "other arrays":
        np.savez(path, np.zeros(3))
    broken = path.read_bytes()
    with pytest.warns(UserWarning, match=r"part\.npz is damaged: set aside as part\.npz\.damaged, computed again$"):
        assert_same_bits(small(checkpoint=path), whole)
    assert (tmp_path / "part.npz.damaged").read_bytes() == broken
    assert_same_bits(small(checkpoint=path), whole)


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"budgets": (0.2, 0.4)}, "budget"),
        ({"num_seeds": 3}, "seed"),
        ({"key": 4}, "seed"),
        ({"target": TARGET._replace(location=LOCATION + 1)}, "target"),
        ({"record": lambda key, state, info: {"model": state.params, "mass": 2 * info.kept.weights.sum()}}, "program"),
        ({"num_generations": 8}, "generations, program"),
    ],
)
def test_a_checkpoint_of_another_sweep_is_refused(tmp_path, changed, differs):
    path = tmp_path / "part.npz"
    small(checkpoint=path)
    before = path.read_bytes()
    with refuses(f"{path} is the checkpoint of another run, which differs in {differs}: remove it"):
        small(checkpoint=path, **changed)
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", ["budget", "target of a closure", "target of a function"])
def test_a_checkpoint_of_other_captured_values_is_refused(tmp_path, change):
    path = tmp_path / "part.npz"

    def captured(budget, location):
        score = mahalanobis(TARGET._replace(location=location))
        select = top(score if change == "target of a closure" else lambda key, pool: score(key, pool))
        bounds = dataclasses.replace(sizes(NUM_KEPT, 0.2, 4), num_candidates=jnp.int32(round(NUM_KEPT / budget)))
        sweep(lambda seed: simulation(seed, bounds, select=select), {"seed": seeds(2)}, checkpoint=path)

    captured(0.2, LOCATION)
    captured(0.2, LOCATION)
    with refuses(f"{path} is the checkpoint of another run, which differs in program"):
        captured(*((0.5, LOCATION) if change == "budget" else (0.2, LOCATION + 1)))


def test_a_checkpoint_of_another_version_is_refused(tmp_path, monkeypatch):
    path, found = tmp_path / "part.npz", results.versions()
    small(checkpoint=path)
    monkeypatch.setattr(results, "versions", lambda: found | {"jax": "0.0.0"})
    with refuses(f"{path} is the checkpoint of another run, which differs in jax: remove it"):
        small(checkpoint=path)


def test_a_sweep_is_traced_twice_whatever_its_length(tmp_path):
    traces = []

    def build(budget, seed, num_generations):
        traces.append(1)
        return simulation(seed, sizes(NUM_KEPT, budget, num_generations, max_candidates=60))

    def traced(num_seeds, budgets, num_generations, **options):
        traces.clear()
        axes = {"budget": budgets, "seed": seeds(num_seeds)}
        found = sweep(functools.partial(build, num_generations=num_generations), axes, interval=0, **options)
        assert found.mass.shape == (len(budgets), num_seeds, num_generations + 1)
        assert_array_equal(found.mass[..., 1:], np.full((len(budgets), num_seeds, num_generations), NUM_KEPT))
        return len(traces)

    assert traced(2, (0.2,), 2) == 2  # the start, and the chunk
    assert traced(256, (0.2, 0.25, 0.5, 1.0), 3) == 2
    assert traced(2, (0.2, 0.5), 12, checkpoint=tmp_path / "a.npz", progress=lambda *_: None) == 2
    assert traced(2, (0.2, 0.5), 12, checkpoint=tmp_path / "a.npz") == 2


def warned(build, axes):
    """Run a sweep, and require its warnings to be Python warnings as well."""
    with pytest.warns(UserWarning) as caught:  # noqa: PT030
        found = sweep(build, axes)
    assert [str(warning.message) for warning in caught] == found.attrs["warnings"]
    return found.attrs["warnings"]


def test_points_that_find_no_room_are_warned_of():
    # A memory with room for two generations less than are run.
    memory = buffer_memory()
    short = memory._replace(init=lambda kept, sizes, num_generations: memory.init(kept, sizes, num_generations - 2))

    def build(seed):
        keep = sample_and_select(gaussian(), random())
        return Run(seed, build_collapse(gaussian(), keep, accumulate(short)), TRUTH, sizes(NUM_KEPT, 0.5, 5), record)

    message = f"{3 * 2 * NUM_KEPT} points that found no room in the memory, in 3 of 3 runs, first in generation 4"
    assert warned(build, {"seed": seeds(3)}) == [message]


def test_traced_sizes_beyond_their_bounds_are_warned_of():
    def build(num_kept, seed):
        return simulation(seed, sizes(num_kept, 0.5, 3, max_kept=12, max_candidates=26))

    found = warned(build, {"num_kept": [10, 12, 14], "seed": seeds(2)})
    what = ("num_kept beyond max_kept", "num_candidates beyond max_candidates", "candidates short of num_kept")
    assert set(found) == {f"12 {problem}, in 2 of 6 runs, first in generation 1" for problem in what}


def test_a_shortage_of_kept_candidates_is_warned_of():
    def build(missing, seed):
        def keep(key, params, sizes):
            points = gaussian().sample(key, params, sizes.max_kept)
            return Measure(points, (jnp.arange(sizes.max_kept) < sizes.num_kept - missing).astype(points.dtype))

        collapse = build_collapse(gaussian(), keep, replace(moments_memory()))
        return Run(seed, collapse, TRUTH, sizes(NUM_KEPT, 0.5, 4), record)

    message = "24 candidates short of num_kept, in 2 of 4 runs, first in generation 1"
    assert warned(build, {"missing": [0, 3], "seed": seeds(2)}) == [message]


def test_scores_that_are_not_finite_are_warned_of():
    def build(num_spoiled, seed):
        def spoiled(key, pool):
            return jnp.where(jnp.arange(len(pool.weights)) < num_spoiled, jnp.nan, mahalanobis(TARGET)(key, pool))

        return simulation(seed, sizes(NUM_KEPT, 0.5, 4), select=top(spoiled))

    message = "20 scores that are not finite, in 1 of 2 runs, first in generation 1"
    assert warned(build, {"num_spoiled": [0, 5], "seed": seeds(1)}) == [message]


def test_the_direct_sampler_and_fresh_data_warn_of_nothing():
    def fresh(key, sizes):
        return uniform_measure(gaussian().sample(key, TRUTH, 4))

    def build(seed):
        collapse = build_collapse(gaussian(), top_of_gaussian(TARGET), fresh_mix(buffer_memory()), fresh)
        return Run(seed, collapse, TRUTH, sizes(NUM_KEPT, 0.2, 3, num_fresh=4), record)

    assert sweep(build, {"seed": seeds(2)}).attrs["warnings"] == []


@pytest.mark.parametrize("name", ["generation", "known"])
def test_an_axis_whose_name_is_taken_is_refused(name):
    with refuses(f"axes: ['{name}'] are taken, by fixed or by the sweep itself"):
        sweep(lambda **point: None, {name: [1.0, 2.0]}, fixed={"known": jnp.ones(2)})
