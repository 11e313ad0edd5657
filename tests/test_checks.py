import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcollapse.base import Measure
from jaxcollapse.checks import (
    check_array,
    check_budget,
    check_covariance,
    check_finite,
    check_fit,
    check_measure,
    check_names,
    check_range,
    is_known,
)
from jaxcollapse.sizes import sizes
from jaxcollapse.targets import gaussian_target, isotropic_target, published_instance
from jaxcollapse.theory.exponents import kappa

NAN, INF = float("nan"), float("inf")


def refuses(message):
    return pytest.raises(ValueError, match="^" + re.escape(message))


@pytest.mark.parametrize("budget", [0.0, -0.1, 1.5, NAN, INF])
def test_budgets_outside_the_unit_interval_are_refused(budget):
    message = f"budget = {budget!r}: must be in (0, 1], the share of candidates kept"
    for check in check_budget, lambda b: sizes(10, b), lambda b: kappa(2, b):
        with refuses(message):
            check(budget)


def test_the_ends_of_ranges_are_allowed():
    check_budget(1.0)
    check_budget(1e-9)
    check_range("x", 0, low=0, high=1)
    check_range("x", 1, low=0, high=1)
    check_range("x", -1e300)


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (-1, {"low": 0}, "x = -1: must be at least 0"),
        (3, {"low": 0, "high": 2}, "x = 3: must be in [0, 2]"),
        (NAN, {"low": 0}, "x = nan: must be at least 0"),
        (3.5, {"high": 2}, "x = 3.5: must be at most 2"),
        (10**7, {"low": 0, "high": 10**6}, "x = 10000000: must be in [0, 1000000]"),
        (-1.5, {"low": 1e-6, "high": 0.5}, "x = -1.5: must be in [1e-06, 0.5]"),
    ],
)
def test_values_out_of_range_are_refused(value, limits, message):
    with refuses(message):
        check_range("x", value, **limits)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_values_that_are_not_finite_are_refused_with_their_place(bad):
    values = np.zeros((2, 3))
    values[1, 0] = values[1, 2] = bad
    with refuses("data: 2 values are not finite, the first at index (1, 0)"):
        check_finite("data", values)
    check_finite("data", np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.ones((2, 3)), "S: shape (2, 3) must be square, [d, d]"),
        (np.ones(3), "S: shape (3,) must be square, [d, d]"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "S: must be symmetric"),
        (np.diag([1.0, -2.0]), "S: smallest eigenvalue -2 must be positive"),
        (np.diag([1.0, 0.0]), "S: smallest eigenvalue 0 must be positive"),
        (np.diag([1.0, NAN]), "S: 1 values are not finite, the first at index (1, 1)"),
    ],
)
def test_matrices_that_are_no_covariance_are_refused(covariance, message):
    with refuses(message):
        check_covariance("S", covariance)


def test_unknown_names_are_refused_with_the_nearest_known():
    known = {"replace": 0, "accumulate": 1}
    check_names("workflow", ["replace", "accumulate"], known)
    with refuses("workflow 'acumulate' is not known: choose from accumulate, replace; did you mean 'accumulate'?"):
        check_names("workflow", ["replace", "acumulate"], known)
    with pytest.raises(ValueError, match=r"choose from accumulate, replace$"):
        check_names("workflow", ["zzz"], known)


def test_too_few_samples_for_a_covariance_are_refused():
    check_fit(12, 10)
    with refuses("num_kept = 11: a Gaussian in 10 dimensions needs at least 12 samples"):
        check_fit(11, 10)


@pytest.mark.parametrize("value", ["0.5", print, None, [True], np.array(["a"]), object()])
def test_what_is_no_number_is_refused(value):
    with refuses(f"x = {value!r}: must be a number, or an array of them"):
        check_array("x", value)


def test_numbers_and_arrays_of_them_are_allowed():
    for value in (1, 0.5, [1, 2], np.float32(1), np.arange(3), jnp.arange(3.0), (), [[1, 2.5]]):
        check_array("x", value)
    jax.jit(lambda x: check_array("x", x))(1.0)


def test_values_that_are_traced_are_not_known():
    known = []
    jax.jit(lambda x: known.append(is_known({"a": 1.0, "b": x})))(1.0)
    assert known == [False]
    assert is_known({"a": 1.0, "b": jnp.ones(2), "c": None})


def test_targets_are_checked():
    with refuses("location: 1 values are not finite, the first at index (0,)"):
        isotropic_target(jnp.array([NAN, 0.0]))
    with refuses("scale = 0.0: must be at least"):
        isotropic_target(jnp.zeros(2), 0.0)
    with refuses("location: 1 values are not finite"):
        gaussian_target(jnp.array([0.0, INF]), jnp.eye(2))
    with refuses("covariance: smallest eigenvalue -1 must be positive"):
        gaussian_target(jnp.zeros(2), jnp.diag(jnp.array([1.0, -1.0])))


def test_targets_whiten_what_they_are_given():
    covariance = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    factor = np.asarray(gaussian_target(jnp.ones(2), covariance).factor)
    np.testing.assert_allclose(factor.T @ factor, np.linalg.inv(covariance), rtol=1e-5)
    np.testing.assert_allclose(isotropic_target(jnp.ones(2), 4.0).factor, np.eye(2) / 4)


@pytest.mark.parametrize(("seed", "dim", "message"), [(-1, 3, "seed = -1: must be in"), (0, 1, "dim = 1: must be")])
def test_instances_are_checked(seed, dim, message):
    with refuses(message):
        published_instance(seed, dim)


def test_exponents_are_checked():
    with refuses("dim = 0: must be at least 1"):
        kappa(0, 0.5)


@pytest.mark.parametrize(
    ("points", "weights", "message"),
    [
        (np.ones((2, 3, 1)), np.ones((2, 2)), "silos: points of shape (2, 3, 1) and weights of shape (2, 2) do not"),
        (np.full((2, 3, 1), NAN), np.ones((2, 3)), "silos.points: 6 values are not finite, the first at index (0, 0, "),
        (np.ones((2, 3, 1)), np.full((2, 3), INF), "silos.weights: 6 values are not finite, the first at index (0, 0)"),
        (np.ones((2, 1, 1)), np.array([[1.0], [-1]]), "silos.weights: the least is -1, and masses must not be nega"),
        (np.ones((2, 1, 1)), np.array([[1.0], [0]]), "silos.weights[1]: the total is 0, and must be positive"),
    ],
)
def test_silos_that_are_none_are_refused(points, weights, message):
    with refuses(message):
        check_measure("silos", Measure(jnp.asarray(points), jnp.asarray(weights)))


@pytest.mark.parametrize("value", ["scott", None, [1, 2], gaussian_target])
def test_a_range_of_no_number_is_refused(value):
    # The function below the checker of types, which would speak first.
    with refuses(f"x = {value!r}: must be a number"):
        check_range.__wrapped__("x", value)


def test_targets_vary_along_an_axis():
    """Traced locations, scales and covariances are no values to check: mapped targets are those made one by one."""
    locations, scales = jnp.arange(6.0).reshape(3, 2), jnp.array([1.0, 2.0, 4.0])
    mapped = jax.vmap(isotropic_target)(locations, scales)
    np.testing.assert_allclose(mapped.factor, np.eye(2) / np.asarray(scales)[:, None, None])
    covariances = jnp.array([[[2.0, 0.5], [0.5, 1.0]]] * 3) * scales[:, None, None]
    mapped = jax.vmap(gaussian_target)(locations, covariances)
    np.testing.assert_array_equal(mapped.location, locations)
    found = np.swapaxes(mapped.factor, 1, 2) @ mapped.factor
    np.testing.assert_allclose(found, np.linalg.inv(np.asarray(covariances, np.float64)), rtol=1e-5)
