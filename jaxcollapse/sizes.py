"""The sizes of a recursion, said once."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcollapse.base import Sizes
from jaxcollapse.checks import MOST, check_array, check_budget, check_count, check_range, is_known


def sizes(
    num_kept: Any,
    budget: Any = 1.0,
    num_generations: int = 1,
    *,
    num_fresh: Any = 0,
    temperature: Any = 0.0,
    max_kept: int | None = None,
    max_candidates: int | None = None,
    max_fresh: int | None = None,
) -> Sizes:
    r"""Say how many candidates are kept, of how many, and for how long.

    .. math:: N = \operatorname{round}(n / \alpha).

    Numbers may be arrays, which are broadcast together: map over the result with `jax.vmap`. Bounds, which set shapes,
    are the largest of the numbers given; where a number is traced, its bound must be given.

    Args:
        num_kept: n, candidates kept in each generation, at least 1.
        budget: :math:`\alpha = n / N` in (0, 1].
        num_generations: T, static.
        num_fresh: real samples a generation, for `fresh_mix`.
        temperature: of soft selection, in units of the score.
        max_kept: bound on n.
        max_candidates: bound on N.
        max_fresh: bound on `num_fresh`.

    Raises:
        ValueError: if a number is out of range or above its bound, a traced number has no bound, or the shapes of
            arrays do not fit.

    Example:
        >>> import jaxcollapse as jc
        >>> int(jc.sizes(500, 0.05).num_candidates)
        10000
        >>> print(jc.sizes(500, [0.05, 0.5]).num_candidates)
        [10000  1000]
    """
    numbers = {"num_kept": num_kept, "budget": budget, "num_fresh": num_fresh, "temperature": temperature}
    for name, value in numbers.items():
        check_array(name, value)
        if np.size(value) == 0:
            raise ValueError(f"{name} = {value!r}: must be a number, or an array of some")
        for number in np.ravel(value).tolist() if is_known(value) else ():
            if name == "budget":
                check_budget(number)
            elif name == "temperature":
                check_range(name, number, low=0)
                check_range(name, number, high=1e30)
            else:
                check_count(name, number, low=int(name == "num_kept"))
    check_count("num_generations", num_generations)
    shapes = {name: np.shape(value) for name, value in numbers.items()}
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError as error:
        raise ValueError(f"shapes cannot be broadcast together: {shapes}") from error
    host = np if is_known((num_kept, budget)) else jnp  # whose division is in double precision
    num_candidates = host.round(host.asarray(num_kept) / host.asarray(budget))
    bounds = (
        _bound("num_kept", num_kept, "max_kept", max_kept),
        _bound("budget", num_candidates, "max_candidates", max_candidates),
        _bound("num_fresh", num_fresh, "max_fresh", max_fresh),
    )
    dtypes = (jnp.int32, jnp.int32, jnp.int32, jnp.float32)
    values = zip((num_kept, num_candidates, num_fresh, temperature), dtypes, strict=True)
    kept, drawn, new, soft = jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value, dtype in values))
    return Sizes(kept, drawn, new, soft, *bounds, int(num_generations))


def _bound(name: str, value: Any, bound_name: str, bound: int | None) -> int:
    if bound is not None:
        check_count(bound_name, bound)
        bound = int(bound)
    if not is_known(value):
        if bound is None:
            raise ValueError(f"{name} is traced: give {bound_name}, the static bound that sets shapes")
        return bound
    largest = int(np.max(value))
    most = MOST if bound is None else bound
    if largest > most:
        raise ValueError(f"{name}: {largest} are asked for, and {bound_name} = {most} allows no more")
    return largest if bound is None else bound
