"""Whether selection is predicted to pay: what the generator does to data, and what each verifier does to that."""

import warnings
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxcollapse.analysis import Interval, seed_interval, wilson
from jaxcollapse.base import Generator, Measure, Moments, Select
from jaxcollapse.gain import Expansion, surrogate_runs
from jaxcollapse.measures import uniform_measure
from jaxcollapse.pipeline.assess.bias import NUM_RESAMPLES, moments_of
from jaxcollapse.scores import mahalanobis
from jaxcollapse.selectors import top
from jaxcollapse.targets import fit_target

MAX_KEPT = 100  # by a stand-in, in a generation
MAX_SILO = 150  # points of a party, in predictions
MAX_DRAWN = 1000
NUM_SEEDS = 4
MAX_GENERATIONS = 5


def expansion_of_candidates(
    candidates: np.ndarray, data: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> Expansion:
    r"""Measure what a generator did to data, by a pool of its samples.

    Junk is what lies farther out than any real point, in the Mahalanobis distance of the data, beyond the share
    1 / (n + 1) of the real that does so by chance. Rates compare the moments of the other candidates with the data's.

    Args:
        candidates: [N, d].
        data: that the generator was trained on, [n, d].
        weights: [n].
        rng: of resamples, whose intervals of 95% these are.
    """
    truth = moments_of(data, [weights])
    scale = np.linalg.pinv(truth.covariance[0], rcond=1e-9, hermitian=True)
    reach, far = (np.einsum("ni,ij,nj->n", x, scale, x) for x in (data - truth.mean, candidates - truth.mean))
    out = far > reach.max()
    num = len(data)
    low, high = wilson(out.sum(), len(candidates))
    chance = 1 / (num + 1), 1 - 0.025 ** (1 / num), 0.0  # the mean, and ends of the law Beta(1, n)
    junk_share = Interval(*(np.maximum(a - b, 0) for a, b in zip((out.mean(), low, high), chance, strict=True)))

    def rates(rows: np.ndarray, mass: np.ndarray) -> np.ndarray:
        ours, theirs = moments_of(candidates, [rows * ~out]), moments_of(data, [mass])
        dets = [np.linalg.slogdet(m.covariance[0])[1] for m in (ours, theirs)]
        trace = np.log(np.trace(ours.covariance[0]) / np.trace(theirs.covariance[0]))
        return np.array([trace, (dets[0] - dets[1]) / data.shape[1]])

    share = weights / weights.sum()
    found = rates(np.ones(len(candidates)), weights)
    again = [
        rates(
            rng.multinomial(len(candidates), np.full(len(candidates), 1 / len(candidates))), rng.multinomial(num, share)
        )
        for _ in range(NUM_RESAMPLES)
    ]
    half = 1.96 * np.std(again, axis=0)
    trace, determinant = (
        Interval(*(np.float64(x) for x in (f, f - h, f + h))) for f, h in zip(found, half, strict=True)
    )
    junk = moments_of(candidates, [out.astype(float)]) if out.any() else moments_of(data, [weights])
    return Expansion(trace, determinant, junk_share, Moments(*(np.float32(leaf[0]) for leaf in junk)))


def pool_of(generator: Generator, data: np.ndarray, num: int, key: int) -> np.ndarray:
    """Fit a generator to data, and draw a pool."""
    fit_key, sample_key = jax.random.split(jax.random.key(key))
    model = generator.init(fit_key, uniform_measure(np.float32(data)))
    return np.asarray(generator.sample(sample_key, model, num))


def gains(
    verifiers: Mapping[str, Select | str],
    pool: np.ndarray,
    silos: Sequence[np.ndarray],
    truth: Measure,
    expansion: Expansion,
    *,
    num_kept: int,
    budget: float,
    num_generations: int,
    workflow: str,
    key: int,
) -> tuple[pd.DataFrame, dict[str, np.ndarray], list[str]]:
    """Predict, with a stand-in for the generator, distances over those of random selection; and traces.

    As `jaxcollapse.gain.predict_gain`, against a truth that silos need not know.

    Returns:
        A row a verifier: logarithm of the ratio of Fréchet distances and its interval of 95% over seeds. The
        logarithms of traces over those of generation 0, [seed, generation], by verifier. And what went wrong, in words.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are in the runs' attributes
        runs = surrogate_runs(
            verifiers, np.float32(pool), list(map(np.float32, silos)), expansion, truth=truth,
            metrics=("frechet", "trace_ratio"), num_kept=num_kept, budget=budget, num_generations=num_generations,
            workflow=workflow, seeds=NUM_SEEDS, key=key,
        )  # fmt: skip
    logs = {name: np.log(run.frechet.to_numpy()[:, -1]) for name, run in runs.items()}
    traces = {name: np.log(run.trace_ratio.to_numpy()) for name, run in runs.items()}
    rows = [(name, *map(float, seed_interval(logs[name] - logs["random"]))) for name in verifiers]
    frame = pd.DataFrame(rows, columns=["verifier", "log_ratio", "low", "high"])
    frame["prediction"] = np.select([frame.high < 0, frame.low > 0], ["pays", "loses"], "cannot be told")
    wrong = [f"Prediction of {name}: {message}." for name, run in runs.items() for message in run.attrs["warnings"]]
    return frame, {name: trace - trace[:, :1] for name, trace in traces.items()}, wrong


def by_distance(reference: Moments) -> Select:
    """Make the verifier of the forecast, in single precision."""
    return top(mahalanobis(fit_target(jax.tree.map(jnp.float32, reference))))
