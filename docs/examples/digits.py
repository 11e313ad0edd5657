"""A team's three verbs on images of ten classes: `python docs/examples/digits.py DIRECTORY [FASHION_MNIST]`.

They are handwritten digits or, from the directory of its files, Fashion-MNIST. Ten silos hold a class each. A Gaussian
mixture, fitted to all of them once, is trained five times on the quarter of its own samples that a verifier keeps: one
silo, or all of them together.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from jaxcollapse.command import main
from jaxcollapse.data.idx import load_fashion_mnist

NUM_KEPT, NUM_CANDIDATES, NUM_GENERATIONS = 1000, 4000, 5
SILOS = [f"silo{k}.npy" for k in range(10)]
VERIFIERS = {"single": ("single_silo", SILOS[:1]), "together": ("kernel_balanced", SILOS)}


def load(fashion: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Load images and classes."""
    if not fashion:
        return load_digits(return_X_y=True)
    images, _ = load_fashion_mnist(Path(fashion))
    return images.points[:1797], images.labels[:1797]


def write_features(directory: Path, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Write features of each silo's images, and of held-out ones; return those of all silos."""
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1000], order[1000:]
    components = PCA(16).fit(images[train])
    features = components.transform(images)
    for k, name in enumerate(SILOS):
        np.save(directory / name, features[train[labels[train] == k]])
    np.save(directory / "held_out.npy", features[test])
    return features[train]


def assess() -> int:
    """Tell how complete the first silo is, and what it would do as a verifier; the status is 3, it lacks modes."""
    words = ["--silo", *SILOS[1:], "--population", "held_out.npy", "--num-kept", str(NUM_KEPT)]
    asked = ["--workflow", "replace", "--num-generations", str(NUM_GENERATIONS)]
    return main(["assess", SILOS[0], *words, *asked, "--html", "assess.html", "--overwrite"])


def sample(rows: np.ndarray, seed: int) -> np.ndarray:
    """Train the generator on rows, and draw candidates."""
    model = GaussianMixture(20, reg_covar=0.1, random_state=seed).fit(rows)
    candidates, _ = model.sample(NUM_CANDIDATES)
    return np.random.default_rng(seed).permutation(candidates)


def watch(directory: Path, name: str, candidates: np.ndarray) -> int:
    """Add candidates to a run's log; the status is 0 ok, 3 watch, 4 alarm."""
    np.save(directory / "sample.npy", candidates[:NUM_KEPT])
    words = ["--reference", "held_out.npy", "--add", "sample.npy", "--num-kept", str(NUM_KEPT), "--workflow", "replace"]
    return main(["monitor", f"{name}.jsonl", *words, "--html", f"{name}.html", "--overwrite"])


def run(directory: Path, name: str, rows: np.ndarray) -> list[int]:
    """Retrain on what a verifier keeps, and list the monitor's statuses."""
    verifier, silos = VERIFIERS[name]
    candidates = sample(rows, 0)
    statuses = [watch(directory, name, candidates)]
    for generation in range(1, 1 + NUM_GENERATIONS):
        np.save(directory / "pool.npy", candidates)
        asked = ["--keep", str(NUM_KEPT), "--verifier", verifier, "--scores", "scores.csv", "--overwrite"]
        assert main(["select", "pool.npy", "--silo", *silos, "--seed", str(generation), *asked]) == 0
        kept = np.genfromtxt(directory / "scores.csv", delimiter=",", names=True, dtype=None, encoding=None)["kept"]
        candidates = sample(candidates[kept], generation)
        statuses.append(watch(directory, name, candidates))
    return statuses


if __name__ == "__main__":
    import os

    place, *given = sys.argv[1:]
    place = Path(place)
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)
    real = write_features(Path(), *load(*given))
    sys.stdout.write(f"assess: {assess()}\n")
    for name in VERIFIERS:
        sys.stdout.write(f"{name}: {run(Path(), name, real)}\n")
