r"""Selection as importance resampling: scores that estimate log dQ/dP, of the mixture Q of all silos to the pool P.

Top-n keeps what is most typical. `soft_budget` on a log ratio at temperature one draws candidates with probability
proportional to dQ/dP instead, so that the kept set follows Q where P covers it, exactly so as n / N -> 0: at larger
budgets a candidate, which can be kept only once, is kept with probability :math:`1 - \exp(-\tau\, dQ/dP)` [rosen1972]_,
between Q and P. Another temperature T resamples with :math:`(dQ/dP)^{1/T}`.

The reference of one score is a whole mixture, so the references of a selection are one stack of silos, [r = 1, K, ...]:
over several references scores would be averaged, which multiplies densities where a mixture adds them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxcollapse.base import Data, Measure, Moments, ScoreFn, Target
from jaxcollapse.measures import as_moments, merge, union
from jaxcollapse.targets import fit_target


def moment_ratio(ridge: float = 0.0, clip: float = jnp.inf) -> ScoreFn:
    r"""Score by the ratio of Gaussian models, known from the silos' moments alone.

    .. math:: U(x) = \log \sum_k \frac{m_k}{m} N(x; \mu_k, \Sigma_k) - \log N(x; \mu_P, \Sigma_P).

    The reference is the moments of K silos, or their data, with a leading axis K; a silo without mass is not there.
    Wrong models are exponentiated, too: where the silos are not Gaussian, prefer `logistic_ratio`.

    Args:
        ridge: regularisation of each covariance, relative to its mean variance.
        clip: bound on the absolute value of the score.
    """

    def score(key, pool: Measure, reference: Data) -> Float[Array, " n"]:
        silos = as_moments(reference)
        identity = jnp.eye(pool.points.shape[-1], dtype=pool.points.dtype)
        there = silos.mass > 0
        silos = silos._replace(covariance=jnp.where(there[:, None, None], silos.covariance, identity))
        share = jnp.where(there, silos.mass, 0) / silos.mass.sum()
        mixture = jax.vmap(lambda silo: _log_gaussian(silo, pool.points, ridge))(silos)
        log_mixture = jax.nn.logsumexp(mixture, axis=0, b=share[:, None])
        return jnp.clip(log_mixture - _log_gaussian(as_moments(pool), pool.points, ridge), -clip, clip)

    return score


def _log_gaussian(moments: Moments, points: Float[Array, "n d"], ridge: float) -> Float[Array, " n"]:
    """Evaluate the log density of a Gaussian, up to the constant that cancels in a ratio."""
    location, factor = fit_target(moments, ridge)
    energy = jnp.sum(((points - location) @ factor.T) ** 2, axis=1)
    return jnp.log(jnp.diagonal(factor)).sum() - energy / 2


class Features(NamedTuple):
    """Coordinates and bound of `quadratic_features`.

    Attributes:
        frame: where and along which axes the features are taken.
        max_norm: to which longer vectors of features are shortened, shape [].
    """

    frame: Target
    max_norm: Float[Array | float, "*stack"]


class LogRatio(NamedTuple):
    """A quadratic log density ratio: `log_ratio` evaluates it.

    Attributes:
        theta: coefficients of `quadratic_features`, the first of the constant, shape [1 + d + d (d + 1) / 2].
        features: of the points.
    """

    theta: Float[Array, "*stack f"]
    features: Features


class Message(NamedTuple):
    """All that a silo tells the server in one round.

    Attributes:
        gradient: of the silo's summed loss, shape [f].
        mass: of the silo, shape [].
    """

    gradient: Float[Array, "*stack f"]
    mass: Float[Array, "*stack"]


class ServerState(NamedTuple):
    """What the server keeps between rounds.

    Attributes:
        theta: the coefficients that the silos are asked about, shape [f].
        previous: the last point that a gradient step reached, shape [f].
        age: rounds since the momentum was last reset, shape [].
    """

    theta: Float[Array, "*stack f"]
    previous: Float[Array, "*stack f"]
    age: Int[Array, "*stack"]


def quadratic_features(features: Features, points: Float[Array, "n d"]) -> Float[Array, "n f"]:
    r"""List :math:`1,\; y_i,\; (y_i^2 - 1)/\sqrt 2,\; y_i y_j\; (i < j)` of :math:`y = G(x - u)`, shortened to a bound.

    They are orthonormal where y is standard normal, which makes gradient steps short work.
    """
    frame, max_norm = features
    y = (points - frame.location) @ frame.factor.T
    row, column = jnp.triu_indices(y.shape[1], 1)
    square = (y**2 - 1) / jnp.sqrt(jnp.asarray(2, y.dtype))
    phi = jnp.concatenate([jnp.ones_like(y[:, :1]), y, square, y[:, row] * y[:, column]], axis=1)
    return phi * jnp.minimum(1, max_norm / jnp.linalg.norm(phi, axis=1, keepdims=True))


def log_ratio(fitted: LogRatio, points: Float[Array, "n d"]) -> Float[Array, " n"]:
    r"""Evaluate :math:`\log dQ/dP(x) = \theta' \phi(x)`."""
    return quadratic_features(fitted.features, points) @ fitted.theta


def shared_features(moments: Moments, pool: Measure, ridge: float = 0.0) -> Features:
    r"""Whiten by the moments of :math:`Q/2 + P/2`, with Q given by the moments of the silos, stacked [K]."""
    half = jnp.full((), 0.5, pool.points.dtype)
    both = merge(union(moments)._replace(mass=half), as_moments(pool)._replace(mass=half))
    return Features(fit_target(both, ridge), jnp.inf)


def lift(features: Features, measure: Measure) -> Measure:
    """Map the points of a measure to their `quadratic_features`, [n, f]: once, before the rounds."""
    return Measure(quadratic_features(features, measure.points), measure.weights)


def silo_curvature(silo: Measure) -> Float[Array, ""]:
    r"""Bound the curvature of a lifted silo's loss, by the greatest eigenvalue of a quarter of its second moments.

    .. math:: L_k = \tfrac14 \lambda_{\max} \Big( \sum_i w_i \phi_i \phi_i' \Big).

    The one number that a silo sends before the rounds, besides its moments: the server needs it for a safe step.
    """
    return jnp.linalg.eigvalsh(jnp.einsum("n,nf,ng->fg", silo.weights, silo.points, silo.points))[-1] / 4


def silo_gradient(theta: Float[Array, " f"], silo: Measure) -> Message:
    r"""Differentiate a lifted silo's loss, :math:`\sum_i w_i \log(1 + e^{-\theta' \phi_i})`: all labelled one.

    At theta = 0 the gradient is the silo's first two moments, which the frame has cost already. Later ones are
    further moments, weighted by the logistic curve: a silo of few points is exposed by enough rounds.
    """
    residual = silo.weights * jax.nn.sigmoid(-silo.points @ theta)
    return Message(-residual @ silo.points, silo.weights.sum())


def server_start(features: Features) -> ServerState:
    """Begin where P and Q are thought equal."""
    location = features.frame.location
    dim = location.shape[-1]
    theta = jnp.zeros(1 + dim + dim * (dim + 1) // 2, location.dtype)
    return ServerState(theta, theta, jnp.int32(0))


def server_update(
    state: ServerState,
    messages: Message,
    pool: Measure,
    step: Float[Array | float, ""],
    regularisation: Float[Array | float, ""],
) -> ServerState:
    r"""Take one step of Nesterov's method [nesterov1983]_, momentum reset where it points uphill [odonoghue2015]_.

    .. math:: J(\theta) = \tfrac12 E_Q \log(1 + e^{-\theta'\phi}) + \tfrac12 E_P \log(1 + e^{\theta'\phi})
              + \tfrac{\lambda}{2} \sum_{j > 0} \theta_j^2.

    Both classes weigh one half, so that :math:`\theta'\phi` estimates log dQ/dP itself, without an offset for sizes.

    Args:
        state: of the server.
        messages: of the silos, stacked [K]; Q is their mixture in proportion to mass.
        pool: the server's own lifted candidates, labelled zero.
        step: at most one over the curvature of J.
        regularisation: lambda.
    """
    ours = silo_gradient(-state.theta, pool)
    data = messages.gradient.sum(axis=0) / messages.mass.sum() - ours.gradient / ours.mass
    gradient = data / 2 + regularisation * state.theta.at[0].set(0)
    reached = state.theta - step * gradient
    downhill = gradient @ (reached - state.previous) <= 0
    age = jnp.where(downhill, state.age + 1, 0)
    momentum = (age / (age + 3)).astype(reached.dtype)
    return ServerState(reached + momentum * (reached - state.previous), reached, age)


def fit_logistic(
    silos: Measure,
    pool: Measure,
    num_rounds: int = 500,
    regularisation: Float[Array | float, ""] = 1e-3,
    ridge: float = 1e-6,
) -> LogRatio:
    """Fit the log ratio of the silos' mixture to the pool by rounds of `silo_gradient` and `server_update`.

    Run in one program, with the exchanges written out: of the silos nothing is read but moments, curvatures
    and gradients.

    Args:
        silos: stacked, [K, m, d].
        pool: P, the candidates.
        num_rounds: gradients asked of each silo; the most skewed silos need the most.
        regularisation: of `server_update`.
        ridge: of the covariance that whitens the features, relative to its mean variance.
    """
    features = shared_features(as_moments(silos), pool, ridge)
    silos, pool = jax.vmap(lift, in_axes=(None, 0))(features, silos), lift(features, pool)
    curvature = jax.vmap(silo_curvature)(silos).sum() / silos.weights.sum()
    step = 1 / ((curvature + silo_curvature(pool) / pool.weights.sum()) / 2 + regularisation)

    def exchange(_, state):
        messages = jax.vmap(silo_gradient, in_axes=(None, 0))(state.theta, silos)
        return server_update(state, messages, pool, step, regularisation)

    return LogRatio(jax.lax.fori_loop(0, num_rounds, exchange, server_start(features)).previous, features)


def logistic_ratio(
    num_rounds: int = 500, regularisation: float = 1e-3, ridge: float = 1e-6, clip: float = jnp.inf
) -> ScoreFn:
    r"""Score by the quadratic log ratio that tells the silos' mixture from the pool best [sugiyama2012]_.

    The reference is the data of K silos, [K, m, d]; only gradients leave them.

    Args:
        num_rounds: as in `fit_logistic`.
        regularisation: as in `server_update`.
        ridge: as in `fit_logistic`.
        clip: bound on the absolute value of the score.
    """

    def score(key, pool: Measure, reference: Measure) -> Float[Array, " n"]:
        fitted = fit_logistic(reference, pool, num_rounds, regularisation, ridge)
        return jnp.clip(log_ratio(fitted, pool.points), -clip, clip)

    return score


class FeatureMean(NamedTuple):
    """All that a silo tells the server for `tilted_ratio`, once.

    Attributes:
        mean: of the silo's `quadratic_features`, shape [f].
        mass: of the silo, shape [].
    """

    mean: Float[Array, "*stack f"]
    mass: Float[Array, "*stack"]


def silo_mean(features: Features, silo: Measure) -> FeatureMean:
    r"""Average the features of a silo.

    Without a bound on them these are the silo's mean and covariance in other words. With features bounded by C,
    replacing one of m samples of equal mass moves the mean by at most 2 C / m, the sensitivity by which to choose the
    noise of `jaxcollapse.privacy.gaussian_mechanism`.
    """
    mass = silo.weights.sum()
    return FeatureMean(silo.weights / jnp.where(mass > 0, mass, 1) @ quadratic_features(features, silo.points), mass)


def server_mean(messages: FeatureMean) -> Float[Array, " f"]:
    r"""Average the features over all silos, :math:`E_Q \phi`, from their messages, stacked [K]."""
    return messages.mass / messages.mass.sum() @ messages.mean


def fit_tilt(
    features: Features,
    goal: Float[Array, " f"],
    pool: Measure,
    regularisation: Float[Array | float, ""] = 1e-3,
    num_iterations: int = 20,
) -> LogRatio:
    r"""Tilt the pool until its features have a given mean: the log-linear density ratio of [tsuboi2009]_.

    .. math:: \min_\theta \; \log E_P e^{\theta'\phi} - \theta' E_Q \phi + \tfrac{\lambda}{2} \lVert \theta \rVert^2,

    convex, and at its minimum :math:`E_P[\phi e^{\theta'\phi}] / E_P[e^{\theta'\phi}] = E_Q \phi - \lambda \theta`.
    Newton's method, each step cut by halves until the objective falls.

    Args:
        features: of the points.
        goal: :math:`E_Q \phi`.
        pool: P.
        regularisation: :math:`\lambda`, which keeps :math:`\theta` finite where no tilt of the pool reaches the goal.
        num_iterations: Newton steps.
    """
    phi, log_p = quadratic_features(features, pool.points), jnp.log(pool.weights / pool.weights.sum())
    lengths = jnp.append(2.0 ** -jnp.arange(12.0), 0).astype(phi.dtype)

    def objective(theta):
        return jax.nn.logsumexp(phi @ theta + log_p) - theta @ goal + regularisation / 2 * theta @ theta

    def newton(_, theta):
        tilted = as_moments(Measure(phi, jax.nn.softmax(phi @ theta + log_p)))
        gradient = tilted.mean - goal + regularisation * theta
        hessian = tilted.covariance + regularisation * jnp.eye(len(goal), dtype=phi.dtype)
        trials = theta - lengths[:, None] * jnp.linalg.solve(hessian, gradient)
        return trials[jnp.argmin(jax.vmap(objective)(trials))]

    return LogRatio(jax.lax.fori_loop(0, num_iterations, newton, jnp.zeros_like(goal)), features)


def tilted_ratio(features: Features, regularisation: float = 1e-3, clip: float = jnp.inf) -> ScoreFn:
    r"""Score by the quadratic log ratio that gives the kept candidates the mean features of the silos' mixture.

    The reference is the messages of K silos, stacked; they are sent once, and serve every generation. Right whatever
    the densities as far as first and second moments go, unlike `moment_ratio`, and blind to everything else.

    Args:
        features: the same as in the messages.
        regularisation: as in `fit_tilt`.
        clip: bound on the absolute value of the score.
    """

    def score(key, pool: Measure, reference: FeatureMean) -> Float[Array, " n"]:
        fitted = fit_tilt(features, server_mean(reference), pool, regularisation)
        return jnp.clip(log_ratio(fitted, pool.points), -clip, clip)

    return score
