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

# From a directory and a seed to images to train on and images to test with. The seed is of the division,
# where none is published.
DATASETS: dict[str, Callable[[Path, int], Division]] = {
    "celeba": lambda directory, _: load_celeba(directory),
    "cifar10": lambda directory, _: load_cifar10(directory),
    "digits": lambda _, seed: hold_out(load_digits(), seed),
    "fashion_mnist": lambda directory, _: load_fashion_mnist(directory),
    "folders": lambda directory, seed: hold_out(load_folders(directory), seed),
    "mnist": lambda directory, _: load_mnist(directory),
    "npz": lambda directory, seed: hold_out(load_npz(directory), seed),
    "stl10": lambda directory, _: load_stl10(directory),
}
