"""The driver of exchanges within one program, and the sizes of their messages."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxcollapse.base import Exchange, Measure
from jaxcollapse.tree import expand, num_bytes

_SILOS = 2**32 - 1  # so that the silos' keys are none that the server splits from its own


def rounds(exchange: Exchange, key: Key[Array, ""], pool: Measure | None, silos: Measure) -> Any:
    """Run an exchange, and stack the server's states after each round.

    Args:
        exchange: what is exchanged.
        key: of the server; each silo's is folded out of it.
        pool: candidates, which the server holds; None where the exchange has no use for them.
        silos: stacked, [K, m, d]. One of mass zero is missing: its replies are zeros.
    """
    return _run(exchange, key, pool, silos, lambda server: server)[1]


def carry_out(exchange: Exchange, key: Key[Array, ""], pool: Measure | None, silos: Measure) -> Any:
    """Run an exchange in one program, and hand over its result; arguments as for `rounds`."""
    return exchange.result(_run(exchange, key, pool, silos, lambda server: None)[0])


def _run(
    exchange: Exchange, key: Key[Array, ""], pool: Measure | None, silos: Measure, keep: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """Run an exchange: the server's last state, and what is kept of each round's, stacked."""
    num_silos = silos.weights.shape[0]
    server = exchange.server_init(key, pool)
    silo_keys = jax.random.split(jax.random.fold_in(key, _SILOS), num_silos)
    states = jax.vmap(exchange.silo_init, in_axes=(0, 0, None))(silo_keys, silos, exchange.opening(server))

    def answer(state, silo, request):
        state, reply = exchange.reply(state, silo, request)
        present = silo.weights.sum() > 0
        return state, jax.tree.map(lambda leaf: jnp.where(present, leaf, 0), reply)

    def one_round(carry, _):
        server, states = carry
        states, replies = jax.vmap(answer, in_axes=(0, 0, None))(states, silos, exchange.request(server))
        server = exchange.update(server, replies)
        return (server, states), keep(server)

    if exchange.num_rounds == 1:
        (server, _), kept = one_round((server, states), None)
        return server, expand(kept)
    (server, _), kept = jax.lax.scan(one_round, (server, states), length=exchange.num_rounds)
    return server, kept


def message_bytes(exchange: Exchange, pool: Measure | None, silo: Measure) -> int:
    """Count the bytes that the server and one silo exchange, from the abstract values of their messages."""

    def messages(exchange, key, pool, silo):
        server = exchange.server_init(key, pool)
        opening = exchange.opening(server)
        request = exchange.request(server)
        return opening, request, exchange.reply(exchange.silo_init(key, silo, opening), silo, request)[1]

    opening, *one_round = jax.eval_shape(messages, exchange, jax.random.key(0), pool, silo)
    return num_bytes(opening) + exchange.num_rounds * num_bytes(one_round)
