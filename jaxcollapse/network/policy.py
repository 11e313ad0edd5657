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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.checks import check_count, check_names, check_range
from jaxcollapse.exchanges import (
    EXCHANGES,
    barycenter,
    capped_transport,
    feature_means,
    federated_sinkhorn,
    geodesic,
    kernel_densities,
)
from jaxcollapse.exchanges.interpolant import exposure
from jaxcollapse.features import kernel_features, quadratic_features
from jaxcollapse.privacy import privacy_loss


class Declined(Exception):
    """A request is beyond the policy; the argument names the limit, and tells nothing of the data."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """Limits of a silo.

    Attributes:
        exchanges: names of `EXCHANGES` that are answered.
        max_rounds: of an exchange.
        max_bytes: that the silo sends in a selection.
        least_rows: of the silo's data; with fewer nothing is answered.
        least_support: points at which an exchange asks, where it asks at points.
        max_support: landmarks of features, and points of which Schemes I and II ask for images: they bound memory.
        max_exposure: largest share of one of the silo's rows in an image that Scheme I or II asks for.
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
        check_range("max_exposure", self.max_exposure, low=0, high=1)
        check_range("epsilon", self.epsilon, low=0)
        check_range("delta", self.delta, low=1e-15, high=0.5)


def read_policy(path: Path) -> Policy:
    """Read a policy from a TOML file, whose keys are the attributes of `Policy`.

    Raises:
        ValueError: if a key is not known, or a value is not allowed.
    """
    try:
        told = tomllib.loads(path.read_text())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    check_names("policy", told, [field.name for field in dataclasses.fields(Policy)])
    if not isinstance(told.get("exchanges", []), list):
        raise ValueError(f"exchanges = {told['exchanges']}: must be a list of names")
    if "exchanges" in told:
        told["exchanges"] = tuple(told["exchanges"])
    return Policy(**told)


class Ledger:
    r"""What a silo has sent in its lifetime, in a file: one line for each message, written before it is sent.

    Attributes:
        squares: :math:`\mu^2`, of all noisy messages.
    """

    def __init__(self, path: Path):
        """Open a file, and sum up what it says; a last line that is cut off was not sent.

        Raises:
            ValueError: if a line is none of a ledger.
        """
        self.path, lines = path, []
        if path.exists():
            whole, _, rest = path.read_text().rpartition("\n")
            lines = [self._read(line, i) for i, line in enumerate(whole.split("\n"), 1) if line]
            if rest:
                path.write_text(whole + "\n")
        self.squares = sum(line["squares"] for line in lines)

    def _read(self, line: str, number: int) -> Mapping[str, Any]:
        try:
            told = json.loads(line)
            squares = float(told["squares"])
            check_range("squares", squares, low=0)
            return {"squares": squares}
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.path}, line {number}: is none of a ledger") from error

    def write(self, squares: float = 0.0, **told: Any) -> None:
        """Add a line, and have it on the disk."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "squares": squares, **told})
        with self.path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.squares += squares

    def loss(self, delta: float, more: float = 0.0) -> float:
        """Find the loss of privacy, epsilon, of all noisy messages and of more."""
        total = self.squares + more
        return privacy_loss(total**-0.5, 1, delta) if total > 0 else 0.0


def squares_of(exchange: Exchange) -> float | None:
    r"""Find :math:`z^{-2}` of an exchange's one message; None where it has no noise, or no bound on what that hides."""
    if not isinstance(exchange, feature_means) or exchange.noise is None:
        return None
    bound = {
        kernel_features: lambda f: 1.0 if float(f.width) > 0 else math.inf,
        quadratic_features: lambda f: float(f.max_norm),
    }
    longest = bound.get(type(exchange.features), lambda f: math.inf)(exchange.features)
    multiplier = float(exchange.noise) / (2 * longest)
    return multiplier**-2 if multiplier > 0 else None


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
    for features in (getattr(exchange, "features", None), opening):
        if isinstance(features, kernel_features) and len(features.landmarks) > policy.max_support:
            raise Declined("landmarks")
    squares = squares_of(exchange)
    if squares is None and isinstance(exchange, feature_means) and policy.epsilon < math.inf:
        raise Declined("no noise")
    if squares is not None and ledger.loss(policy.delta, squares) > policy.epsilon:
        raise Declined("privacy budget")
    if isinstance(exchange, kernel_densities):
        points, _ = opening
        check_support(policy, points)
    elif isinstance(exchange, federated_sinkhorn | capped_transport):
        check_support(policy, opening.points)


def check_request(policy: Policy, exchange: Exchange, silo: Measure, request: Any) -> None:
    """Check the points at which Scheme I or II asks for images.

    Raises:
        Declined: if they are few, or an image would give a row away.
    """
    if isinstance(exchange, geodesic | barycenter):
        check_support(policy, request)
        if len(request) > policy.max_support:
            raise Declined("support")
        if policy.max_exposure < 1 and not _exposure(silo, request, exchange.epsilon) <= policy.max_exposure:
            raise Declined("exposure")


def check_support(policy: Policy, points: Any) -> None:
    """Check that a message asks at as many points as it must.

    Raises:
        Declined: if it does not.
    """
    if len(points) < policy.least_support:
        raise Declined("support")


_exposure = jax.jit(exposure)
