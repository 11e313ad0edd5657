"""Real data, read from files, and the features they are compared in."""

from collections.abc import Callable
from pathlib import Path

from jaxcollapse.data.celeba import load_celeba
from jaxcollapse.data.cifar10 import load_cifar10
from jaxcollapse.data.digits import load_digits
from jaxcollapse.data.folders import load_folders
from jaxcollapse.data.idx import load_fashion_mnist, load_mnist
from jaxcollapse.data.images import Division, hold_out
from jaxcollapse.data.npz import load_npz
from jaxcollapse.data.stl10 import load_stl10

# From a directory, a seed and whether checksums must be the published ones, to images to train on and images to test
# with. The seed is of the division, where none is published.
DATASETS: dict[str, Callable[[Path, int, bool], Division]] = {
    "celeba": lambda directory, _, verify: load_celeba(directory, verify=verify),
    "cifar10": lambda directory, _, verify: load_cifar10(directory, verify=verify),
    "digits": lambda _, seed, verify: hold_out(load_digits(), seed),
    "fashion_mnist": lambda directory, _, verify: load_fashion_mnist(directory, verify=verify),
    "folders": lambda directory, seed, verify: hold_out(load_folders(directory), seed),
    "mnist": lambda directory, _, verify: load_mnist(directory, verify=verify),
    "npz": lambda directory, seed, verify: hold_out(load_npz(directory), seed),
    "stl10": lambda directory, _, verify: load_stl10(directory, verify=verify),
}
