import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from jaxcollapse.prng import normal_pairs, threefry, unrolled

KEY = jax.random.key(7)
DRAWS = {
    "normal": lambda key: jax.random.normal(key, (7, 3)),
    "gamma": lambda key: jax.random.gamma(key, 2.5, (5,)),
    "permutation": lambda key: jax.random.permutation(key, 11),
    "bytes": lambda key: jax.random.bits(key, (6,), jnp.uint8),
    "halves": lambda key: jax.random.bits(key, (6,), jnp.uint16),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 5)),
    "one": jax.random.uniform,
    "pairs": lambda key: normal_pairs(key, 9),
}


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers_of_the_reference_implementation(key, counter, expected):
    assert_array_equal(threefry(jnp.array(key, jnp.uint32), *jnp.array(counter, jnp.uint32)), np.uint32(expected))


@pytest.mark.parametrize("name", DRAWS)
def test_both_kinds_of_keys_draw_the_same(name):
    assert_array_equal(DRAWS[name](unrolled(KEY)), DRAWS[name](KEY))


@pytest.mark.usefixtures("x64")
def test_both_kinds_of_keys_draw_the_same_in_double_precision():
    draw = jax.jit(lambda key: jax.random.normal(key, (9,), jnp.float64))
    assert_array_equal(draw(unrolled(KEY)), draw(KEY))


def test_mapped_keys_draw_as_they_do_alone():
    keys = jax.random.split(KEY, 4)
    draw = lambda key: jax.random.normal(unrolled(key), (5,))
    assert_array_equal(jax.vmap(draw)(keys), [draw(key) for key in keys])


def test_draws_beyond_one_word_of_the_counter_are_those_of_jax():
    def program(key, *shape):
        return jax.jit(lambda key: jax.random.bits(key, shape, jnp.uint8)).lower(key).as_text()

    assert program(unrolled(KEY), 2**17, 2**16).count("while") == program(KEY, 2**17, 2**16).count("while") > 0
    assert "while" not in program(unrolled(KEY), 2**8, 2**8)


def test_keys_of_other_kinds_stay_as_they_are():
    other = jax.random.key(3, impl="rbg")
    assert unrolled(other) is other
    once = unrolled(KEY)
    assert unrolled(once) is once


def test_normal_pairs_are_those_of_box_and_muller():
    size = 10_000
    counter = jnp.arange(size, dtype=jnp.uint32)
    for row, words in zip(normal_pairs(KEY, size), jax.random.bits(KEY, (2, 2)), strict=True):
        first, second = map(np.asarray, threefry(words, 0 * counter, counter))
        u = (np.float32(first) + np.float32(0.5)).astype(float) / 2**32
        assert_allclose(row, np.sqrt(-2 * np.log(u)) * np.exp(2j * np.pi * second / 2**32), rtol=2e-6)


def test_parts_of_normal_pairs_are_independent_normals():
    z = normal_pairs(unrolled(jax.random.key(0)), 200_000).ravel()
    x, y = np.float64(z.real), np.float64(z.imag)
    turn = np.arctan2(y, x) / (2 * np.pi) + 0.5
    for sample, law in ((x, "norm"), (y, "norm"), ((x**2 + y**2) / 2, "expon"), (turn, "uniform")):
        assert stats.kstest(sample, law).pvalue > 1e-4 / 4
    assert abs(np.mean(x**2 * y**2) - 1) < 4 * np.sqrt(8 / len(x))
