r"""What a silo answers: its own limits, checked beside the data before anything is sent, and a ledger of what was.

The privacy of all noisy messages of a silo's lifetime is accounted for together. T Gaussian mechanisms of noise
multipliers :math:`z_t` are as private as telling :math:`N(0, 1)` from :math:`N(\mu, 1)` is hard, with
:math:`\mu^2 = \sum_t z_t^{-2}` [dong2022]_. An exchange without noise has no such bound: one that is allowed by name
counts as disclosed, and is told apart.
"""

import dataclasses
import json
import math
import os
import time
import tomllib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcollapse.base import Exchange, Measure, Target
from jaxcollapse.checks import check_count, check_names, check_range
from jaxcollapse.exchanges import (
    EXCHANGES,
    barycenter,
    capped_transport,
    feature_means,
    federated_sinkhorn,
    geodesic,
    kernel_densities,
    logistic,
)
from jaxcollapse.features import kernel_features, quadratic_features
from jaxcollapse.measures import share, uniform_measure
from jaxcollapse.privacy import privacy_loss
from jaxcollapse.transport.sinkhorn import largest_share, log_partition, sinkhorn, soft_c_transform

MOST_NUMBER, MOST_NORM = 1e15, 1e6  # within which single precision holds features, their squares and the noise
NO_LIMIT = 2**63


class Declined(Exception):
    """A request is beyond the policy; the argument names the limit, and tells nothing of the data."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """Limits of a silo.

    Attributes:
        exchanges: names of `EXCHANGES` that are answered.
        max_rounds: of an exchange.
        max_bytes: that the silo sends in a call.
        max_total_bytes: that it sends in its lifetime, by the ledger.
        least_rows: of the silo's data; with fewer nothing is answered.
        least_support: different points at which an exchange asks, where it asks at points.
        max_support: landmarks of features, and points of which Schemes I and II ask for images: they bound memory.
        max_exposure: largest share of one of the silo's rows in a number or an image that is asked for, but for noisy
            ones within epsilon.
        epsilon: loss of privacy of all noisy messages together, ever. With a finite one `feature_means` are told with
            noise alone; other exchanges spend none of it, and are answered where `exchanges` names them.
        delta: its probability of failure.

    Example:
        >>> from jaxcollapse.network.policy import Policy
        >>> policy = Policy(exchanges=("moments", "feature_means"), least_rows=100)
        >>> policy.max_rounds
        1000
    """

    exchanges: tuple[str, ...] = tuple(EXCHANGES)
    max_rounds: int = 1000
    max_bytes: int = 2**30
    max_total_bytes: int = NO_LIMIT
    least_rows: int = 30
    least_support: int = 30
    max_support: int = 5000
    max_exposure: float = 1.0
    epsilon: float = math.inf
    delta: float = 1e-5

    def __post_init__(self):
        check_names("exchange", self.exchanges, EXCHANGES)
        for name in ("max_rounds", "max_bytes", "least_rows", "least_support", "max_support"):
            check_count(name, getattr(self, name))
        check_count("max_total_bytes", self.max_total_bytes, high=NO_LIMIT)
        check_range("max_exposure", self.max_exposure, low=0, high=1)
        check_range("epsilon", self.epsilon, low=0)
        check_range("delta", self.delta, low=1e-15, high=0.5)


def read_policy(path: Path) -> Policy:
    """Read a policy from a TOML file, whose keys are the attributes of `Policy`.

    Raises:
        ValueError: if there is no such file, a key is not known, or a value is not allowed.
    """
    try:
        told = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"policy = {path}: {getattr(error, 'strerror', None) or error}") from error
    check_names("policy", told, [field.name for field in dataclasses.fields(Policy)])
    if not isinstance(told.get("exchanges", []), list):
        raise ValueError(f"exchanges = {told['exchanges']}: must be a list of names")
    if "exchanges" in told:
        told["exchanges"] = tuple(told["exchanges"])
    return Policy(**told)


class Ledger:
    r"""What a silo has sent in its lifetime, in a file: one line for each message, written before it is computed.

    Attributes:
        squares: :math:`\mu^2`, of all noisy messages.
        bytes: of all messages.
    """

    def __init__(self, path: Path):
        """Open a file, and sum up what it says; a last line that is cut off was not sent.

        Raises:
            ValueError: if a line is none of a ledger.
        """
        self.path = path
        data = path.read_bytes() if path.exists() else b""
        end = data.rfind(b"\n") + 1
        lines = [self._read(line, i) for i, line in enumerate(data[:end].splitlines(), 1) if line]
        if end < len(data):
            os.truncate(path, end)
        self.squares = sum(squares for squares, _ in lines)
        self.bytes = sum(num_bytes for _, num_bytes in lines)

    def _read(self, line: bytes, number: int) -> tuple[float, float]:
        try:
            told = json.loads(line)
            found = float(told["squares"]), float(told.get("bytes", 0))
            for value in found:
                check_range("number", value, low=0)
            return found
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{self.path}, line {number}: is none of a ledger") from error

    def write(self, squares: float = 0.0, **told: Any) -> None:
        """Add a line, and have it on the disk."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "squares": squares, **told})
        with open(self.path, "a", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.squares += squares
        self.bytes += told.get("bytes", 0)

    def loss(self, delta: float, more: float = 0.0) -> float:
        """Find the loss of privacy, epsilon, of all noisy messages and of more."""
        total = self.squares + more
        return privacy_loss(total**-0.5, 1, delta) if total > 0 else 0.0


def squares_of(exchange: Exchange) -> float | None:
    r"""Find :math:`z^{-2}` of an exchange's one message; None where it has no noise, or no bound on what that hides."""
    if not isinstance(exchange, feature_means) or exchange.noise is None:
        return None
    features, noise = exchange.features, exchange.noise
    longest = {quadratic_features: lambda: features.max_norm, kernel_features: lambda: 1.0}.get(type(features))
    if longest is None or not (_within(noise, MOST_NUMBER) and _within(longest(), MOST_NORM)):
        return None
    return (2 * float(longest()) / float(noise)) ** 2


def _within(value: Any, most: float) -> bool:
    """Tell whether a value is one number, positive and not too large."""
    return np.ndim(value) == 0 and bool(1 / most <= value <= most)


def check_begin(policy: Policy, ledger: Ledger, exchange: Exchange, silo: Measure, opening: Any) -> None:
    """Check what an exchange asks for, before its first round.

    Raises:
        Declined: if it is beyond the policy.
    """
    name = type(exchange).__name__
    if name not in policy.exchanges:
        raise Declined(f"exchange {name} is not allowed")
    if not isinstance(exchange.num_rounds, int) or exchange.num_rounds > policy.max_rounds:
        raise Declined("rounds")
    if silo.points.shape[0] < policy.least_rows:
        raise Declined("rows of the silo")
    if isinstance(exchange, feature_means | logistic):
        for features in (exchange.features, *([opening] if isinstance(exchange, logistic) else [])):
            check_features(policy, features, silo.points.shape[1])
    if policy.max_exposure < 1 and isinstance(opening, kernel_features):
        raise Declined("exposure")
    squares = squares_of(exchange)
    if squares is None and isinstance(exchange, feature_means) and policy.epsilon < math.inf:
        raise Declined("no noise")
    if squares is not None and ledger.loss(policy.delta, squares) > policy.epsilon * (1 + 1e-9):
        raise Declined("privacy budget")
    if isinstance(exchange, kernel_densities):
        points, _ = opening
        check_support(policy, points)
    elif isinstance(exchange, federated_sinkhorn | capped_transport):
        check_support(policy, opening.points)


def check_features(policy: Policy, features: Any, dim: int) -> None:
    """Check that features are of the silo's columns, bounded in number, and numbers of any row.

    Raises:
        Declined: if they are not.
    """
    match features:
        case quadratic_features(whitening=Target() as numbers):
            well_formed = [np.shape(leaf) for leaf in numbers] == [(dim,), (dim, dim)]
        case kernel_features(landmarks=numbers, width=width):
            well_formed = np.shape(numbers)[1:] == (dim,) and _within(width, MOST_NUMBER)
            if len(numbers) > policy.max_support:
                raise Declined("landmarks")
        case _:
            raise Declined("features")
    if not well_formed or not all((np.abs(leaf) <= MOST_NUMBER).all() for leaf in jax.tree.leaves(numbers)):
        raise Declined("features")


def check_request(policy: Policy, exchange: Exchange, state: Any, silo: Measure, request: Any) -> None:
    """Check what a round asks for.

    Raises:
        Declined: if Scheme I or II asks at few points or many, or a reply would give a row away.
    """
    if isinstance(exchange, geodesic | barycenter):
        check_support(policy, request)
        if len(request) > policy.max_support:
            raise Declined("support")
    accounted = policy.epsilon < math.inf and squares_of(exchange) is not None  # a refusal would tell of rows
    if policy.max_exposure == 1 or accounted:
        return
    if not exposure(exchange, state, silo, request) <= policy.max_exposure:
        raise Declined("exposure")


def check_support(policy: Policy, points: Any) -> None:
    """Check that a message asks at as many different points as it must.

    Raises:
        Declined: if it does not.
    """
    if len(np.unique(points, axis=0)) < policy.least_support:
        raise Declined("support")


@jax.jit
def exposure(exchange: Exchange, state: Any, silo: Measure, request: Any) -> Any:
    """Find the largest share of one of the silo's rows in a number or an image of its reply; zero of sums over all."""
    g = jnp.zeros_like(silo.weights)
    match exchange:
        case geodesic() | barycenter():
            points, epsilon = request, exchange.epsilon
            g = sinkhorn(uniform_measure(points), silo, epsilon).g
        case kernel_densities():
            points, epsilon = state
        case feature_means(features=kernel_features(landmarks=points, width=epsilon)):
            pass
        case federated_sinkhorn():
            points, epsilon = state.points, request.epsilon
            g = soft_c_transform(silo.points, state, *request)
        case capped_transport():
            points, epsilon = state[0].points, request.epsilon
            g = -epsilon * log_partition(silo.points, state[0], *request)
        case logistic():
            return share(state.weights * jax.nn.sigmoid(-state.features @ request)).max()
        case _:
            return 0.0
    return largest_share(points, silo, g, epsilon).max()
