"""The published Gaussian recursion in plain NumPy: an oracle for tests, the baseline of `benchmarks.recursion`.

`python -m benchmarks.numpy_baseline N_KEPT BUDGET GENERATIONS DIM SEED...` runs all settings, and nothing else.

Candidates are drawn one by one, scored and sorted out, and accumulated data are stacked again in every
generation, as in the experiment of [qiao2026]. Nothing here is shared with the library.
"""

import sys

import numpy as np

RIDGE = 1e-6
SETTINGS = (
    "replace",
    "replace+select",
    "accumulate",
    "accumulate+select",
    "accumulate_subsample",
    "accumulate_subsample+select",
)


def published(seed: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the true mean and covariance, and the verifier's target."""
    rng = np.random.RandomState(seed)
    mean = rng.randn(dim)
    root = rng.randn(dim, dim)
    covariance = root @ root.T + 0.1 * np.eye(dim)
    location = mean.copy()
    biased = rng.choice(dim, dim // 2, replace=False)
    location[biased] += 3 * rng.randn(dim // 2)
    return mean, covariance, location


def recursion(
    setting: str,
    seed: int,
    num_kept: int,
    budget: float,
    num_generations: int,
    dim: int = 10,
    rng_seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Run one setting on one problem instance.

    Args:
        setting: one of `SETTINGS`.
        seed: of the problem instance.
        num_kept: n.
        budget: n / N, for the settings that select.
        num_generations: T.
        dim: d.
        rng_seed: of everything that the recursion draws.

    Returns:
        Trace ratios and squared mean errors of generations 0..T, each of shape [T + 1].
    """
    if setting not in SETTINGS:
        raise ValueError(f"setting {setting!r} is not known: choose from {', '.join(SETTINGS)}")
    workflow, _, select = setting.partition("+")
    rng = np.random.default_rng(rng_seed)
    true_mean, true_covariance, location = published(seed, dim)
    precision = np.linalg.inv(0.3 * true_covariance)
    num_candidates = round(num_kept / budget) if select else num_kept
    mean, covariance, remembered = true_mean, true_covariance, []
    models = [(mean, covariance)]
    for _ in range(num_generations):
        x = mean + rng.standard_normal((num_candidates, dim)) @ np.linalg.cholesky(covariance).T
        if select and num_kept < num_candidates:
            energy = ((x - location) @ precision * (x - location)).sum(1)
            x = x[np.argpartition(energy, num_kept)[:num_kept]]
        if workflow == "replace":
            training = x
        else:
            remembered.append(x)
            training = np.concatenate(remembered)
        if workflow == "accumulate_subsample":
            training = training[rng.choice(len(training), num_kept, replace=False)]
        mean = training.mean(0)
        covariance = np.cov(training, rowvar=False, bias=True) + RIDGE * np.eye(dim)
        models.append((mean, covariance))
    trace_ratio = [np.trace(c) / np.trace(true_covariance) for _, c in models]
    mean_error = [np.sum((m - true_mean) ** 2) for m, _ in models]
    return np.array(trace_ratio), np.array(mean_error)


if __name__ == "__main__":
    kept, share, generations, dimension, *instances = sys.argv[1:]
    for setting in SETTINGS:
        for seed in instances:
            recursion(setting, int(seed), int(kept), float(share), int(generations), int(dimension))
