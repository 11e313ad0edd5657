"""What a user gives, made into members: names, arrays, lists and numbers, each checked by its own name."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jaxcollapse import selectors
from jaxcollapse.base import Data, Generator, Measure, Memory, Moments, Record, Select, Sizes, Workflow
from jaxcollapse.checks import check_array, check_count, check_finite, check_measure, check_names, check_range, shown
from jaxcollapse.generators import GENERATORS
from jaxcollapse.measures import as_measure, dim_of, require_one_dim, require_points
from jaxcollapse.metrics import METRICS, POINT_METRICS
from jaxcollapse.record import record_model, record_samples
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis
from jaxcollapse.tree import as_pytree
from jaxcollapse.verifiers import VERIFIERS, verifier
from jaxcollapse.workflows import WORKFLOWS

MakeWorkflow = Callable[[Memory], Workflow]


def generator_of(given: Any) -> Generator:
    """Take a generator, or the name of one that needs no arguments.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(given, str):
        check_names("generator", [given], GENERATORS)
        try:
            given = GENERATORS[given]()
        except TypeError as error:
            raise ValueError(f"generator = {given!r}: needs arguments, make it ({error})") from error
    if not isinstance(given, Generator):
        raise ValueError(f"generator = {given!r}: must be a Generator, which a factory such as gaussian() makes")
    return given


def workflow_of(given: MakeWorkflow | str) -> MakeWorkflow:
    """Take a factory of workflows, or its name.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(given, str):
        check_names("workflow", [given], WORKFLOWS)
        return WORKFLOWS[given]
    if not callable(given):
        raise ValueError(f"workflow = {given!r}: must be a factory such as accumulate, or a name of it")
    return given


def select_of(given: Any, silos: Any, key: Key[Array, ""]) -> Select:
    """Take a selector, or the name of a verifier to make from silos, whose draws are of the key.

    Raises:
        ValueError: if it is neither, or silos are missing.
    """
    if isinstance(given, str):
        if silos is None and given in ("random", "keep_all", "k_means"):
            return selectors.SELECTORS[given]()
        if given in selectors.SELECTORS and given not in VERIFIERS:
            raise ValueError(f"select = {given!r}: must be made, such as top(mahalanobis(target))")
        check_names("verifier", [given], VERIFIERS)
        if silos is None:
            raise ValueError(f"select = {given!r}: selects by silos, which must be given")
        return verifier(given, silos, key)
    if isinstance(given, type) or not callable(given):
        raise ValueError(f"select = {given!r}: must be a selector, such as top(mahalanobis(target)), or a name")
    return as_pytree(given)


def start_of(generator: Generator, given: Any) -> tuple[Measure | None, Any]:
    """Tell data, which the first model is fitted to, from its parameters.

    Raises:
        ValueError: if it can be neither.
    """
    if isinstance(given, Moments):
        if not generator.takes_moments:
            raise ValueError("start = Moments: this generator is fitted to points, an array [n, d]")
        mean, covariance = np.shape(given.mean), np.shape(given.covariance)
        if len(mean) != 1 or covariance != mean * 2:
            raise ValueError(f"start: a mean {mean} and a covariance {covariance} must be [d] and [d, d]")
        for name in ("mean", "covariance"):
            check_finite(f"start.{name}", getattr(given, name))
        return None, Moments(*map(jnp.asarray, given))
    if isinstance(given, Measure | list | str) or hasattr(given, "__array__"):
        data = measure_of("start", given)
        check_range("number of points in start", len(data.weights), low=2)
        return data, None
    if generator.takes_moments:
        raise ValueError(f"start = {shown(given)}: must be data, an array [n, d], or Moments")
    return None, given


def truth_of(given: Any, start: Any) -> Data:
    """Take points or moments that models are compared with, or what they start from where none are given.

    Raises:
        ValueError: if it is neither, or of another dimension than the start.
    """
    if given is None and dim_of(start) is None:
        raise ValueError(f"truth: must be given where start is the parameters of a model, {type(start).__name__}")
    if given is None:
        return start
    truth = given if isinstance(given, Moments) else measure_of("truth", given)
    require_one_dim(truth=truth, start=start)
    return truth


def measure_of(name: str, given: Any) -> Measure:
    """Take points, an array [n, d] or what converts to one, or a measure.

    Raises:
        ValueError: if it is neither, or not finite.
    """
    if isinstance(given, str):
        raise ValueError(f"{name} = {given!r}: must be an array [n, d]")
    if not isinstance(given, Measure):
        check_array(name, given)
    points = given.points if isinstance(given, Measure) else np.asarray(given)
    if np.ndim(points) != 2:
        raise ValueError(f"{name}: points of shape {np.shape(points)} must be [n, d]")
    measure = given if isinstance(given, Measure) else as_measure(points)
    check_measure(name, measure)
    return measure


def grid_of(num_kept: Any, budget: Any, **rest: Any) -> tuple[Sizes, dict[str, Axis]]:
    """Make sizes for every n and budget, [A, B], and the axes that index them.

    Raises:
        ValueError: if they are no numbers or lists of them, or out of range.
    """
    axes = {}
    for name, given in {"num_kept": num_kept, "budget": budget}.items():
        check_array(name, given)
        if np.ndim(given) > 1 or np.size(given) == 0:
            raise ValueError(f"{name} = {given!r}: must be a number, or a list of them")
        axes[name] = Axis(np.atleast_1d(given), jnp.arange(np.size(given)))
    return sizes(axes["num_kept"].labels[:, None], axes["budget"].labels, **rest), axes


def metrics_of(given: Sequence[str] | str, known: Iterable[str] = METRICS | POINT_METRICS) -> list[str]:
    """Take names of metrics, or one.

    Raises:
        ValueError: if there is none, or one is not known.
    """
    if not isinstance(given, Iterable) or not given:
        raise ValueError(f"metrics = {given!r}: must be a name, or a list of them")
    names = [given] if isinstance(given, str) else list(given)
    check_names("metric", names, known)
    return names


def recorder_of(generator: Generator, given: Sequence[str] | str, num_scored: int) -> Callable[[Data], Record]:
    """Make the function of a truth to what is recorded: metrics of the model where its moments suffice, or of samples.

    Raises:
        ValueError: if a metric is not known, or too few samples are scored.
    """
    names = metrics_of(given)
    metrics = {name: (METRICS | POINT_METRICS)[name] for name in names}
    if generator.takes_moments and not set(names) & set(POINT_METRICS):
        return lambda truth: record_model(metrics, truth)

    check_count("num_scored", num_scored, low=2)

    def recorder(truth: Data) -> Record:
        require_points("metrics of samples", truth=truth)
        return record_samples(metrics, truth, generator, num_scored)

    return recorder
