"""One call that simulates: what it returns, what theory says of it, and what it refuses before anything is compiled."""

import collections
import re

import fuzz_doors
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from oracle import assert_unbiased

import jaxcollapse as jc
from jaxcollapse.generators import categorical, gaussian, gaussian_mixture, kernel_density
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import keep_all, random, top
from jaxcollapse.theory.closed_forms import CLOSED_FORMS
from jaxcollapse.workflows import accumulate, fresh_mix, replace

TRUTH = jc.Moments(np.float32(1), np.zeros(3, np.float32), np.eye(3, dtype=np.float32))
TARGET = jc.isotropic_target(np.full(3, 0.5, np.float32))
TRUTH_2D = jc.Moments(np.float32(1), np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
SELECT = top(mahalanobis(TARGET))
SMALL = {"num_kept": 20, "num_generations": 2}


def points(size=60, dim=2):
    return np.random.default_rng(0).standard_normal((size, dim))


def refuses(message):
    return pytest.raises(ValueError, match="^" + re.escape(message))


def test_a_run_is_the_same_as_its_composition_by_hand():
    found = jc.simulate(gaussian(), SELECT, accumulate, TRUTH, num_kept=20, budget=0.2, num_generations=3, seeds=[7])

    def by_hand(key):
        workflow = accumulate(jc.moments_memory())
        collapse = jc.build_collapse(gaussian(), jc.sample_and_select(gaussian(), SELECT), workflow)
        record = jc.record_model({"trace_ratio": jc.METRICS["trace_ratio"]}, TRUTH)
        return jc.run(key, collapse, TRUTH, jc.sizes(20, 0.2, 3), record)[1]["trace_ratio"]

    expected = jax.jit(by_hand)(jax.random.fold_in(jax.random.key(0), 7))
    assert_allclose(found.trace_ratio.sel(seed=7), expected, rtol=1e-5)


def test_dimensions_are_those_of_which_several_are_given():
    found = jc.simulate("gaussian", "random", "replace", TRUTH, num_kept=[10, 20], budget=0.5, num_generations=2)
    assert found.trace_ratio.dims == ("num_kept", "seed", "generation")
    found = jc.simulate("gaussian", "random", "replace", TRUTH, budget=[0.5, 0.25], seeds=3, **SMALL)
    assert found.trace_ratio.dims == ("budget", "seed", "generation")
    assert_array_equal(found.budget, [0.5, 0.25])
    assert_array_equal(found.generation, [0, 1, 2])
    assert found.attrs["warnings"] == []


def test_each_budget_and_count_is_what_it_is_alone():
    both = jc.simulate("gaussian", SELECT, "accumulate", TRUTH, num_kept=[10, 20], budget=[0.5, 0.2], num_generations=2)
    # Alone the pool has another static bound, and so other draws: compare what does not depend on it.
    assert_array_equal(both.trace_ratio.isel(generation=0), np.ones((2, 2, 1)))
    assert (both.trace_ratio.isel(generation=2, budget=1) < both.trace_ratio.isel(generation=2, budget=0)).all()


def problem_of(workflow):
    """Make data to start from, and other arguments."""
    arguments = {"num_kept": 400, "budget": 0.5, "num_generations": 4, "metrics": ("trace_ratio", "mean_error")}
    arguments |= {"num_fresh": 100} if workflow == "fresh_mix" else {}
    return np.random.default_rng(1).standard_normal((4000, 3)).astype(np.float32), arguments


@pytest.mark.parametrize("workflow", jc.WORKFLOWS)
def test_prediction_without_selection_is_the_closed_form(workflow):
    start, arguments = problem_of(workflow)
    predicted = jc.predict("gaussian", "random", workflow, start, **arguments)
    expected = CLOSED_FORMS[workflow](400, 4, *[100][: workflow == "fresh_mix"])
    assert predicted.trace_ratio.dims == ("generation",)
    assert_allclose(predicted.trace_ratio, expected, rtol=1e-12)
    assert_allclose(predicted.mean_error, (1 - expected) * np.trace(np.cov(start.T, ddof=0)), rtol=1e-5)


@pytest.mark.parametrize("workflow", jc.WORKFLOWS)
def test_prediction_is_what_many_seeds_average_to(workflow):
    start, arguments = problem_of(workflow)
    simulated = jc.simulate("gaussian", SELECT, workflow, start, seeds=64, **arguments)
    predicted = jc.predict("gaussian", SELECT, workflow, start, **arguments)
    assert predicted.trace_ratio.dims == ("generation",)
    assert predicted.trace_ratio.dtype == np.float64
    last = simulated.trace_ratio.isel(generation=-1)
    error = float(last.std("seed", ddof=1)) / 8
    # The mean field's own error is of the order 1 / n: a fifth of it is allowed for.
    gap = abs(float(last.mean("seed") - predicted.trace_ratio[-1])) - 0.2 / 400
    assert_unbiased(np.array([max(gap, 0) / error]))


def test_point_metrics_are_taken_of_samples():
    found = jc.simulate(
        kernel_density(60, 0.1), "random", "accumulate_subsample", points(), metrics=("recall", "frechet"),
        num_scored=50, **SMALL,
    )  # fmt: skip
    assert found.recall.dims == ("seed", "generation")
    assert (found.recall > 0.3).all()


def test_silos_are_arrays_of_any_size_and_verifiers_names():
    x = points(120)
    silos = [x[:30], x[30:100], x[100:]]
    found = jc.simulate("gaussian", "scheme_ii", "replace", x, silos=silos, budget=0.25, **SMALL)
    assert np.isfinite(found.trace_ratio).all()
    assert (found.trace_ratio.isel(generation=-1) < 1).all()


def test_the_key_is_of_what_a_verifier_draws_as_well():
    silos = points(200).reshape(2, 100, 2)
    means = [
        jc.simulate("gaussian", "private_tilt", "replace", TRUTH_2D, silos=silos, key=key, budget=0.25, **SMALL)
        for key in (0, 0, 1)
    ]
    first, again, other = (found.trace_ratio.values for found in means)
    assert_array_equal(first, again)
    assert (first[:, 1:] != other[:, 1:]).all()
    goals = [jc.arguments.select_of("private_tilt", silos, jax.random.key(key)).score.goal for key in (0, 1)]
    assert (goals[0] != goals[1]).any()


def test_a_plain_function_selects():
    def first(key, pool, sizes):
        return pool.weights * (jnp.cumsum(pool.weights) <= sizes.num_kept)

    found = jc.simulate("gaussian", first, "replace", points(), budget=0.5, **SMALL)
    assert found.attrs["warnings"] == []


def test_a_closure_of_host_arrays_selects():
    @jc.closure
    class nearest:
        place: np.ndarray

        def __call__(self, key, pool, sizes):
            distance = jnp.where(pool.weights > 0, jnp.sum((pool.points - self.place) ** 2, axis=1), jnp.inf)
            return (jnp.argsort(jnp.argsort(distance)) < sizes.num_kept).astype(distance.dtype)

    found = jc.simulate("gaussian", nearest(np.zeros(2)), "replace", points(), budget=[0.5, 0.25], **SMALL)
    assert found.attrs["warnings"] == []
    assert (
        (found.trace_ratio.sel(budget=0.25) < found.trace_ratio.sel(budget=0.5)).isel(generation=slice(1, None)).all()
    )


def test_a_selector_that_keeps_padding_or_too_many_is_warned_of():
    def careless(key, pool, sizes):
        return jnp.ones_like(pool.weights)

    with pytest.warns(UserWarning, match="kept places where no candidate is"):
        found = jc.simulate("gaussian", careless, "replace", points(), budget=[0.5, 0.25], **SMALL)
    assert found.attrs["warnings"] == [
        "160 candidates beyond num_kept, in 2 of 2 runs, first in generation 1",
        "80 kept places where no candidate is, in 1 of 2 runs, first in generation 1",
        "160 points that found no room in the memory, in 2 of 2 runs, first in generation 1",
    ]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: jc.sample_and_select(gaussian, random()), "generator = "),
        (lambda: jc.sample_and_select(gaussian(), top), "select = <class"),
        (lambda: jc.sample_and_select(gaussian(), "random"), "select = 'random': must be a selector"),
        (lambda: jc.build_collapse(gaussian(), random(), accumulate), "workflow = "),
        (lambda: jc.build_collapse(gaussian(), "keep", accumulate(jc.moments_memory())), "keep = 'keep': must be"),
    ],
)
def test_a_factory_where_its_product_is_meant_is_refused(made, message):
    with refuses(message):
        made()


def test_points_are_taken_where_measures_are_meant():
    x, pool = points(30).astype(np.float32), jc.as_measure(points(40))
    run = jax.jit(lambda score: jc.base.counted(score(jax.random.key(0), pool)).value)
    for make in (mahalanobis, lambda data: jc.scores.calibrated_gradient(data, 1.0)):
        assert_array_equal(run(make(x)), run(make(jc.as_measure(x))))
    assert_array_equal(jc.as_moments(np.float32([[1, 2], [3, 6]])).mean, [2, 4])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: top(mahalanobis), "score = <"),
        (lambda: jc.selectors.soft(jc.scores.moment_ratio), "score = <class"),
        (lambda: jc.selectors.bottom("mahalanobis"), "score = 'mahalanobis': must be a score"),
    ],
)
def test_factories_of_scores_are_refused_by_selectors(made, message):
    with refuses(message):
        made()


def test_a_model_without_moments_is_not_recorded_as_if_it_had_them():
    generator = kernel_density(60, 0.1)

    def build(seed):
        collapse = jc.build_collapse(generator, jc.sample_and_select(generator, random()), replace(jc.buffer_memory()))
        start = generator.init(seed, jc.as_measure(points()))
        record = jc.record_model({"trace_ratio": jc.METRICS["trace_ratio"]}, jc.as_measure(points()))
        return jc.Run(seed, collapse, start, jc.sizes(20, 0.5, 2), record)

    with pytest.raises(TypeError, match="the model's parameters are KernelDensity, not Moments; use record_samples"):
        jc.sweep(build, {"seed": jc.seeds(1)})


def test_what_members_return_is_checked():
    def boolean(key, pool, sizes):
        return pool.weights > 0

    short = gaussian()._replace(sample=lambda key, params, num: gaussian().sample(key, params, num)[1:])
    with refuses("select returned bool[40]: must be floating, of shape [40]"):
        jc.simulate("gaussian", boolean, "replace", points(), budget=0.5, **SMALL)
    with refuses("generator.sample returned float32[39, 2]: must be floating, of shape [40, 2]"):
        jc.simulate(short, "random", "replace", points(), budget=0.5, **SMALL)


def test_a_selector_that_keeps_too_few_is_warned_of():
    def miser(key, pool, sizes):
        return pool.weights * (jnp.cumsum(pool.weights) <= sizes.num_kept // 2)

    with pytest.warns(UserWarning, match="candidates short of num_kept"):
        found = jc.simulate("gaussian", miser, "replace", points(), budget=0.5, seeds=2, **SMALL)
    assert found.attrs["warnings"] == ["40 candidates short of num_kept, in 2 of 2 runs, first in generation 1"]


def test_a_verifier_of_one_point_is_warned_of():
    silos = np.concatenate([points(20)[None], np.zeros((1, 20, 2))])
    with pytest.raises(ValueError, match="singular"):
        mahalanobis(jc.as_measure(silos[1]))
    scores = jax.vmap(mahalanobis)(jc.as_measure(silos))
    with pytest.warns(UserWarning, match="scores that are not finite"):
        jc.simulate("gaussian", top(jc.scores.mean(scores)), "replace", points(), budget=0.5, **SMALL)


def test_metrics_of_a_model_that_is_not_finite_are_warned_of():
    given = {"num_kept": 20, "num_generations": 4, "num_scored": 10, "metrics": ("frechet", "recall")}
    with pytest.warns(UserWarning, match="values of frechet that are not finite"):
        found = jc.simulate(kernel_density(60), "random", "accumulate", points(60), **given)
    assert [message for message in found.attrs["warnings"] if message.startswith("1 values of")] == [
        "1 values of frechet that are not finite, in 1 of 1 runs, first in generation 4",
        "1 values of recall that are not finite, in 1 of 1 runs, first in generation 4",
    ]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: mahalanobis(jc.as_measure(np.ones((5, 2)))), "reference: to rounding, coordinate 0 of 2 is constant"),
        (lambda: mahalanobis(TARGET._replace(location=np.full(3, np.nan))), "reference.location: 3 values are not"),
        (lambda: jc.as_measure([[1.0], [1.0, 2.0]]), "data = [[1.0], [1.0, 2.0]]: must be a number"),
        (lambda: jc.as_measure(2**70), "data: shape () must be [n, d]"),
        (lambda: jc.as_measure(np.zeros((0, 2))), "data: shape (0, 2) must be [n, d]"),
        (
            lambda: jc.METRICS["bures_w2"](None, jc.as_measure(points(9, 3)), TRUTH_2D),
            "generated: has 3 dimensions, and truth has 2",
        ),
        (
            lambda: jc.POINT_METRICS["recall"](None, jc.as_measure(points(9, 3)), jc.as_measure(points(9))),
            "generated: has 3 dimensions, and truth has 2",
        ),
        (
            lambda: jc.generators.laplace().init(None, jc.Measure(jnp.zeros((0, 2)), jnp.zeros(0))),
            "data: points of shape (0, 2) must be [n, d]",
        ),
    ],
)
def test_data_of_no_shape_or_of_another_are_refused_by_name(made, message):
    with refuses(message):
        made()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"generator": "gausian"}, "generator 'gausian' is not known: choose from"),
        ({"generator": gaussian}, "generator = <"),
        ({"generator": "categorical"}, "generator = 'categorical': needs arguments, make it"),
        ({"select": "scheme_3"}, "verifier 'scheme_3' is not known"),
        ({"select": "scheme_ii"}, "select = 'scheme_ii': selects by silos, which must be given"),
        ({"select": top}, "select = <class 'jaxcollapse.selectors.budget.top'>: must be a selector"),
        ({"workflow": "acumulate"}, "workflow 'acumulate' is not known"),
        ({"workflow": accumulate(jc.moments_memory())}, "workflow = Workflow("),
        ({"start": "points.npy"}, "start = 'points.npy': must be an array [n, d]"),
        ({"start": points()[0]}, "start: points of shape (2,) must be [n, d]"),
        ({"start": np.full((30, 2), np.nan)}, "start.points: 60 values are not finite"),
        ({"generator": gaussian_mixture(2), "start": TRUTH}, "start = Moments: this generator is fitted to points"),
        ({"start": points()[:1]}, "number of points in start = 1: must be at least 2"),
        (
            {"start": TRUTH._replace(mean=np.zeros(2))},
            "start: a mean (2,) and a covariance (3, 3) must be [d] and [d, d]",
        ),
        ({"start": TRUTH._replace(mean=np.full(3, np.nan))}, "start.mean: 3 values are not finite"),
        ({"select": "top"}, "select = 'top': must be made, such as top(mahalanobis(target))"),
        ({"seeds": "8"}, "seeds = '8': must be a number of them"),
        ({"seeds": 0}, "seeds = 0: must be a number of them"),
        ({"budget": []}, "budget = []: must be a number, or a list of them"),
        ({"metrics": "recal"}, "metric 'recal' is not known"),
        ({"num_fresh": 5}, "num_fresh = 5: of the workflows only fresh_mix takes fresh data"),
        ({"select": "pooled", "silos": []}, "silos: shapes [] must be [m_k, d]"),
        (
            {"select": "pooled", "silos": [points(), np.zeros((0, 2))]},
            "silos: shapes [(60, 2), (0, 2)] must be [m_k, d]",
        ),
        ({"select": "pooled", "silos": [points(), points(9, 3)]}, "silos: shapes [(60, 2), (9, 3)] must be"),
        ({"num_kept": "many"}, "num_kept = 'many': must be a number, or an array of them"),
        ({"num_kept": 0}, "num_kept = 0: must be at least 1"),
        ({"budget": 1.5}, "budget = 1.5: must be in (0, 1]"),
        ({"budget": [0.5, 0.0]}, "budget = 0.0: must be in (0, 1]"),
        ({"num_generations": -1}, "num_generations = -1: must be at least 0"),
        (
            {"start": TRUTH, "workflow": fresh_mix, "num_fresh": 5},
            "num_fresh = 5: fresh data are drawn from start, which must be data",
        ),
        ({"metrics": ("recal",)}, "metric 'recal' is not known"),
        (
            {"generator": gaussian_mixture(2), "start": (1, 2)},
            "truth: must be given where start is the parameters of a",
        ),
        ({"truth": points(9, 3)}, "truth: has 3 dimensions, and start has 2"),
        ({"truth": np.zeros((9, 0))}, "data: shape (9, 0) must be [n, d], with n and d at least 1"),
        ({"start": points() * 1j}, "start = array("),
        ({"generator": kernel_density(12)}, "max_points = 12: must be at least 60, the points with mass in data"),
        ({"seeds": 2**31}, "seeds = 2147483648: must be at most 1000000"),
        ({"seeds": [[1], [1, 2]]}, "seeds = [[1], [1, 2]]: must be a number of them"),
        ({"key": "3"}, "key = '3': must be a number"),
        ({"truth": TRUTH}, "truth: has 3 dimensions, and start has 2"),
        ({"truth": "held out"}, "truth = 'held out': must be an array [n, d]"),
        ({"select": "pooled", "silos": points()}, "silos: points of shape (60, 2) must be [K, m, d]"),
        ({"select": "pooled", "silos": np.zeros((3, 5, 2))}, "silos: all points are equal"),
        ({"select": "pooled", "silos": np.full((1, 5, 2), np.inf)}, "silos.points: 10 values are not finite"),
    ],
)
def test_bad_input_is_refused_by_name(changed, message):
    given = {"generator": gaussian(), "select": "random", "workflow": replace, "start": points(), **SMALL} | changed
    with refuses(message):
        jc.simulate(**given)


def test_moments_where_points_are_needed_are_refused():
    with pytest.raises(TypeError, match="truth = Moments"):
        jc.simulate("gaussian", "random", "replace", TRUTH, metrics=("recall",), **SMALL)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"generator": kernel_density(60, 0.1)}, "predict knows no theory of this generator and workflow"),
        ({"generator": categorical(5)}, "predict knows no theory of this generator and workflow"),
        ({"workflow": lambda memory: replace(memory)}, "predict knows no theory of this generator and workflow"),
        ({"select": jc.selectors.bottom(mahalanobis(TARGET))}, "predict knows no theory of bottom"),
        ({"select": "pooled", "silos": points().reshape(3, 20, 2)}, "predict knows no theory of top by this score"),
        ({"seed": 3}, "argument 'seed' is not known: choose from"),
        ({"select": random(), "metrics": ("frechet",)}, "metric 'frechet' is not known: choose from mean_error"),
    ],
)
def test_what_has_no_theory_is_said(changed, message):
    given = {"generator": gaussian(), "select": keep_all(), "workflow": replace, "start": points(), **SMALL} | changed
    with refuses(message):
        jc.predict(**given)


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_beyond_the_silos_is_refused_or_counted(index):
    silos = np.random.default_rng(2).standard_normal((4, 10, 2))
    with refuses(f"silo = {index}: must be in [0, 3]"):
        jc.verifier("single_silo", silos, silo=index)


def test_a_traced_index_beyond_the_silos_is_counted():
    silos = jc.as_measure(np.random.default_rng(2).standard_normal((4, 10, 2)))
    pool = jc.as_measure(points(30))

    def count(index):
        select = jc.verifier("single_silo", silos, silo=index)
        kept = select(jax.random.key(0), pool, jc.sizes(10, 1 / 3))
        return kept.value.sum(), kept.trouble["scores that are not finite"]

    kept, count = jax.jit(jax.vmap(count))(jnp.array([3, 4]))
    assert_array_equal(kept, [10, 10])
    assert_array_equal(count, [0, 30])


@pytest.mark.parametrize(
    ("number", "doors"),
    [
        (40, ("simulate", "predict", "sizes")),
        (80, ("split iid", "split class", "split exdir", "split dirichlet", "seeds", "gaussian_target", "as_measure")),
    ],
)
def test_odd_arguments_are_refused_in_one_line_or_give_finite_numbers(number, doors):
    """Some of what `python -m tests.fuzz_doors` tries."""
    found = collections.defaultdict(list)
    for door, given in fuzz_doors.cases(number, doors=doors):
        result, said = fuzz_doors.outcome(door, given)
        if not said.startswith("TypeCheckError"):  # of the checker of types, which only tests have
            found[result].append((door, given, said))
    assert found.pop("ok")
    assert len(found.pop("refused")) > 20
    assert not found
