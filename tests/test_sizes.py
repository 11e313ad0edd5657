"""Sizes are said once: what is broadcast, what is bounded, and what is refused before anything is compiled."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from jaxcollapse.base import Sizes
from jaxcollapse.sizes import sizes
from jaxcollapse.tree import row

NAN = float("nan")


def refuses(message):
    return pytest.raises(ValueError, match="(?m)^" + re.escape(message) + "$")


@pytest.mark.parametrize(("num_kept", "budget", "candidates"), [(500, 0.05, 10_000), (3, 1.0, 3), (10, 0.3, 33)])
def test_sizes_hold_the_rounded_number_of_candidates(num_kept, budget, candidates):
    made = sizes(num_kept, budget, 7, num_fresh=2, temperature=0.5)
    assert [float(leaf) for leaf in jax.tree.leaves(made)] == [num_kept, candidates, 2, 0.5]
    assert made.num_candidates.dtype == jnp.int32
    assert (made.max_kept, made.max_candidates, made.max_fresh) == (num_kept, candidates, 2)
    assert made.num_generations == 7


def test_candidates_are_counted_in_double_precision():
    # In single precision 0.7 / 0.1 and the like round to either side of a half.
    for budget in np.linspace(0.01, 1, 100):
        num_kept = np.arange(1, 2000)
        expected = np.round(num_kept / budget)
        assert_array_equal(sizes(num_kept, budget).num_candidates, expected)


def test_arrays_are_broadcast_and_bounds_are_the_largest():
    made = sizes(np.array([[10], [40]]), [0.5, 0.25, 0.1], 3, num_fresh=jnp.array([0, 5, 2]), temperature=1.0)
    assert {leaf.shape for leaf in jax.tree.leaves(made)} == {(2, 3)}
    assert_array_equal(made.num_kept, [[10] * 3, [40] * 3])
    assert_array_equal(made.num_candidates, [[20, 40, 100], [80, 160, 400]])
    assert_array_equal(made.num_fresh, [[0, 5, 2]] * 2)
    assert (made.max_kept, made.max_candidates, made.max_fresh, made.num_generations) == (40, 400, 5, 3)


def test_a_stack_is_mapped_over():
    made = sizes([10, 40], [0.5, 0.1])
    shares = jax.jit(jax.vmap(lambda s: s.num_kept / s.num_candidates))(made)
    np.testing.assert_allclose(shares, [0.5, 0.1])
    one = row(made, 0)
    assert isinstance(one, Sizes)
    assert (int(one.num_candidates), one.max_candidates) == (20, 400)


def test_values_compile_nothing_and_bounds_do():
    traces = []

    @jax.jit
    def traced(sizes):
        traces.append(1)
        return sizes.num_kept

    bounds = {"max_kept": 50, "max_candidates": 1000}
    for num_kept, budget in ((10, 0.5), (20, 0.1), (50, 0.05)):
        assert traced(sizes(num_kept, budget, **bounds)) == num_kept
    assert len(traces) == 1
    traced(sizes(10, 0.5, max_kept=51, max_candidates=1000))
    assert len(traces) == 2


@pytest.mark.parametrize(
    ("name", "bound", "others"),
    [
        ("num_kept", "max_kept", {"budget": 0.5, "max_candidates": 100}),
        ("budget", "max_candidates", {"num_kept": 10}),
        ("num_fresh", "max_fresh", {"num_kept": 10}),
    ],
)
def test_traced_numbers_need_their_bounds(name, bound, others):
    values = jnp.array([0.25, 0.5]) if name == "budget" else jnp.array([3, 7])

    def made(value, **bounds):
        return sizes(**{"num_kept": 10, **others, **bounds, name: value})

    with refuses(f"{name} is traced: give {bound}, the static bound that sets shapes"):
        jax.vmap(made)(values)
    found = jax.jit(jax.vmap(lambda value: made(value, **{bound: 60})))(values)
    expected = made(np.asarray(values), **{bound: 60})
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(assert_array_equal, found, expected)


def test_a_traced_temperature_needs_no_bound():
    found = jax.vmap(lambda t: sizes(10, 0.5, temperature=t))(jnp.array([0.5, 2.0]))
    assert_array_equal(found.temperature, [0.5, 2])
    assert (found.max_kept, found.max_candidates) == (10, 20)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_kept": 11, "max_kept": 10}, "num_kept: 11 are asked for, and max_kept = 10 allows no more"),
        ({"num_kept": [4, 12], "max_kept": 10}, "num_kept: 12 are asked for, and max_kept = 10 allows no more"),
        ({"budget": 0.1, "max_candidates": 49}, "budget: 50 are asked for, and max_candidates = 49 allows no more"),
        ({"num_fresh": 3, "max_fresh": 2}, "num_fresh: 3 are asked for, and max_fresh = 2 allows no more"),
    ],
)
def test_values_above_their_bounds_are_refused(knobs, message):
    with refuses(message):
        sizes(**{"num_kept": 5, **knobs})


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_kept": 0}, "num_kept = 0: must be at least 1"),
        ({"num_kept": np.array([5, 0])}, "num_kept = 0: must be at least 1"),
        ({"budget": 0.0}, "budget = 0.0: must be in (0, 1], the share of candidates kept"),
        ({"budget": [0.5, 1.5]}, "budget = 1.5: must be in (0, 1], the share of candidates kept"),
        ({"budget": NAN}, "budget = nan: must be in (0, 1], the share of candidates kept"),
        ({"num_fresh": -1}, "num_fresh = -1: must be at least 0"),
        ({"temperature": -0.5}, "temperature = -0.5: must be at least 0"),
        ({"temperature": NAN}, "temperature = nan: must be at least 0"),
        ({"num_generations": -1}, "num_generations = -1: must be at least 0"),
    ],
)
def test_values_out_of_range_are_refused(knobs, message):
    with refuses(message):
        sizes(**{"num_kept": 5, **knobs})


@pytest.mark.parametrize("name", ["num_kept", "budget", "num_fresh", "temperature"])
@pytest.mark.parametrize("value", ["0.5", print, None, [True]])
def test_what_is_no_number_is_refused(name, value):
    with refuses(f"{name} = {value!r}: must be a number, or an array of them"):
        sizes(**{"num_kept": 5, name: value})


@pytest.mark.parametrize("name", ["num_generations", "max_kept", "max_candidates", "max_fresh"])
@pytest.mark.parametrize("value", ["3", print])
def test_static_numbers_that_are_none_are_refused(name, value):
    with refuses(f"{name} = {value!r}: must be a number, or an array of them"):
        sizes(**{"num_kept": 5, name: value})


@pytest.mark.parametrize(
    "name", ["num_kept", "num_fresh", "num_generations", "max_kept", "max_candidates", "max_fresh"]
)
def test_counts_that_are_not_whole_are_refused(name):
    for value in (7.5, NAN, float("inf")):
        with refuses(f"{name} = {value!r}: must be a whole number"):
            sizes(**{"num_kept": 5, name: value})


def test_a_static_number_is_one_number():
    with refuses("num_generations = [3, 4]: must be a whole number"):
        sizes(5, num_generations=[3, 4])


def test_arrays_that_do_not_fit_each_other_are_refused():
    with pytest.raises(
        ValueError, match=r"^shapes cannot be broadcast together: {'num_kept': \(3,\), 'budget': \(2,\),"
    ):
        sizes([5, 6, 7], [0.5, 0.25])
