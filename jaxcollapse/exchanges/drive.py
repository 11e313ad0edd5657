"""The driver of exchanges within one program, and the sizes of their messages."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxcollapse.base import Counted, Exchange, Measure, Parties
from jaxcollapse.tree import expand, num_bytes

_SILOS = 2**32 - 1  # so that the silos' keys are none that the server splits from its own


def rounds(exchange: Exchange, key: Key[Array, ""], pool: Measure | None, silos: Measure) -> Any:
    """Run all rounds of an exchange, finished or not, and stack the server's states after each.

    Args:
        exchange: what is exchanged.
        key: of the server; each silo's is folded out of it.
        pool: candidates, which the server holds; None where the exchange has no use for them.
        silos: stacked, [K, m, d]. One of mass zero is missing: its replies are zeros.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> silos = jc.uniform_measure(np.array([[[0.0], [2.0]], [[4.0], [6.0]]]))
        >>> states = jc.exchanges.rounds(jc.exchanges.moments(), jax.random.key(0), None, silos)
        >>> states.mean.tolist()  # after the only round
        [[3.0]]
    """
    start, one_round = _begin(exchange, key, pool, silos)

    if exchange.num_rounds == 1:  # whose update may return a state of another structure
        return expand(one_round(start)[0])

    def keep(state, _):
        state = one_round(state)
        return state, state[0]

    return jax.lax.scan(keep, start, length=exchange.num_rounds)[1]


def carry_out(exchange: Exchange, key: Key[Array, ""], pool: Measure | None, silos: Measure | Parties) -> Any:
    """Run an exchange, with a stack of silos in one program, and hand over its result; arguments as for `rounds`.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> silos = jc.uniform_measure(np.array([[[0.0], [2.0]], [[4.0], [6.0]]]))
        >>> float(jc.carry_out(jc.exchanges.moments(), jax.random.key(0), None, silos).mean[0])
        3.0
    """
    return carry_out_counted(exchange, key, pool, silos).value


def carry_out_counted(
    exchange: Exchange,
    key: Key[Array, ""],
    pool: Measure | None,
    silos: Measure | Parties,
    screen: Callable[[Any], Any] | None = None,
) -> Counted:
    """Run an exchange as `carry_out` does, and count what went wrong.

    The screen, if any, is one of `jaxcollapse.exchanges.screening`: it passes on what it believes of stacked replies.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> silos = jc.uniform_measure(np.array([[[0.0]], [[1.0]], [[99.0]]]))
        >>> told = [jax.random.key(0), None, silos, jc.exchanges.SCREENS["near_median"]()]
        >>> union, trouble = jc.exchanges.carry_out_counted(jc.exchanges.moments(), *told)
        >>> float(union.mean[0]), int(trouble["replies screened out"])
        (0.5, 1)
    """
    if isinstance(silos, Parties):
        return silos.carry_out(exchange, key, pool)
    start, one_round = _begin(exchange, key, pool, silos, screen)
    if exchange.num_rounds == 1:
        server, _, num_out = one_round(start)
    else:
        _, (server, _, num_out) = jax.lax.while_loop(
            lambda at: (at[0] < exchange.num_rounds) & ~jnp.asarray(exchange.finished(at[1][0])),
            lambda at: (at[0] + 1, one_round(at[1])),
            (0, start),
        )
    screened = {} if screen is None else {"replies screened out": num_out}
    return Counted(exchange.result(server), {**exchange.trouble(server), **screened})


def _begin(
    exchange: Exchange,
    key: Key[Array, ""],
    pool: Measure | None,
    silos: Measure,
    screen: Callable[[Any], Any] | None = None,
) -> tuple[Any, Callable]:
    """Make the states of server and silos before the first round, and the function from a round to the next.

    Beside the states stands how many replies have been screened out.
    """
    num_silos = silos.weights.shape[0]
    server = exchange.server_init(key, pool)
    silo_keys = jax.random.split(jax.random.fold_in(key, _SILOS), num_silos)
    states = jax.vmap(exchange.silo_init, in_axes=(0, 0, None))(silo_keys, silos, exchange.opening(server))

    def answer(state, silo, request):
        state, reply = exchange.reply(state, silo, request)
        present = silo.weights.sum() > 0
        return state, jax.tree.map(lambda leaf: jnp.where(present, leaf, 0), reply)

    def one_round(state):
        server, states, num_out = state
        states, replies = jax.vmap(answer, in_axes=(0, 0, None))(states, silos, exchange.request(server))
        if screen is not None:
            told, replies = replies, screen(replies)
            num_out += jnp.sum((told.mass > 0) & ~(replies.mass > 0), dtype=jnp.int32)
        return exchange.update(server, replies), states, num_out

    return (server, states, jnp.int32(0)), one_round


def message_bytes(exchange: Exchange, pool: Measure | None, silo: Measure) -> int:
    """Count the bytes that the server and one silo exchange in all rounds, from their messages' abstract values.

    Example:
        >>> import numpy as np
        >>> import jaxcollapse as jc
        >>> silo = jc.uniform_measure(np.zeros((50, 2)))
        >>> jc.exchanges.message_bytes(jc.exchanges.moments(), None, silo)  # 1 + 2 + 4 numbers of four bytes
        28
    """

    def messages(exchange, key, pool, silo):
        server = exchange.server_init(key, pool)
        opening = exchange.opening(server)
        request = exchange.request(server)
        return opening, request, exchange.reply(exchange.silo_init(key, silo, opening), silo, request)[1]

    opening, *one_round = jax.eval_shape(messages, exchange, jax.random.key(0), pool, silo)
    return num_bytes(opening) + exchange.num_rounds * num_bytes(one_round)
