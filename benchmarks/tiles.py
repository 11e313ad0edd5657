"""How much tiles change what is kept, beside what another draw changes: `python -m benchmarks.tiles`."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from jaxcollapse.pipeline.select import select

NUM_CANDIDATES, NUM_KEPT, SEEDS = 20_000, 5_000, range(5)
TILES = (10_000, 5_000, 2_000)
VERIFIERS = ("kernel_balanced", "landmark_balanced")


def problem(seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw candidates, a fifth of them junk, from a mixture fitted to digits in ten silos of a class each."""
    images, labels = load_digits(return_X_y=True)
    features = PCA(16).fit_transform(images)
    pool, _ = GaussianMixture(10, random_state=seed).fit(features).sample(NUM_CANDIDATES)
    rng = np.random.default_rng(seed)
    junk = rng.random(NUM_CANDIDATES) < 0.2
    pool[junk] = 3 * features.std(axis=0) * rng.standard_normal((junk.sum(), features.shape[1]))
    return rng.permutation(pool).astype(np.float32), [features[labels == k] for k in range(10)]


def main() -> None:
    """Print the table: the share of the kept that are kept too, and how far probabilities are apart."""
    print("| verifier | another draw | " + " | ".join(f"tiles of {t:,}" for t in TILES) + " |")
    print("| --- " * (2 + len(TILES)) + "|")
    for name in VERIFIERS:
        rows = []
        for seed in SEEDS:
            pool, silos = problem(seed)
            runs = [(seed, NUM_CANDIDATES), (seed + 100, NUM_CANDIDATES), *((seed, tile) for tile in TILES)]
            whole, *others = (
                select(pool, silos, num_kept=NUM_KEPT, verifier=name, key=key, tile=tile) for key, tile in runs
            )
            rows.append([np.isin(whole.kept, each.kept).mean() for each in others])
        means, errors = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / np.sqrt(len(rows))
        print(f"| {name} | " + " | ".join(f"{m:.3f} ± {2 * e:.3f}" for m, e in zip(means, errors, strict=True)) + " |")


if __name__ == "__main__":
    main()
