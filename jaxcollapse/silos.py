"""Silos: how real data are divided among their holders.

Splits are made on the host, in NumPy and from an integer seed, before anything is compiled. Each returns
K arrays of indices, sorted, disjoint, together covering the data; `stack_silos` makes measures of them.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import DTypeLike
from scipy.special import betainc

from jaxcollapse.base import Measure, Parties
from jaxcollapse.checks import check_array, check_count, check_finite, check_measure, check_names, check_range, shown
from jaxcollapse.measures import as_measure, stack_padded

Silos = tuple[Int[np.ndarray, " m"], ...]

MAX_CLASS_DRAWS = 100_000
MAX_SHARE_DRAWS = 10_000
MAX_NUMBERS = 10**7
"""Of random numbers in all, about a second's; three draws are made in any case."""


def iid_split(seed: int, num_samples: int, num_silos: int) -> Silos:
    """Deal shuffled samples out evenly: sizes differ by at most one.

    Args:
        seed: of the shuffle.
        num_samples: n.
        num_silos: K, at most n.

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> from jaxcollapse.silos import iid_split
        >>> [len(silo) for silo in iid_split(0, num_samples=10, num_silos=3)]
        [4, 3, 3]
    """
    num_samples = check_count("num_samples", num_samples, low=1)
    rng, num_silos = _generator(seed), check_count("num_silos", num_silos, low=1, high=num_samples)
    return _group(rng.permutation(num_samples) % num_silos, num_silos)


def class_split(labels: Int[np.ndarray, " n"], num_silos: int) -> Silos:
    """Deal whole classes out in turn: the c-th class, in sorted order, goes to silo c mod K.

    Args:
        labels: class of each sample.
        num_silos: K, at most the number of classes.

    Raises:
        ValueError: if the labels are no vector, or there are more silos than classes.

    Example:
        >>> import numpy as np
        >>> from jaxcollapse.silos import class_split
        >>> [silo.tolist() for silo in class_split(np.array([0, 1, 2, 0]), num_silos=2)]
        [[0, 2, 3], [1]]
    """
    class_of, num_classes = _classes(labels)
    num_silos = check_count("num_silos", num_silos, low=1, high=num_classes)
    return _group(class_of % num_silos, num_silos)


def dirichlet_split(
    seed: int, labels: Int[np.ndarray, " n"], num_silos: int, alpha: float, min_size: int = 10
) -> Silos:
    r"""Divide each class among all silos by Dirichlet shares [hsu2019]_.

    For each class, independently, :math:`p \sim \operatorname{Dir}(\alpha 1_K)`, and its shuffled samples
    are cut at the cumulative shares; all shares are redrawn until every silo is large enough.

    Args:
        seed: of the shares and shuffles.
        labels: class of each sample.
        num_silos: K.
        alpha: concentration; small is skewed, large is even.
        min_size: of the smallest silo, in samples.

    Raises:
        ValueError: if a number is out of range, the data are too few, or `MAX_SHARE_DRAWS` draws of the
            shares, or as many as have `MAX_NUMBERS` in all, leave a silo too small.

    Example:
        >>> import numpy as np
        >>> from jaxcollapse.silos import dirichlet_split
        >>> silos = dirichlet_split(0, np.arange(1000) % 4, num_silos=5, alpha=0.1)
        >>> len(silos), sum(map(len, silos))
        (5, 1000)
    """
    class_of, num_classes = _classes(labels)
    rng, num_silos = _generator(seed), _check_silos(len(class_of), num_silos, alpha, min_size)
    return _cut(rng, class_of, np.ones((num_classes, num_silos), bool), alpha, min_size)


def exdir_split(
    seed: int,
    labels: Int[np.ndarray, " n"],
    num_silos: int,
    classes_per_silo: int,
    alpha: float,
    min_size: int = 10,
) -> Silos:
    r"""Give each silo C classes, each divided by Dirichlet shares: ExDir(C, alpha) [li2023convergence]_.

    Each silo draws C of the L classes, and all redraw until every class has at least
    :math:`\max(\lfloor C K / L / 5 \rfloor, 1)` silos. Then, for each class,
    :math:`p \sim \operatorname{Dir}(\alpha 1)` over its silos, and its shuffled samples are cut at the
    cumulative shares; all shares are redrawn until every silo is large enough.

    Args:
        seed: of the classes, shares and shuffles.
        labels: class of each sample.
        num_silos: K.
        classes_per_silo: C, at most L. A silo whose share of a class rounds to nothing holds fewer.
        alpha: concentration; small is skewed, large is even.
        min_size: of the smallest silo, in samples.

    Raises:
        ValueError: if a number is out of range, the data are too few, C K < L, `MAX_CLASS_DRAWS` draws of
            the classes all leave a class with too few silos, or would almost surely, or `MAX_SHARE_DRAWS` draws of
            the shares all leave a silo too small. Large problems have fewer draws, of `MAX_NUMBERS` in all.

    Example:
        >>> import numpy as np
        >>> from jaxcollapse.silos import exdir_split
        >>> labels = np.arange(1000) % 4
        >>> silos = exdir_split(0, labels, num_silos=4, classes_per_silo=1, alpha=1.0)
        >>> [len(set(labels[silo])) for silo in silos]
        [1, 1, 1, 1]
    """
    class_of, num_classes = _classes(labels)
    rng, num_silos = _generator(seed), _check_silos(len(class_of), num_silos, alpha, min_size)
    classes_per_silo = check_count("classes_per_silo", classes_per_silo, low=1, high=num_classes)
    members = _draw_members(rng, num_classes, num_silos, classes_per_silo)
    return _cut(rng, class_of, members, alpha, min_size)


def stack_silos(points: Float[np.ndarray, "n d"], silos: Silos, dtype: DTypeLike = np.float32) -> Measure:
    """Stack silos as one measure, [K, m, d], with m the largest size; padding has mass zero.

    Args:
        points: all samples, shape [n, d].
        silos: indices of the samples of each silo.
        dtype: of points and masses.

    Raises:
        ValueError: if the points are no matrix or not finite, or a silo is empty.

    Example:
        >>> import numpy as np
        >>> from jaxcollapse.silos import stack_silos
        >>> silos = stack_silos(np.eye(3), (np.array([0, 1]), np.array([2])))
        >>> print(silos.weights)
        [[1. 1.]
         [1. 0.]]
    """
    check_array("points", points)
    points = np.asarray(points, dtype)
    if points.ndim != 2 or 0 in points.shape:
        raise ValueError(f"points: shape {points.shape} must be [n, d], with n and d at least 1")
    check_finite("points", points)
    check_range("size of the smallest silo", min(map(len, silos), default=0), low=1)
    lengths = np.array([len(index) for index in silos])
    size = lengths.max()
    index = np.stack([np.pad(index, (0, size - len(index)), constant_values=index[0]) for index in silos])
    return Measure(jnp.asarray(points[index]), jnp.asarray(np.arange(size) < lengths[:, None], dtype))


def split(points: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], how: str, **settings: Any) -> Measure:
    """Divide samples among silos by a named rule, and stack them as one measure.

    Args:
        points: all samples, shape [n, d].
        labels: class of each sample.
        how: of `SPLITS`.
        settings: arguments of the rule, such as num_silos and seed.

    Raises:
        ValueError: as the rule and `stack_silos`, or if points and labels are not equally many.
        TypeError: if the rule has no such argument.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> silos = jc.split(np.eye(4), np.array([0, 0, 1, 1]), "class", num_silos=2)
        >>> silos.points.shape
        (2, 2, 4)
    """
    check_names("split", [how], SPLITS)
    check_array("points", points)
    num_points, num_labels = (np.shape(given)[:1] for given in (points, _classes(labels)[0]))
    if num_points != num_labels:
        raise ValueError(f"labels: {num_labels[0]} are given for points of shape {np.shape(points)}")
    return stack_silos(points, SPLITS[how](labels, **settings))


SPLITS = {
    "iid": lambda labels, num_silos, seed=0: iid_split(seed, len(labels), num_silos),
    "class": class_split,
    "dirichlet": lambda labels, num_silos, alpha=0.1, seed=0, **least: dirichlet_split(
        seed, labels, num_silos, alpha, **least
    ),
    "exdir": lambda labels, num_silos, classes_per_silo=1, alpha=0.1, seed=0, **least: exdir_split(
        seed, labels, num_silos, classes_per_silo, alpha, **least
    ),
}


def as_silos(silos: Any) -> Measure | Parties:
    """Take silos as a stacked measure: one already, an array [K, m, d], or a list of arrays or measures [m_k, d].

    Parties stay what they are.

    Raises:
        ValueError: if they are none, or a silo is empty or not finite.

    Example:
        >>> import numpy as np
        >>> from jaxcollapse.silos import as_silos
        >>> silos = as_silos([np.zeros((1, 2)), np.ones((3, 2))])
        >>> silos.points.shape, silos.weights.sum(axis=1).tolist()
        ((2, 3, 2), [1.0, 3.0])
    """
    if isinstance(silos, Parties):
        return silos
    if isinstance(silos, list | tuple) and not isinstance(silos, Measure):
        shapes = [np.shape(silo.points if isinstance(silo, Measure) else silo) for silo in silos]
        if not shapes or any(len(shape) != 2 or 0 in shape or shape[1] != shapes[0][1] for shape in shapes):
            raise ValueError(f"silos: shapes {shapes} must be [m_k, d] of one d, none of them empty")
        silos = stack_padded([as_measure(silo) for silo in silos])
    silos = as_measure(silos)
    if silos.points.ndim != 3:
        raise ValueError(f"silos: points of shape {silos.points.shape} must be [K, m, d], a stack of K silos")
    check_measure("silos", silos)
    return silos


def _classes(labels: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], int]:
    try:
        classes, class_of = np.unique(labels, return_inverse=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"labels = {shown(labels)}: must be numbers or texts, [n]") from error
    if np.ndim(labels) != 1 or class_of.size == 0:
        raise ValueError(f"labels: shape {np.shape(labels)} must be [n], with n at least 1")
    return class_of, len(classes)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(check_count("seed", seed, high=2**64 - 1))


def _check_silos(num_samples: int, num_silos: int, alpha: float, min_size: int) -> int:
    num_silos = check_count("num_silos", num_silos, low=1, high=num_samples)
    min_size = check_count("min_size", min_size, low=1)
    if num_silos * min_size > num_samples:
        raise ValueError(
            f"num_silos = {num_silos} of at least min_size = {min_size} among {num_samples} samples: impossible; "
            "lower num_silos or min_size"
        )
    check_range("alpha", alpha, low=1e-6, high=1e6)
    return num_silos


def _group(silo_of: Int[np.ndarray, " n"], num_silos: int) -> Silos:
    order, sizes = np.argsort(silo_of, kind="stable"), np.bincount(silo_of, minlength=num_silos)
    return tuple(np.split(order, np.cumsum(sizes)[:-1]))


def _num_draws(most: int, num_classes: int, num_silos: int) -> int:
    return min(most, max(3, MAX_NUMBERS // (num_classes * num_silos)))


def _draw_members(
    rng: np.random.Generator, num_classes: int, num_silos: int, classes_per_silo: int
) -> Bool[np.ndarray, "classes silos"]:
    least = max(classes_per_silo * num_silos // num_classes // 5, 1)
    asked = (
        f"num_silos = {num_silos} with classes_per_silo = {classes_per_silo}, "
        f"each of {num_classes} classes in at least {least} silos"
    )
    if classes_per_silo * num_silos < num_classes:
        raise ValueError(f"{asked}: impossible; raise num_silos or classes_per_silo")
    # Numbers of silos are binomial, and negatively associated over classes: a draw succeeds at most this often.
    chance = betainc(least, num_silos - least + 1, classes_per_silo / num_classes) ** num_classes
    num_draws = _num_draws(MAX_CLASS_DRAWS, num_classes, num_silos)
    if chance * num_draws < 1e-9:
        raise ValueError(f"{asked}: a draw succeeds with probability {chance:.0e}; raise num_silos or classes_per_silo")
    for _ in range(num_draws):
        members = rng.random((num_classes, num_silos)).argsort(axis=0) < classes_per_silo
        if members.sum(axis=1).min() >= least:
            return members
    raise ValueError(f"{asked}: not met in {num_draws} draws; raise num_silos or classes_per_silo")


def _draw_shares(
    rng: np.random.Generator, members: Bool[np.ndarray, "classes silos"], alpha: float
) -> Float[np.ndarray, "classes silos"]:
    r"""Draw Dirichlet shares from gamma variables kept as logarithms, which do not underflow.

    :math:`\log G_\alpha = \log G_{\alpha + 1} - E / \alpha` in law, with E standard exponential; so the
    largest share of a class is never lost, and no sum is zero.
    """
    log_gamma = np.log(rng.standard_gamma(alpha + 1, members.shape))
    log_gamma -= rng.standard_exponential(members.shape) / alpha
    log_gamma = np.where(members, log_gamma, -np.inf)
    gamma = np.exp(log_gamma - log_gamma.max(axis=1, keepdims=True))
    return gamma / gamma.sum(axis=1, keepdims=True)


def _draw_counts(
    rng: np.random.Generator,
    class_sizes: Int[np.ndarray, " classes"],
    members: Bool[np.ndarray, "classes silos"],
    alpha: float,
    min_size: int,
) -> Int[np.ndarray, "classes silos"]:
    num_draws = _num_draws(MAX_SHARE_DRAWS, *members.shape)
    for _ in range(num_draws):
        shares = _draw_shares(rng, members, alpha)
        # Rounding down would lose the last sample of a class, where shares add up to just below one.
        cuts = np.rint(np.cumsum(shares, axis=1) * class_sizes[:, None]).astype(int)
        counts = np.diff(cuts, axis=1, prepend=0)
        if counts.sum(axis=0).min() >= min_size:
            return counts
    raise ValueError(
        f"num_silos = {members.shape[1]} of at least min_size = {min_size} "
        f"among {class_sizes.sum()} samples, alpha = {alpha:g}: not met in {num_draws} draws; "
        "raise alpha, lower min_size or num_silos, or try another seed"
    )


def _cut(
    rng: np.random.Generator,
    class_of: Int[np.ndarray, " n"],
    members: Bool[np.ndarray, "classes silos"],
    alpha: float,
    min_size: int,
) -> Silos:
    num_silos = members.shape[1]
    counts = _draw_counts(rng, np.bincount(class_of), members, alpha, min_size)
    silo_of = np.empty_like(class_of)
    for c, count in enumerate(counts):
        silo_of[rng.permutation(np.flatnonzero(class_of == c))] = np.repeat(np.arange(num_silos), count)
    return _group(silo_of, num_silos)
