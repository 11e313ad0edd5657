"""Verifiers: the named ways to select from silos, with what each sends. A new one is a line in `VERIFIERS`."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jaxcollapse import scores, selectors
from jaxcollapse.base import Counted, Measure, Moments, Parties, Select, Target
from jaxcollapse.checks import check_names, check_range, is_known
from jaxcollapse.exchanges import (
    barycenter,
    capped_transport,
    carry_out,
    carry_out_counted,
    feature_means,
    federated_sinkhorn,
    geodesic,
    kernel_densities,
    message_bytes,
    moments,
)
from jaxcollapse.features import kernel_features, quadratic_features
from jaxcollapse.generators.gaussian import gaussian
from jaxcollapse.measures import as_moments, compact, pooled, uniform_measure
from jaxcollapse.privacy import noise_needed
from jaxcollapse.selectors.budget import keep_highest
from jaxcollapse.silos import as_silos
from jaxcollapse.sizes import sizes
from jaxcollapse.targets import fit_target
from jaxcollapse.transport.sinkhorn import mean_cost
from jaxcollapse.tree import expand, num_bytes, row

_NUM_LANDMARKS = 200
_LANDMARKS = 2**32 - 3  # beyond the seeds and the messages that a key is folded with
_WIDE, _NARROW = 0.2, 0.05  # widths of kernels over the mean cost: for the shape of the data, and for lone junk


@dataclasses.dataclass(frozen=True)
class Settings:
    """What verifiers are set by; each uses some.

    Attributes:
        silo: the one that verifies, where one does; it may be traced.
        epsilon: regularisation, relative to the mean cost of the real data with themselves, at least 1e-3: below it
            single precision does not reach the marginals.
        tau: place of Scheme I's references on the geodesic from the pool to a silo.
        num_support: support points S of the schemes' references.
        num_rounds: rounds of the schemes.
        num_self: candidates that stand for the pool where potentials are debiased; none: they are not.
        max_rounds: rounds of federated Sinkhorn and of capped transport at most; they take as many as they need.
        num_gradients: gradients that the logistic fit asks of each silo in a generation.
        privacy: loss of privacy (epsilon, delta) of a silo's one message, for `private_tilt`.
        max_norm: bound on the features of `private_tilt`.
        public_scale: standard deviation of a coordinate as it is publicly known, about zero, in data units. The
            features of `private_tilt` are those of points over it: coordinates from the data would tell of them.
    """

    silo: Any = 0
    epsilon: float = 0.02
    tau: float = 0.5
    num_support: int = 100
    num_rounds: int = 8
    num_self: int = 0
    max_rounds: int = 1000
    num_gradients: int = 100
    privacy: tuple[float, float] = (1.0, 1e-5)
    max_norm: float = 6.0
    public_scale: float = 1.0


class Problem(NamedTuple):
    """What a verifier is made from.

    Attributes:
        key: of what it draws.
        silos: stacked, [K, m, d].
        moments: of their union, which parties share.
        epsilon: in squared units of the data.
        settings: of the verifier.
    """

    key: Key[Array, ""]
    silos: Measure | Parties
    moments: Moments
    epsilon: Array
    settings: Settings

    @property
    def cost(self) -> Array:
        """The mean squared distance of the real data from themselves, in squared units of the data."""
        return mean_cost(self.moments, self.moments)

    @property
    def whitening(self) -> Target:
        """The coordinates in which the union of silos has mean zero and covariance one."""
        return fit_target(self.moments, name="silos")

    @property
    def features(self) -> quadratic_features:
        """Whitened by the shared moments."""
        return quadratic_features(self.whitening)

    @property
    def known_key(self) -> Key[Array, ""]:
        """What all may draw the same landmarks with; no noise comes of it."""
        return jax.random.fold_in(self.key, _LANDMARKS)

    @property
    def landmark_features(self) -> kernel_features:
        """The kernel at landmarks drawn from the shared moments."""
        return kernel_features(gaussian().sample(self.known_key, self.moments, _NUM_LANDMARKS), _WIDE * self.cost)

    @property
    def one(self) -> Measure:
        """The silo that verifies; NaN where there is none of that index."""
        return jax.tree.map(lambda leaf: leaf.at[self.settings.silo].get(mode="fill", fill_value=jnp.nan), self.silos)

    def gradient(self, reference: Measure | Counted) -> scores.calibrated_gradient:
        """Score towards a reference."""
        return scores.calibrated_gradient(reference, self.epsilon, num_self=self.settings.num_self)

    @property
    def fitted_ratio(self) -> scores.logistic_ratio:
        """Score by the density ratio that exchanged gradients fit."""
        return scores.logistic_ratio(self.silos, self.moments, num_rounds=self.settings.num_gradients)

    @property
    def federated(self) -> federated_sinkhorn:
        """The exchange of potentials towards the silos' mixture."""
        return federated_sinkhorn(self.epsilon, num_rounds=self.settings.max_rounds)

    @property
    def barycenter(self) -> barycenter:
        """The exchange of Scheme II."""
        s = self.settings
        return barycenter(self.moments, self.epsilon, num_support=s.num_support, num_rounds=s.num_rounds)

    @property
    def geodesic(self) -> geodesic:
        """The exchange of Scheme I."""
        s = self.settings
        return geodesic(self.epsilon, s.tau, num_support=s.num_support, num_rounds=s.num_rounds)

    @property
    def private_means(self) -> feature_means:
        """The one private message."""
        noise = noise_needed(self.settings.privacy[0], 1, self.settings.privacy[1])
        return feature_means(self.public_features, noise * 2 * self.settings.max_norm)

    @property
    def private_messages(self) -> tuple[feature_means, feature_means]:
        """Two private messages that share one loss of privacy: quadratic features, and the kernel at landmarks."""
        s, (*_, dim), dtype = self.settings, self.silos.points.shape, self.silos.points.dtype
        noise = noise_needed(s.privacy[0], 2, s.privacy[1])
        landmarks = s.public_scale * jax.random.normal(self.known_key, (_NUM_LANDMARKS, dim), dtype)
        kernel = kernel_features(landmarks, _WIDE * 2 * dim * s.public_scale**2)
        return feature_means(self.public_features, noise * 2 * s.max_norm), feature_means(kernel, noise * 2)

    @property
    def public_features(self) -> quadratic_features:
        """In coordinates that tell nothing of the data, bounded."""
        s, (*_, dim), dtype = self.settings, self.silos.points.shape, self.silos.points.dtype
        public = Target(jnp.zeros(dim, dtype), jnp.eye(dim, dtype=dtype) / s.public_scale)
        return quadratic_features(public, s.max_norm)


def random(p: Problem) -> Select:
    """Keep candidates at random."""
    return selectors.random()


def single_silo(p: Problem) -> Select:
    """Keep what brings the pool nearer to one silo: the biased verifier."""
    return selectors.top(p.gradient(p.one))


def reversed_silo(p: Problem) -> Select:
    """Keep what takes the pool away from one silo: the negative control."""
    return selectors.bottom(p.gradient(p.one))


def union_of_silos(p: Problem) -> Select:
    """Keep what brings the pool nearer to all data together: the oracle that privacy rules out."""
    return selectors.top(p.gradient(pooled(p.silos)))


def per_silo(p: Problem) -> Select:
    """Let every silo score, and keep what serves all of them by a concave function of each one's gain."""
    return selectors.submodular(jax.vmap(p.gradient)(p.silos))


def scheme_i(p: Problem) -> Select:
    """Serve references on the geodesics from the pool to every silo [qiao2026]_."""

    def near(silos: Measure | Parties) -> scores.exchanged_gradient:
        return scores.exchanged_gradient(p.geodesic, silos, p.settings.num_self)

    if isinstance(p.silos, Parties):
        return selectors.submodular(tuple(map(near, p.silos.each())))
    return selectors.submodular(jax.vmap(lambda silo: near(expand(silo)))(p.silos))


def scheme_ii(p: Problem) -> Select:
    """Keep what brings the pool nearer to the silos' barycenter [qiao2026]_."""
    return selectors.top(p.gradient(carry_out_counted(p.barycenter, p.key, None, p.silos)))


def by_federated_sinkhorn(p: Problem) -> Select:
    """Keep what brings the pool nearer to the silos' mixture, by potentials that they find together."""
    return selectors.top(scores.exchanged_gradient(p.federated, p.silos))


def moment_ratio(p: Problem) -> Select:
    """Resample by the density ratio of Gaussian models."""
    return selectors.soft(scores.moment_ratio(as_moments(p.silos)))


def logistic_ratio(p: Problem) -> Select:
    """Resample by a density ratio that exchanged gradients fit."""
    return selectors.soft(p.fitted_ratio)


def tilt(p: Problem) -> Select:
    """Resample by the density ratio that gives the kept set the silos' moments, told once."""
    goal = carry_out(feature_means(p.features), p.key, None, p.silos)
    return selectors.soft(scores.tilted_ratio(p.features, goal))


def private_tilt(p: Problem) -> Select:
    """Do so with bounded features and noise, so that the one message is private."""
    goal = carry_out(p.private_means, p.key, None, p.silos)
    return selectors.soft(scores.tilted_ratio(p.private_means.features, goal, 1e-2))


def recoloured(p: Problem) -> Select:
    """Keep candidates at random, moved until their moments are the silos': the baseline of moments alone."""
    return selectors.recoloured(p.moments)


def balanced(p: Problem) -> Select:
    """Balance nearness to the silos' mixture with moments between the pool's and the silos'."""
    goal = carry_out(feature_means(p.features), p.key, None, p.silos)
    near = scores.standardised(scores.exchanged_gradient(p.federated, p.silos))
    return selectors.balanced((selectors.feature_goal(p.features, goal, pull=0.25),), near, 2.0)


def kernel_balanced(p: Problem) -> Select:
    """Balance the ratio of kernel densities with the silos' moments and their mean kernel."""
    goal = carry_out(feature_means(p.features), p.key, None, p.silos)
    goals = (
        selectors.feature_goal(p.features, goal),
        selectors.kernel_goal(p.silos, _WIDE * p.cost, num_landmarks=_NUM_LANDMARKS),
    )
    return selectors.balanced(goals, scores.kernel_ratio(p.silos, _NARROW * p.cost))


def landmark_balanced(p: Problem) -> Select:
    """Balance the silos' moments and their mean kernel at landmarks that all know, both told once."""
    asked = p.features, p.landmark_features
    goals = [carry_out(feature_means(each), p.key, None, p.silos) for each in asked]
    return selectors.balanced(tuple(map(selectors.feature_goal, asked, goals, (1e-3, 3e-4))))


def private_balanced(p: Problem) -> Select:
    """Do so with bounded features and noise, so that both messages together are private."""
    asked = p.private_messages
    goals = [carry_out(each, jax.random.fold_in(p.key, i), None, p.silos) for i, each in enumerate(asked)]
    return selectors.balanced(
        tuple(selectors.feature_goal(each.features, goal, 1e-2) for each, goal in zip(asked, goals, strict=True))
    )


def capped(p: Problem) -> Select:
    """Keep the candidates to which the silos' mixture is cheapest to move, each once."""
    return selectors.capped(p.silos, p.epsilon, p.settings.max_rounds)


def center_matching(p: Problem) -> Select:
    """Match the mean of one silo."""
    return selectors.center_matching(as_moments(p.one))


def covariance_matching(p: Problem) -> Select:
    """Match the covariance of one silo."""
    return selectors.covariance_matching(as_moments(p.one))


def k_means(p: Problem) -> Select:
    """Keep representatives of the pool, whatever the silos."""
    return selectors.k_means()


def unbiased_silo(p: Problem) -> Select:
    """Keep what brings the pool nearer to a silo of one's size dealt from all: the control without bias."""
    everyone, num_points = pooled(p.silos), p.silos.weights.shape[-1]
    size = dataclasses.replace(sizes(num_points), num_kept=jnp.sum(p.one.weights > 0))
    chosen = keep_highest(jax.random.uniform(p.key, everyone.weights.shape), everyone, size).value
    return selectors.top(p.gradient(compact(everyone._replace(weights=chosen), num_points)))


def keep_all(p: Problem) -> Select:
    """Select nothing away."""
    return selectors.keep_all()


Cost = Callable[[Problem, Measure], int]


def _nothing(p: Problem, pool: Measure) -> int:
    return 0


def _scores(p: Problem, pool: Measure) -> int:
    return num_bytes((pool.points, pool.weights))


def _data(p: Problem, pool: Measure) -> int:
    return num_bytes(row(p.silos.points, 0))


def _by(*exchanges: Callable[[Problem, Measure], Any]) -> Cost:
    return lambda p, pool: sum(message_bytes(exchange(p, pool), pool, row(p.silos, 0)) for exchange in exchanges)


class Verifier(NamedTuple):
    """A named way to select, and the bytes that it exchanges with each silo that takes part.

    Attributes:
        make: from a problem to a selector.
        before: bytes before the first generation, besides the moments that set scales for all.
        each: bytes in a generation.
        everyone: whether all silos take part, or the verifier's alone.
    """

    make: Callable[[Problem], Select]
    before: Cost = _nothing
    each: Cost = _nothing
    everyone: bool = True


_moments = _by(lambda p, pool: moments())
_means = _by(lambda p, pool: feature_means(p.features))
_potentials = _by(lambda p, pool: p.federated)


def _densities(p: Problem, pool: Measure) -> int:
    """Those at all candidates, and at landmarks."""
    landmarks = uniform_measure(pool.points[:_NUM_LANDMARKS])
    return sum(message_bytes(kernel_densities(p.cost), points, row(p.silos, 0)) for points in (pool, landmarks))


VERIFIERS = {
    "random": Verifier(random),
    "single_silo": Verifier(single_silo, each=_scores, everyone=False),
    "reversed_silo": Verifier(reversed_silo, each=_scores, everyone=False),
    "pooled": Verifier(union_of_silos, before=_data),
    "per_silo": Verifier(per_silo, each=_scores),
    "scheme_i": Verifier(scheme_i, each=_by(lambda p, pool: p.geodesic)),
    "scheme_ii": Verifier(scheme_ii, before=_by(lambda p, pool: moments(), lambda p, pool: p.barycenter)),
    "federated_sinkhorn": Verifier(by_federated_sinkhorn, each=_potentials),
    "moment_ratio": Verifier(moment_ratio, before=_moments),
    "logistic_ratio": Verifier(
        logistic_ratio, before=_moments, each=_by(lambda p, pool: p.fitted_ratio.exchange(pool))
    ),
    "recoloured": Verifier(recoloured, before=_moments),
    "tilt": Verifier(tilt, before=_means),
    "private_tilt": Verifier(private_tilt, before=_by(lambda p, pool: p.private_means)),
    "balanced": Verifier(balanced, before=_means, each=_potentials),
    "kernel_balanced": Verifier(kernel_balanced, before=_means, each=_densities),
    "landmark_balanced": Verifier(
        landmark_balanced,
        before=_by(lambda p, pool: feature_means(p.features), lambda p, pool: feature_means(p.landmark_features)),
    ),
    "private_balanced": Verifier(
        private_balanced, before=_by(*(lambda p, pool, i=i: p.private_messages[i] for i in (0, 1)))
    ),
    "capped": Verifier(capped, each=_by(lambda p, pool: capped_transport(p.epsilon, 1, p.settings.max_rounds))),
    "center_matching": Verifier(center_matching, before=_moments, everyone=False),
    "covariance_matching": Verifier(covariance_matching, before=_moments, everyone=False),
    "k_means": Verifier(k_means),
    "unbiased_silo": Verifier(unbiased_silo),
    "keep_all": Verifier(keep_all),
}


APART = (
    "scheme_i", "scheme_ii", "federated_sinkhorn", "logistic_ratio", "tilt", "private_tilt", "balanced",
    "kernel_balanced", "landmark_balanced", "private_balanced", "capped",
)  # fmt: skip
"""Verifiers that are made of exchanges alone."""


def verifier(name: str, silos: Any, key: Key[Array, ""] | None = None, **settings: Any) -> Select:
    """Make a named way to select, from silos.

    Args:
        name: of `VERIFIERS`.
        silos: stacked measure [K, m, d], or arrays: one [K, m, d] or a list of [m_k, d].
        key: of what the verifier draws before the first generation.
        settings: of `Settings`.

    Raises:
        ValueError: if the name or a setting is not known or out of range, or a silo is empty or not finite.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> silos = np.array([[[0.0], [1.0]], [[4.0], [5.0]]])
        >>> select = jc.verifier("center_matching", silos, silo=1)
        >>> print(select(jax.random.key(0), pool, jc.sizes(2, 0.5)).value)  # nearest to the second silo
        [0. 0. 1. 1.]
    """
    check_names("verifier", [name], VERIFIERS)
    return VERIFIERS[name].make(problem(silos, key, **settings))


def problem(silos: Any, key: Key[Array, ""] | None = None, **settings: Any) -> Problem:
    """Check silos and settings, and compute what parties share."""
    check_names("setting", settings, [field.name for field in dataclasses.fields(Settings)])
    chosen, silos = Settings(**settings), as_silos(silos)
    check_settings(chosen)
    num_silos = silos.weights.shape[0]
    if is_known(chosen.silo):
        check_range("silo", chosen.silo, low=0, high=num_silos - 1)
    shared = carry_out(moments(), jax.random.key(0), None, silos)
    epsilon = chosen.epsilon * mean_cost(shared, shared)
    if is_known(epsilon) and not np.asarray(epsilon) > 0:
        raise ValueError("silos: all points are equal, which leaves transport without a scale")
    return Problem(jax.random.key(0) if key is None else key, silos, shared, epsilon, chosen)


def check_settings(settings: Any) -> None:
    """Check the settings of verifiers, or a configuration that has them.

    Raises:
        ValueError: at the first that is not allowed.
    """
    check_range("epsilon", settings.epsilon, low=1e-3)
    check_range("tau", settings.tau, low=1e-3, high=1 - 1e-3)
    for name in ("num_support", "num_rounds", "max_rounds", "num_gradients"):
        check_range(name, getattr(settings, name), low=1)
    check_range("num_self", settings.num_self, low=0)
    loss, delta = settings.privacy
    check_range("privacy, epsilon", loss, low=1e-6)
    check_range("privacy, delta", delta, low=1e-15, high=0.5)
    for name in ("max_norm", "public_scale"):
        check_range(name, getattr(settings, name), low=1e-6)


def verifier_bytes(name: str, silos: Measure, num_candidates: int, **settings: Any) -> tuple[int, int]:
    """Count the bytes that a verifier exchanges with all silos at most: before the first generation, and in each.

    Args:
        name: of `VERIFIERS`.
        silos: stacked, [K, m, d].
        num_candidates: N.
        settings: of `Settings`.
    """
    found = VERIFIERS[name]
    num_silos, _, dim = silos.points.shape
    pool = uniform_measure(jnp.zeros((num_candidates, dim), silos.points.dtype))
    p = problem(silos, **settings)
    taking_part = num_silos if found.everyone else 1
    return taking_part * found.before(p, pool), taking_part * found.each(p, pool)
