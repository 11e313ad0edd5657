"""Messages of silos on other hosts: what they may hold, what a policy declines, and what a server believes."""

import contextlib
import math
import os
import queue
import re
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from parties import POOL, SILOS, WHITENED, silo_of

from jaxcollapse.base import Measure, Moments, Target
from jaxcollapse.exchanges import (
    EXCHANGES,
    capped_transport,
    carry_out,
    feature_means,
    federated_sinkhorn,
    kernel_densities,
    logistic,
    moments,
)
from jaxcollapse.exchanges.federated_sinkhorn import Request
from jaxcollapse.exchanges.logistic import linear_in
from jaxcollapse.features import kernel_features, quadratic_features
from jaxcollapse.network.codec import KINDS, Refused, check_like, decode, encode
from jaxcollapse.network.policy import Ledger, Policy, read_policy, squares_of
from jaxcollapse.network.server import MAX_STALE, Network, Session
from jaxcollapse.pipeline.rehearsal import Direct
from jaxcollapse.privacy import noise_needed, privacy_loss

EYE = np.eye(3, dtype=np.float32)


def bounded(max_norm, factor=EYE):
    return quadratic_features(Target(np.zeros(3, np.float32), factor), max_norm)


# Messages


def test_messages_come_back_as_they_were():
    message = {
        "exchange": feature_means(WHITENED, jnp.float32(2.0)),
        "opening": (POOL, 0.1, None, "word", True, 3),
        "arrays": [np.arange(6, dtype=kind).reshape(2, 3) for kind in KINDS],
    }
    found = decode(encode(message))
    assert found["opening"][1:] == (0.1, None, "word", True, 3)
    assert isinstance(found["opening"][0], Measure)
    assert_array_equal(found["opening"][0].points, POOL.points)
    for kind, array in zip(KINDS, found["arrays"], strict=True):
        assert array.dtype == kind
        assert_array_equal(array, np.arange(6).reshape(2, 3))
    assert isinstance(found["exchange"], feature_means)
    assert float(found["exchange"].features.max_norm) == 6.0


def test_what_runs_does_not_travel():
    for wrong in (print, object(), {"f": jnp.sin}, np.array(["text"]), np.array([object()]), jax.random.key(0)):
        with pytest.raises(TypeError):
            encode(wrong)
    for header in (
        b'{"class": "builtins.eval", "fields": {}}',
        b'{"class": "base.Measure", "fields": {"points": {"value": 1}}}',
        b'{"array": "object", "shape": []}',
        b'{"array": "float32", "shape": [-1]}',
        b'{"array": "float32", "shape": [1099511627775, 1099511627775]}',
        b'{"array": "float32", "shape": [1]}',
        b'{"value": 1.5}',
        b'{"tuple": ' * 200 + b"1",
        b"[" * 60_000,
        b"\xff",
    ):
        with pytest.raises(Refused):
            decode(len(header).to_bytes(4, "little") + header)


def test_ten_thousand_spoiled_messages_are_refused_or_read(tmp_path, monkeypatch):
    """By the codec, and by a silo, which answers each with the name of a limit or of a type."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    secret = np.full((60, 3), 1234.5678, np.float32)
    silo = silo_of(secret, tmp_path / "ledger")
    at = {"selection": "s", "number": 1}
    whole = [
        encode({"begin": kernel_densities(1.0), "opening": (POOL.points[:40], 1.0), "columns": 3, **at}),
        encode({"begin": feature_means(WHITENED), "opening": None, "columns": 3, **at}),
        encode({"request": None, "round": 0, **at}),
    ]
    rng = np.random.default_rng(1)
    answers = set()
    for _ in range(10_000):
        data = bytearray(whole[rng.integers(3)])
        end = 4 + int.from_bytes(data[:4], "little")
        for place in rng.integers(end if rng.random() < 0.8 else len(data), size=rng.integers(1, 4)):
            data[place] = rng.integers(256)
        if rng.random() < 0.2:
            data = data[: rng.integers(len(data))]
        with contextlib.suppress(Refused):
            decode(bytes(data))
        silo.start()
        answer = silo.answer(bytes(data))
        if answer is not None and "refusal" in (told := decode(answer)):
            answers.add(told["refusal"])
    words = "declined: |not understood: |failed: "
    assert all(re.match(words, answer) and len(answer) < 80 for answer in answers)
    assert not any("1234" in answer for answer in answers)
    assert "1234" not in (tmp_path / "ledger").read_text()


def test_only_the_message_that_is_due_is_taken():
    due = jax.eval_shape(lambda: {"x": jnp.zeros(3), "mass": jnp.zeros(())})
    check_like({"x": np.ones(3, np.float32), "mass": np.float32(1)}, due)
    for wrong in (
        {"x": np.ones(4, np.float32), "mass": np.float32(1)},
        {"x": np.ones(3), "mass": np.float32(1)},
        {"x": np.ones(3, np.float32)},
        {"x": np.array([1, np.nan, 1], np.float32), "mass": np.float32(1)},
        {"x": np.array([1, np.inf, 1], np.float32), "mass": np.float32(1)},
    ):
        with pytest.raises(Refused):
            check_like(wrong, due)


# Policies


def ask(silo, exchange, opening=None, request=None, number=1):
    at = {"selection": f"s{number}", "number": number}
    begun = silo.answer(encode({"begin": exchange, "opening": opening, "columns": 3, **at}))
    return decode(begun or silo.answer(encode({"request": request, "round": 0, **at})))


def test_a_silo_answers_within_its_policy(tmp_path):
    few = POOL.points[:5]
    for i, (limits, exchange, opening, reason) in enumerate((
        ({"exchanges": ("kernel_densities",)}, moments(), None, "exchange moments is not allowed"),
        ({"max_bytes": 10}, moments(), None, "bytes"),
        ({"max_rounds": 0}, moments(), None, "rounds"),
        ({"least_rows": 100}, moments(), None, "rows of the silo"),
        ({}, kernel_densities(1.0), (few, 1.0), "support"),
        ({"epsilon": 0.5}, feature_means(WHITENED, 12.0), None, "privacy budget"),
        ({"epsilon": 9.0}, feature_means(WHITENED), None, "no noise"),
        ({"epsilon": 9.0}, feature_means(bounded(-6.0), 12.0), None, "no noise"),
        ({"epsilon": 9.0}, feature_means(WHITENED, np.float32([12, 0])), None, "no noise"),
        ({"epsilon": 9.0}, feature_means(bounded(1e19), 2e25), None, "no noise"),
        ({"epsilon": 9.0}, feature_means(bounded(6.0, 1e24 * EYE), 12.0), None, "features"),
        ({}, feature_means(kernel_features(POOL.points[:1], -1.0), 12.0), None, "features"),
        ({}, feature_means(bounded(6.0, np.ones((300, 3), np.float32))), None, "features"),
        ({}, feature_means(linear_in(np.ones(200, np.float32), kernel_features(POOL.points, 1.0))), None, "features"),
        ({}, logistic(WHITENED), linear_in(np.ones(3, np.float32), WHITENED), "features"),
        ({"max_support": 100}, feature_means(kernel_features(POOL.points, 1.0)), None, "landmarks"),
        ({}, kernel_densities(1.0), (np.repeat(POOL.points[:1], 40, axis=0), 1.0), "support"),
        ({"max_total_bytes": 40}, moments(), None, "bytes"),
    )):  # fmt: skip
        path = tmp_path / f"{i}.ledger"
        assert ask(silo_of(SILOS[0], path, **limits), exchange, opening)["refusal"] == f"declined: {reason}"
        assert reason in path.read_text()
    silo = silo_of(SILOS[0], tmp_path / "ledger")
    assert_allclose(ask(silo, moments())["reply"].mean, SILOS[0].mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("name", ["geodesic", "barycenter"])
def test_images_that_give_rows_away_are_declined(tmp_path, name):
    support = POOL.points[:40]
    start = {"start": support} if name == "geodesic" else {}
    for epsilon, declined in ((1e-3, True), (100.0, False)):
        exchange = EXCHANGES[name](epsilon, **start) if start else EXCHANGES[name](support, epsilon)
        silo = silo_of(SILOS[0], tmp_path / f"{epsilon}", max_exposure=0.5)
        assert (ask(silo, exchange, None, support).get("refusal") == "declined: exposure") == declined


def test_noisy_messages_are_accounted_for_over_restarts(tmp_path):
    exchange, path = feature_means(WHITENED, 40.0), tmp_path / "ledger"
    multiplier = 40.0 / 12.0
    assert_allclose(squares_of(exchange), multiplier**-2)
    assert_allclose(squares_of(feature_means(kernel_features(POOL.points, 1.0), 4.0)), 0.25)
    assert squares_of(feature_means(WHITENED)) is None
    assert squares_of(feature_means(quadratic_features(WHITENED.whitening), 40.0)) is None
    budget, told = privacy_loss(multiplier, 5, 1e-5) + 1e-6, []
    for number in range(8):
        silo = silo_of(SILOS[0], path, epsilon=budget)  # anew each time
        told.append(ask(silo, exchange, number=number))
    assert [each.get("refusal") for each in told] == [None] * 5 + ["declined: privacy budget"] * 3
    noisy = np.stack([each["reply"].mean for each in told[:5]])
    assert len(np.unique(noisy[:, 1])) == 5
    spread = noisy.std(axis=0, ddof=1) * 60  # of 60 rows
    assert_allclose(np.sqrt((spread**2).mean()), 40.0, rtol=4 / math.sqrt(2 * 4 * noisy.shape[1]))
    with path.open("a") as file:
        file.write('{"time": "cut o')  # as by a crash: it was not sent
    assert_allclose(Ledger(path).loss(1e-5), budget - 1e-6, rtol=1e-6)
    for spoiled in ("NaN", "-1", '"x"'):
        path.write_text(f'{{"squares": {spoiled}}}\n')
        with pytest.raises(ValueError, match="line 1: is none of a ledger"):
            Ledger(path)


def test_policies_are_read_from_files(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text('exchanges = ["moments"]\nmax_rounds = 3\nepsilon = 1.5\n')
    assert read_policy(file) == Policy(("moments",), max_rounds=3, epsilon=1.5)
    for text, message in (
        ("rounds = 3", "rounds"),
        ('exchanges = ["pickle"]', "pickle"),
        ("max_exposure = 2", "max_exposure"),
        ("exchanges = 3", "exchanges = 3"),
        ("max_rounds = ", "policy.toml"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_policy(file)


def test_no_row_changes_whether_a_noisy_message_is_answered(tmp_path):
    """A server scales coordinates so that the squares of rows beyond a place that it chooses would overflow."""
    told = []
    for rows in (SILOS[0], 1e6 * SILOS[0]):
        silo = silo_of(rows, tmp_path / f"{rows.max()}", epsilon=9.0)
        for number, (scale, norm) in enumerate(((1, 6.0), (1e15, 6.0), (1e15, 1e6), (1e18, 1e19))):
            answer = ask(silo, feature_means(bounded(norm, np.float32(scale) * EYE), 20 * norm), number=number)
            told.append((answer.get("refusal"), silo.ledger.squares))
    assert told[:4] == told[4:]
    assert [refusal for refusal, _ in told[:4]] == [None, None, None, "declined: features"]
    assert_allclose(told[2][1], 0.03, rtol=1e-6)


def test_noise_is_paid_for_before_the_reply_is_computed(tmp_path, monkeypatch):
    silo = silo_of(SILOS[0], tmp_path / "ledger", epsilon=9.0)
    monkeypatch.setattr("jaxcollapse.network.silo._reply", lambda _, state, silo, request: (state, silo.weights / 0))
    assert ask(silo, feature_means(WHITENED, 40.0))["refusal"] == "declined: a reply that is not finite"
    assert_allclose(Ledger(tmp_path / "ledger").squares, (12 / 40) ** 2, rtol=1e-6)


def test_bounded_features_are_bounded_in_single_precision():
    rng = np.random.default_rng(2)
    points = jnp.asarray(rng.standard_normal((500, 3)), jnp.float32)
    landmarks = jnp.asarray(1e-3 * rng.standard_normal((2000, 3)), jnp.float32)  # nearly one point
    for features, most in (
        (kernel_features(landmarks, 1.0), 1.0),
        (bounded(1e6, 1e15 * EYE), 1e6),
        (bounded(1e19, 1e24 * EYE), 1e19),
    ):
        norms = np.linalg.norm(np.asarray(features(points), float), axis=1)
        assert norms.max() <= most * (1 + 1e-5)


def test_a_budget_suffices_for_what_it_is_named_for(tmp_path):
    """Two messages of `private_balanced` spend the budget to rounding."""
    noise = noise_needed(1.0, 2, 1e-5)
    silo = silo_of(SILOS[0], tmp_path / "ledger", epsilon=1.0)
    for number, exchange in enumerate((
        feature_means(WHITENED, noise * 2 * 6.0), feature_means(kernel_features(POOL.points, 1.0), noise * 2),
    )):  # fmt: skip
        assert "reply" in ask(silo, exchange, number=number)


BEYOND = np.float32([150, 50, 0, 0, 0, 0, 0, 0, 0, 0])  # all rows, whose weights fall exponentially behind the first
ASKED_AT_POINTS = {
    "feature_means": lambda w: (feature_means(kernel_features(POOL.points, w)), None, None),
    "logistic": lambda w: (logistic(bounded(np.inf)), bounded(np.inf), BEYOND * (w < 1)),
    "kernel_densities": lambda w: (kernel_densities(w), (POOL.points, w), None),
    "federated_sinkhorn": lambda w: (federated_sinkhorn(w), POOL, Request(jnp.zeros(200), jnp.float32(w))),
    "capped_transport": lambda w: (capped_transport(w, 50), POOL, Request(jnp.zeros(200), jnp.float32(w))),
}


@pytest.mark.parametrize("name", ASKED_AT_POINTS)
def test_sums_that_give_rows_away_are_declined(tmp_path, name):
    for width, declined in ((1e-3, True), (100.0, False)):
        silo = silo_of(SILOS[0], tmp_path / f"{width}", max_exposure=0.5)
        assert (ask(silo, *ASKED_AT_POINTS[name](width)).get("refusal") == "declined: exposure") == declined


def test_bytes_are_counted_in_a_call_and_in_a_lifetime(tmp_path):
    size = 4 * (1 + 3 + 9)  # of moments
    silo = silo_of(SILOS[0], tmp_path / "ledger", max_bytes=2 * size, max_total_bytes=3 * size)
    told = [ask(silo, moments(), number=number) for number in range(3)]
    assert [each.get("refusal") for each in told] == [None, None, "declined: bytes"]
    assert silo.answer(encode({"request": None})) is None  # nor anything else in this call
    silo = silo_of(SILOS[0], tmp_path / "ledger", max_bytes=2 * size, max_total_bytes=3 * size)
    told = [ask(silo, moments(), number=number) for number in range(2)]
    assert [each.get("refusal") for each in told] == [None, "declined: bytes"]


def test_a_ledger_is_its_owners_and_loses_no_whole_line(tmp_path):
    path = tmp_path / "ledger"
    silo = silo_of(SILOS[0], path)
    ask(silo, moments())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    whole, place = path.read_bytes(), path.stat().st_ino
    path.write_bytes(whole + b'{"squares": 1')
    Ledger(path)
    assert (path.read_bytes(), path.stat().st_ino) == (whole, place)


# The server


class Scripted(Session):
    """A silo that sends what `script` makes of each frame of the server, a list of frames."""

    def __init__(self, script):
        super().__init__()
        self.incoming, self.outgoing, self.script = queue.Queue(), self, script

    def put(self, frame):
        told = decode(frame)
        for answer in self.script({key: told.get(key) for key in ("selection", "number", "round")}):
            self.incoming.put(answer)


def moments_of(mass=60.0, mean=(0.0, 0.0, 0.0), covariance=EYE):
    told = Moments(*map(np.float32, (mass, mean, covariance)))
    return lambda at: [] if at["round"] is None else [encode({"reply": told, **at})]


def always(**told):
    return lambda at: [encode(at | told)]


TWO = np.zeros(2, np.float32)
CODES = "\x1b[31m\n12:00 all is well"
BAD = {
    "an array for a selection": (always(selection=TWO), "not the one that is due"),
    "an array for a number": (always(number=TWO, reply=None), "not the one that is due"),
    "words of a terminal": (always(refusal=CODES), "it refuses: ?[31m?12:00 all is well"),
    "a flood": (lambda at: [encode({"selection": "other"})] * (MAX_STALE + 1), "messages of other selections"),
    "no mass": (moments_of(mass=0.0), "mass that no silo has"),
    "mass below zero": (moments_of(mass=-550.0), "mass that no silo has"),
    "mass beyond numbers": (moments_of(mass=3e38), "mass that no silo has"),
    "mean beyond numbers": (moments_of(mean=(3e38, 0.0, 0.0)), "moments that no silo has"),
    "variance below zero": (moments_of(covariance=-5 * EYE), "covariance that no silo has"),
    "no covariance": (moments_of(covariance=np.triu(np.ones((3, 3)))), "covariance that no silo has"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_a_silo_sends_ends_no_selection_of_the_others(tmp_path, fault):
    script, words = BAD[fault]
    honest = Direct(silo_of(SILOS[1], tmp_path / "ledger"))
    network = Network({"a": Scripted(script), "b": honest}, ("a", "b"), 3, 1, 5.0)
    found = carry_out(moments(), jax.random.key(0), None, network)
    assert_allclose(found.mean, SILOS[1].mean(axis=0), rtol=1e-4)
    assert words in network.accounts["a"].missing


def test_faults_of_the_servers_own_reading_leave_a_silo_out(tmp_path, monkeypatch):
    def fails(*_):
        raise KeyError("secret")

    monkeypatch.setattr("jaxcollapse.network.server.check_like", fails)
    network = Network({"a": Direct(silo_of(SILOS[1], tmp_path / "ledger"))}, ("a",), 3, 1, 5.0)
    with pytest.raises(ValueError, match="a: its message cannot be read: KeyError"):
        carry_out(moments(), jax.random.key(0), None, network)


def test_a_silo_of_other_columns_says_so(tmp_path):
    wide = Direct(silo_of(np.ones((60, 4), np.float32), tmp_path / "ledger"))
    network = Network({"a": wide}, ("a",), 3, 1, 5.0)
    with pytest.raises(ValueError, match="its rows have not the 3 columns of the candidates"):
        carry_out(moments(), jax.random.key(0), None, network)
    with pytest.raises(ValueError, match="not finite"):
        silo_of(np.full((60, 3), np.nan, np.float32), tmp_path / "ledger")
