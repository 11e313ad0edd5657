"""Odd arguments for the library's functions: `python -m tests.fuzz_doors --cases 350` counts what becomes of them.

Each call has right arguments but for one or two. It may refuse in one line, or return finite numbers, or NaN where some
was given or where it says what went wrong.
"""

import argparse
import collections
import faulthandler
import random
import resource
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import jaxcollapse as jc
from jaxcollapse.theory import closed_forms, exponents, kernel_density, surviving_symbols
from jaxcollapse.transport import sinkhorn

SECONDS = 60
KEY, NAN = jax.random.key(0), float("nan")
POINTS = np.random.default_rng(0).standard_normal((24, 2)).astype(np.float32)
SILOS = POINTS.reshape(2, 12, 2)
LABELS = np.arange(24) % 3
TARGET = jc.isotropic_target(np.zeros(2, np.float32))
TOP = jc.selectors.top(jc.scores.mahalanobis(TARGET))


def altered(value):
    """Copy the points with one number changed."""
    points = POINTS.copy()
    points[3, 1] = value
    return points


ARRAYS = {
    "NaN": altered(NAN), "infinite": altered(np.inf), "huge": altered(1e30), "equal": np.ones_like(POINTS),
    "scaled": 1e-20 * POINTS, "far": 1e6 + POINTS, "empty": POINTS[:0], "one": POINTS[:1],
    "no dimension": POINTS[:, :0],
    "vector": POINTS[:, 0], "wide": np.tile(POINTS, 2), "integers": np.arange(48).reshape(24, 2),
    "booleans": POINTS > 0, "complex": POINTS * 1j, "text": "points", "texts": np.array([["a", "b"]]), "none": None,
    "list": POINTS.tolist(), "ragged": [[1.0], [1.0, 2.0]], "double": POINTS.astype(float), "number": 3.5,
    "function": print,
}  # fmt: skip
NUMBERS = (
    -1, 0, 1, 2, 5, 0.5, 2.5, -0.5, NAN, np.inf, -np.inf, 1e30, 1e-30, 2**31, 2**63, 2**70, True, None, "3", "many", (),
    [1, 2], [0.5, 0.25], np.float32(0.5), np.int64(3), np.array(2), np.array([]), print, {},
)  # fmt: skip
NAMES = ("gaussian", "random", "tops", "", None, 3, "accumulate", "frechet", "recall", (), ["recall", "nothing"], print)


def measured(metric):
    return lambda generated, truth: metric(KEY, jc.as_measure(generated), jc.as_measure(truth))


def sampled(make, **rest):
    def call(points, **settings):
        generator = make(**settings)
        params = generator.init(KEY, jc.as_measure(points))
        return params, generator.sample(KEY, params, 8)

    return call, {"points": POINTS, **rest}


def selected(make):
    def call(reference, pool, num_kept, budget):
        return make(reference)(KEY, jc.as_measure(pool), jc.sizes(num_kept, budget, temperature=1.0))

    return call, {"reference": POINTS, "pool": POINTS, "num_kept": 12, "budget": 0.5}


def coupled(source, target, epsilon):
    return sinkhorn(jc.as_measure(source), jc.as_measure(target), epsilon)


def chosen(name, silos, **settings):
    return jc.verifier(name, silos, **settings)(KEY, jc.uniform_measure(POINTS), jc.sizes(12, 0.5, temperature=1.0))


def swept(budget, seeds, key):
    def build(budget, seed):
        collapse = jc.build_collapse(
            jc.generators.gaussian(), jc.sample_and_select(jc.generators.gaussian(), TOP), jc.workflows.replace(MEMORY)
        )
        sizes = jc.sizes(12, budget, 2, max_candidates=48)
        return jc.Run(seed, collapse, jc.as_moments(POINTS), sizes, lambda key, state, info: state.params.mean)

    return jc.sweep(build, {"budget": budget, "seed": jc.seeds(seeds, key)})


MEMORY = jc.moments_memory()
SETTINGS = {
    "generator": "gaussian", "workflow": "accumulate", "start": POINTS, "num_kept": 12, "budget": 0.5,
    "num_generations": 2, "metrics": ("trace_ratio",), "truth": POINTS,
}  # fmt: skip
SIMULATED = SETTINGS | {"select": "random", "temperature": 1.0, "seeds": 2, "key": 0, "num_scored": 8, "silos": SILOS}
BY_POINTS = {"generator": jc.generators.kernel_density(24), "metrics": "recall"}
SCHEME = {"name": "scheme_ii", "silos": SILOS, "epsilon": 0.1, "num_support": 8, "num_rounds": 2}
SPLIT = {"points": POINTS, "labels": LABELS, "num_silos": 2, "seed": 0}
LAW = np.full(4, 0.25)
DOORS = {
    "simulate": (jc.simulate, SIMULATED | {"num_fresh": 0}),
    "simulate by points": (jc.simulate, SIMULATED | BY_POINTS),
    "simulate by silos": (jc.simulate, SIMULATED | {"select": "tilt"}),
    "predict": (jc.predict, SETTINGS | {"select": TOP, "num_fresh": 0}),
    "sweep": (swept, {"budget": [0.5, 0.25], "seeds": 2, "key": 0}),
    "sizes": (jc.sizes, {"num_kept": 12, "budget": 0.5, "num_generations": 2, "num_fresh": 0, "temperature": 1.0,
        "max_kept": 20, "max_candidates": 40, "max_fresh": 4}),
    "seeds": (lambda labels, key: jc.seeds(labels, key).labels, {"labels": 3, "key": 0}),
    "split iid": (jc.split, SPLIT | {"how": "iid"}),
    "split class": (jc.split, SPLIT | {"how": "class"}),
    "split exdir": (jc.split, SPLIT | {"how": "exdir", "classes_per_silo": 2, "alpha": 1.0, "min_size": 2}),
    "split dirichlet": (jc.split, SPLIT | {"how": "dirichlet", "alpha": 1.0, "min_size": 2}),
    "verifier": (chosen, {"name": "tilt", "silos": SILOS, "epsilon": 0.1, "max_norm": 6.0}),
    "verifier one": (chosen, {"name": "single_silo", "silos": SILOS, "epsilon": 0.1, "silo": 1}),
    "verifier scheme": (chosen, SCHEME),
    "as_moments": (jc.as_moments, {"data": POINTS}),
    "as_measure": (jc.as_measure, {"data": POINTS}),
    "gaussian_target": (jc.gaussian_target, {"location": np.zeros(2), "covariance": np.eye(2)}),
    "isotropic_target": (jc.isotropic_target, {"location": np.zeros(2), "scale": 1.0}),
    "published_instance": (jc.published_instance, {"seed": 3, "dim": 3}),
    "sinkhorn": (coupled, {"source": POINTS, "target": POINTS, "epsilon": 0.5}),
    "mahalanobis": selected(lambda reference: jc.selectors.top(jc.scores.mahalanobis(reference))),
    "gaussian": sampled(jc.generators.gaussian, ridge=1e-3),
    "gaussian_mixture": sampled(jc.generators.gaussian_mixture, num_components=2, num_iterations=3, ridge=1e-3),
    "kernel_density": sampled(jc.generators.kernel_density, max_points=24, bandwidth=0.3),
    "laplace": sampled(jc.generators.laplace),
    "kappa": (exponents.kappa, {"dim": 3, "budget": 0.5}),
    "psi_finite": (exponents.psi_finite, {"dim": 3, "budget": 0.5, "num_kept": 100}),
    "accumulate": (closed_forms.accumulate, {"num_samples": 10, "num_generations": 4}),
    "fresh_mix": (closed_forms.fresh_mix, {"num_samples": 10, "num_generations": 4, "num_fresh": 2}),
    "surviving": (surviving_symbols.replace, {"probabilities": LAW, "num_samples": 5, "num_generations": 3}),
    "bandwidth": (kernel_density.fixed_bandwidth, {"num_samples": 10, "num_generations": 3, "bandwidth": 0.3}),
    **{name: (measured(metric), {"generated": POINTS, "truth": POINTS})
       for name, metric in (jc.METRICS | jc.POINT_METRICS).items()},
}  # fmt: skip


def odd(value, rng):
    """Draw something to give in the place of a value."""
    if isinstance(value, np.ndarray):
        return rng.choice([*ARRAYS.values(), *rng.sample(NUMBERS, 2)])
    return rng.choice(NAMES if not isinstance(value, int | float) else NUMBERS)


def cases(number, seed=0, doors=tuple(DOORS)):
    """Draw calls: each argument of each door in turn, in random order, often with another."""
    rng = random.Random(seed)
    turns = [(door, name) for door in doors for name in DOORS[door][1]]
    rng.shuffle(turns)
    for i in range(number):
        door, name = turns[i % len(turns)]
        right = DOORS[door][1]
        names = {name, rng.choice([*right])} if rng.random() < 0.3 else {name}
        yield door, {name: odd(right[name], rng) for name in sorted(names)}


def floats(value):
    """List the floating-point numbers in what a door returned."""
    if isinstance(value, xr.Dataset):
        value = {name: variable.to_numpy() for name, variable in value.items()}
    leaves = [leaf for leaf in jax.tree.leaves(value) if hasattr(leaf, "dtype") or isinstance(leaf, float)]
    leaves = [leaf for leaf in leaves if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)]
    return [np.asarray(leaf) for leaf in leaves if np.issubdtype(jnp.result_type(leaf), np.inexact)]


def bad_in(value):
    """Tell whether something holds a number that is not finite, or far beyond what squares in single precision hold."""
    try:
        return not (np.abs(np.asarray(value, float)) < 1e18).all()
    except (TypeError, ValueError, OverflowError):
        return True


def outcome(door, given):
    """Make one call; say what became of it, and in which words."""
    function, right = DOORS[door]
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = function(**right | given)
        except (ValueError, TypeError) as error:
            words = str(error)
            found = "refused" if words and "\n" not in words and not words.startswith(UNREADABLE) else "unreadable"
            return found, f"{type(error).__name__}: {words}"
        except Exception as error:  # noqa: BLE001  what is looked for
            return "traceback", f"{type(error).__name__}: {error}"
    if time.process_time() - started > SECONDS:
        return "hang", ""
    finite = all(np.isfinite(leaf).all() for leaf in floats(result))
    told = getattr(result, "attrs", {}).get("warnings") or any(map(int, getattr(result, "trouble", {}).values()))
    harmless = finite or told or any(map(bad_in, given.values()))
    return "ok" if harmless else "silent NaN", " ".join(str(result).split())[:200]


# What NumPy, jax and Python say to somebody who knows the inside.
UNREADABLE = (
    "'", "unsupported operand", "Cannot interpret value", "zero-size array", "max() ", "min() ", "object of type",
    "setting an array", "could not convert", "cannot reshape", "dot_general", "All input arrays", "float() argument",
    "int() argument", "can only convert", "only length-1", "unhashable", "must be real number", "only integer scalar",
    "Cannot take", "Cannot load", "argument of type", "division by zero", "Incompatible shapes", "ufunc",
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=350)
    parser.add_argument("--seed", type=int, default=0)
    settings, counts = parser.parse_args(), collections.Counter()
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, resource.RLIM_INFINITY))
    for door, given in cases(settings.cases, settings.seed):
        faulthandler.dump_traceback_later(300, exit=True)
        found, said = outcome(door, given)
        counts[found] += 1
        shown = ", ".join(f"{name} = {value!r}"[:60].replace("\n", " ") for name, value in given.items())
        print(f"{found}: {door}({shown}): {said}".replace("\n", " "), flush=True)  # noqa: T201
    print(dict(counts))  # noqa: T201


if __name__ == "__main__":
    main()
