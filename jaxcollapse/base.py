"""The vocabulary: data, sizes, and the contracts that every member keeps.

Data are weighted empirical measures, or the moments that summarise them. Algorithms are made by lower-case factories:
generators, memories and workflows are NamedTuples of pure functions; scores, selectors and exchanges are `closure`s,
functions that know arrays. All contracts are written for one seed; `jax.vmap` adds the others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxcollapse.tree import closure, static


class Measure(NamedTuple):
    r"""A weighted empirical measure :math:`\sum_i w_i \delta_{x_i}`.

    Attributes:
        points: x, shape [n, d]; stacks of measures, such as silos, lead with further axes.
        weights: w, non-negative masses, shape [n]. Padding has mass zero.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> measure = jc.Measure(points=np.array([[0.0], [4.0]]), weights=np.array([3.0, 1.0]))
        >>> float(jc.as_moments(measure).mean[0])
        1.0
    """

    points: Float[Array, "*stack n d"]
    weights: Float[Array, "*stack n"]


class Moments(NamedTuple):
    """Mass, mean and (maximum likelihood) covariance: all that a Gaussian fit sees of a measure.

    Attributes:
        mass: total weight, shape [].
        mean: shape [d].
        covariance: shape [d, d].

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(mass=1.0, mean=np.zeros(2), covariance=np.eye(2))
        >>> half = truth._replace(covariance=truth.covariance / 2)
        >>> float(jc.metrics.trace_ratio(None, half, truth))
        0.5
    """

    mass: Float[Array, "*stack"]
    mean: Float[Array, "*stack d"]
    covariance: Float[Array, "*stack d d"]


Data = Measure | Moments


class Target(NamedTuple):
    r"""A verifier's ideal: candidates are scored by :math:`-\lVert G (x - u) \rVert^2`.

    Attributes:
        location: u, shape [d].
        factor: G, shape [d, d].

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> score = jc.scores.mahalanobis(jc.Target(location=np.zeros(1), factor=2 * np.eye(1)))
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [3.0]]))
        >>> print(score(jax.random.key(0), pool))  # twice the distance, squared
        [ -4. -16. -36.]
    """

    location: Float[Array, "*stack d"]
    factor: Float[Array, "*stack d d"]


@closure
class Sizes:
    """The sizes of a recursion; `jaxcollapse.sizes` makes one from checked numbers.

    The first four are traced: sweep them with `jax.vmap`, without recompiling. The others are static, and set shapes.

    Attributes:
        num_kept: n, how many candidates are kept in each generation.
        num_candidates: N, how many are drawn.
        num_fresh: real samples added to each training set by `fresh_mix`.
        temperature: of soft selection, in units of the score.
        max_kept: bound on `num_kept`.
        max_candidates: bound on `num_candidates`; the excess is drawn and masked.
        max_fresh: bound on `num_fresh`.
        num_generations: T, after generation 0.

    Example:
        >>> import jaxcollapse as jc
        >>> sizes = jc.sizes(num_kept=500, budget=0.05, num_generations=20)
        >>> int(sizes.num_candidates), sizes.max_kept
        (10000, 500)
    """

    num_kept: Int[Array, "*stack"]
    num_candidates: Int[Array, "*stack"]
    num_fresh: Int[Array, "*stack"]
    temperature: Float[Array, "*stack"]
    max_kept: int = static()
    max_candidates: int = static()
    max_fresh: int = static()
    num_generations: int = static()


class Counted(NamedTuple):
    """A value, and how often something went wrong on the way to it.

    Functions that can count nothing return the value alone.

    Attributes:
        value: of any type.
        trouble: integers, shape [], by what they count, in words; and floating magnitudes, by name, of which the
            largest is told.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> pool = jc.uniform_measure(np.array([[1.0], [2.0], [np.nan]]))
        >>> select = jc.selectors.top(jc.scores.mahalanobis(jc.isotropic_target(np.zeros(1))))
        >>> weights, trouble = select(jax.random.key(0), pool, jc.sizes(1, 1 / 3))
        >>> print(weights)
        [1. 0. 0.]
        >>> {name: int(count) for name, count in trouble.items()}
        {'scores that are not finite': 1}
    """

    value: Any
    trouble: Mapping[str, Array]


def summed(trouble: Mapping[str, Array]) -> dict[str, Array]:
    """Reduce stacks of trouble: the sum of counts, the largest of magnitudes."""
    return {
        name: jnp.max(each) if jnp.issubdtype(each.dtype, jnp.floating) else jnp.sum(each)
        for name, each in trouble.items()
    }


def together(troubles: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    """Add up troubles of several kinds."""
    troubles = list(troubles)
    names = sorted({name for trouble in troubles for name in trouble})
    return summed({name: jnp.stack([t[name] for t in troubles if name in t]) for name in names})


def counted(result: Any) -> Counted:
    """Add a count of nothing to a value that has none."""
    return result if isinstance(result, Counted) else Counted(result, {})


class Generator(NamedTuple):
    """A family of generative models.

    Attributes:
        init: `init(key, data) -> params`, a first fit.
        fit: `fit(key, params, data) -> params`, the next fit, warm-started where that helps.
        sample: `sample(key, params, num_samples) -> [num_samples, d]`, independent draws.
        takes_moments: whether its fits need no more of the data than `Moments`, which its parameters then are.
        law: `law(params) -> Moments`, stacked [k] and of total mass one: the components of the Gaussian mixture that
            samples are of; None where they are of no such mixture.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> generator, data = jc.generators.gaussian(), jc.uniform_measure(np.array([[0.0], [2.0]]))
        >>> model = generator.init(jax.random.key(0), data)  # the first fit, of mean 1
        >>> model = generator.fit(jax.random.key(1), model, jc.uniform_measure(np.array([[4.0], [6.0]])))
        >>> float(model.mean[0]), generator.sample(jax.random.key(2), model, 100).shape
        (5.0, (100, 1))
    """

    init: Callable[[Key[Array, ""], Data], Any]
    fit: Callable[[Key[Array, ""], Any, Data], Any]
    sample: Callable[[Key[Array, ""], Any, int], Float[Array, "n d"]]
    takes_moments: bool = False
    law: Callable[[Any], Moments] | None = None


class Memory(NamedTuple):
    """What a workflow remembers of the data that it was given.

    Attributes:
        init: `init(kept, sizes, num_generations) -> state`, empty, with room for so many kept sets and one of fresh
            data; only the shapes of `kept` are read.
        add: `add(state, data, max_points) -> state`, with a static bound on the points of positive mass.
        training: `training(state) -> Data`, everything remembered.
        subsample: `subsample(key, state, sizes) -> Measure`, `sizes.num_kept` of the remembered points, uniformly
            without replacement; None where points are not kept.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> memory, kept = jc.buffer_memory(), jc.uniform_measure(np.array([[0.0], [2.0]]))
        >>> state = memory.init(kept, jc.sizes(2), 1)  # empty, with room for one kept set
        >>> print(memory.training(memory.add(state, kept, 2)).value.points)
        [[0.]
         [2.]]
    """

    init: Callable[[Data, Sizes, int], Any]
    add: Callable[[Any, Data, int], Any]
    training: Callable[[Any], Data | Counted]
    subsample: Callable[[Key[Array, ""], Any, Sizes], Measure | Counted] | None


class Workflow(NamedTuple):
    """How kept data become the next training set.

    Attributes:
        init: `init(kept, sizes) -> state`; only the shapes of `kept` are read.
        update: `update(key, state, kept, fresh, sizes) -> (state, training)`, with `fresh` new real data or None.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> workflow, sizes = jc.workflows.replace(jc.moments_memory()), jc.sizes(2)
        >>> kept = jc.uniform_measure(np.array([[0.0], [2.0]]))
        >>> state, training = workflow.update(None, workflow.init(kept, sizes), kept, None, sizes)
        >>> float(training.value.mean[0])
        1.0
    """

    init: Callable[[Data, Sizes], Any]
    update: Callable[[Key[Array, ""], Any, Data, Data | None, Sizes], tuple[Any, Data | Counted]]


class Score(Protocol):
    """Score every candidate against what it knows; high is good."""

    def __call__(self, key: Key[Array, ""], pool: Measure) -> Float[Array, " n"] | Counted: ...


class Select(Protocol):
    """Re-weight a pool: the kept candidates have mass one, the others zero. One that moves them returns the measure."""

    def __call__(self, key: Key[Array, ""], pool: Measure, sizes: Sizes) -> Float[Array, " n"] | Measure | Counted: ...


class Keep(Protocol):
    """Hand over what one generation keeps: a sampled selection, or its exact large-sample limit."""

    def __call__(self, key: Key[Array, ""], params: Any, sizes: Sizes) -> Data | Counted: ...


class Fresh(Protocol):
    """Draw new real data for one generation."""

    def __call__(self, key: Key[Array, ""], sizes: Sizes) -> Data: ...


class Metric(Protocol):
    """Compare generated data, or the moments of a model, with the truth."""

    def __call__(self, key: Key[Array, ""], generated: Data, truth: Data) -> Float[Array, ""]: ...


class Exchange:
    """A protocol among a server, which holds the pool, and K silos, each of which holds its data.

    What travels is what `opening`, `request` and `reply` return, and nothing else. A silo that is missing replies
    zeros: its mass is zero, and no shape changes. `jaxcollapse.exchanges.carry_out` runs one within a program.

    Attributes:
        num_rounds: R at most, static.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> class masses(jc.Exchange):
        ...     reply = lambda self, state, silo, request: (state, silo.weights.sum())
        ...     update = lambda self, server, replies: replies
        >>> print(jc.carry_out(masses(), jax.random.key(0), None, jc.uniform_measure(np.zeros((3, 50, 2)))))
        [50. 50. 50.]
    """

    num_rounds: Any = 1

    def server_init(self, key: Key[Array, ""], pool: Measure | None) -> Any:
        """Make the server's state; where rounds are several, of the structure that `update` returns."""
        return None

    def opening(self, server: Any) -> Any:
        """Write the one message to all silos before the rounds."""
        return None

    def silo_init(self, key: Key[Array, ""], silo: Measure, opening: Any) -> Any:
        """Make a silo's state."""
        return None

    def request(self, server: Any) -> Any:
        """Write a round's message to all silos."""
        return None

    def reply(self, state: Any, silo: Measure, request: Any) -> tuple[Any, Any]:
        """Answer it: a silo's next state, and its message, which tells the mass."""
        raise NotImplementedError

    def update(self, server: Any, replies: Any) -> Any:
        """Take the replies in, stacked [K]."""
        raise NotImplementedError

    def finished(self, server: Any) -> Any:
        """Tell whether no further round is needed, shape []."""
        return False

    def result(self, server: Any) -> Any:
        """Hand over what scores and selectors know."""
        return server

    def trouble(self, server: Any) -> Mapping[str, Array]:
        """Count what went wrong, as `Counted` does."""
        return {}


class Parties:
    """Silos that are not a stack of measures in this program, such as those of other hosts: they answer exchanges.

    Attributes:
        points: the abstract value of a stack of them, shape [K, m, d].
        weights: likewise, shape [K, m].
    """

    points: Any
    weights: Any

    def carry_out(self, exchange: Exchange, key: Key[Array, ""], pool: Measure | None) -> Counted:
        """Run an exchange with them, as `jaxcollapse.exchanges.carry_out_counted` does."""
        raise NotImplementedError

    def each(self) -> Sequence["Parties"]:
        """Give every one of them alone."""
        raise NotImplementedError


class State(NamedTuple):
    """What the next generation needs.

    Attributes:
        generation: t, shape [].
        params: of the model of generation t.
        memory: of the workflow.
    """

    generation: Int[Array, "*stack"]
    params: Any
    memory: Any


class Info(NamedTuple):
    """Everything else that a generation produced; what nobody records is never computed.

    Attributes:
        kept: the kept data.
        training: the data that the model was fitted on.
        trouble: counts of what went wrong, by what they count.
    """

    kept: Data
    training: Data
    trouble: Mapping[str, Array]


Record = Callable[[Key[Array, ""], State, Info], Any]


class Collapse(NamedTuple):
    """The composed recursion.

    Attributes:
        init: `init(params, sizes) -> State` of generation 0, whose model is given.
        step: `step(key, state, sizes) -> (State, Info)`, one generation.
    """

    init: Callable[[Any, Sizes], State]
    step: Callable[[Key[Array, ""], State, Sizes], tuple[State, Info]]


class Run(NamedTuple):
    """All that it takes to run a recursion.

    Attributes:
        key: of everything random in it.
        collapse: the recursion.
        params: the model of generation 0, usually the truth.
        sizes: of the recursion.
        record: `record(key, state, info)`, what to keep of a generation.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import jaxcollapse as jc
        >>> truth = jc.Moments(jnp.ones(()), jnp.zeros(2), jnp.eye(2))
        >>> collapse = jc.mean_field(jc.isotropic_target(jnp.zeros(2)), jc.workflows.replace(jc.moments_memory()))
        >>> run = jc.Run(jax.random.key(0), collapse, truth, jc.sizes(10, 0.5, 2), jc.record_model({}, truth))
        >>> int(jc.start(run)[0].generation)
        0
    """

    key: Key[Array, ""]
    collapse: Collapse
    params: Any
    sizes: Sizes
    record: Record
