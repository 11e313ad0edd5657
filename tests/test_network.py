"""Silos on other hosts: the second driver of exchanges, what it lets through, and what each party says of faults."""

import contextlib
import json
import os
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from parties import NAMES, POOL, RNG, SILOS, WHITENED, silo_of

from jaxcollapse.base import Measure, counted
from jaxcollapse.command import main
from jaxcollapse.exchanges import (
    SCREENS,
    carry_out,
    feature_means,
    kernel_densities,
    message_bytes,
    moments,
)
from jaxcollapse.network.certificates import make
from jaxcollapse.network.codec import decode, encode
from jaxcollapse.network.policy import Ledger, Policy
from jaxcollapse.network.server import Listener, Network, QuorumLost
from jaxcollapse.network.silo import METHOD, Silo, attend, credentials
from jaxcollapse.pipeline.select import keep, made
from jaxcollapse.results import lock
from jaxcollapse.sizes import sizes
from jaxcollapse.verifiers import APART, verifier

grpc = sys.modules["grpc"]  # which the package imports first, to say what TLS it takes
NUM_KEPT = 50


# The wire


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    make(directory, NAMES, "localhost")
    return directory


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class Place:
    """A listener, and silos that call it from threads of their own."""

    def __init__(self, directory, ledgers):
        self.directory, self.ledgers, self.said = directory, ledgers, queue.SimpleQueue()
        self.listener, self.stops = Listener("localhost:0", directory, NAMES), {}

    def call(self, name, silo=None):
        silo = silo or silo_of(SILOS[NAMES.index(name)], self.ledgers / f"{name}.ledger")
        self.stops[name] = threading.Event()
        address = f"localhost:{self.listener.port}"
        words = silo, address, self.directory, name, self.stops[name], self.said.put
        threading.Thread(target=attend, args=words, daemon=True).start()
        return silo

    def network(self, quorum=3, seconds=60.0):
        sessions = self.listener.wait(20.0, lambda: None)
        return Network(sessions, NAMES, 3, quorum, seconds)

    def close(self):
        for stop in self.stops.values():
            stop.set()
        self.listener.close()


@pytest.fixture
def place(certificates, tmp_path):
    place = Place(certificates, tmp_path)
    yield place
    place.close()


def choose(name, silos):
    select = verifier(name, silos, jax.random.key(3))
    run = jax.jit if not isinstance(silos, Network) else lambda function: function
    return counted(
        run(lambda select, key, pool: select(key, pool, sizes(NUM_KEPT, 0.25)))(select, jax.random.key(5), POOL)
    )


def test_every_verifier_of_exchanges_keeps_what_it_keeps_in_one_program(place):
    for name in NAMES:
        place.call(name)
    for name in APART:
        network = place.network()
        kept, _ = choose(name, network)
        assert kept.sum() == NUM_KEPT
        assert not any(account.missing for account in network.accounts.values())
        expected, _ = choose(name, [jnp.asarray(silo) for silo in SILOS])
        if name.startswith("private"):  # noise is the silos' own
            assert (np.asarray(kept) != np.asarray(expected)).any()
        else:
            assert_array_equal(kept, expected, err_msg=name)


def test_tiles_keep_what_they_keep_with_rows_in_one_place(place):
    for name in NAMES:
        place.call(name)
    rows = np.asarray(POOL.points)
    apart, together = (
        keep(made("kernel_balanced", silos, 3), lambda i: rows[i], 200, NUM_KEPT, 3, 100, lambda *told: None)
        for silos in (place.network(), SILOS)
    )
    assert apart.num_tiles == 2
    assert_array_equal(apart.kept, together.kept)


def test_bytes_are_those_of_the_messages_and_little_more(place):
    for name in NAMES:
        place.call(name)
    for exchange, pool in ((moments(), None), (kernel_densities(1.0), POOL)):
        network = place.network()
        found = carry_out(exchange, jax.random.key(0), pool, network)
        stacked = Measure(jnp.stack(SILOS), jnp.ones((3, 60)))
        jax.tree.map(
            lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            found,
            carry_out(exchange, jax.random.key(0), pool, stacked),
        )
        told = message_bytes(exchange, pool, Measure(*(leaf[0] for leaf in stacked)))
        for account in network.accounts.values():
            assert told <= account.sent + account.received <= told + 1500
            assert account.rounds == 1


def test_rows_are_in_no_message_log_or_error(place):
    """Every value of a silo is searched for in all that it sends and writes, in bytes and in digits."""
    marked = (1 + RNG.random((60, 3))).astype(np.float32)
    silo = place.call("a", silo_of(marked, place.ledgers / "a.ledger"))
    sent = []
    answer = silo.answer
    silo.answer = lambda data: sent.append(answer(data)) or sent[-1]
    place.call("b")
    place.call("c")
    for name in ("kernel_balanced", "scheme_ii", "capped"):
        choose(name, place.network())
    wire = b"".join(filter(None, sent))
    assert len(sent) > 10
    assert not any(value.tobytes() in wire for value in marked.ravel())
    words = (place.ledgers / "a.ledger").read_text() + "".join(
        iter(lambda: place.said.get(timeout=0.01) if not place.said.empty() else "", "")
    )
    assert not any(f"{value:.5f}" in words for value in marked.ravel())


class Liar(Silo):
    """Answers `garble(round, reply)` in place of the bytes of its reply; None: not at all."""

    def __init__(self, garble, path):
        super().__init__(SILOS[0], Policy(), Ledger(path))
        self.garble, self.count = garble, 0

    def answer(self, data):
        answer = super().answer(data)
        if answer is not None:
            self.count += 1
            answer = self.garble(self.count, answer)
        return answer


def spoiled(change):
    def garble(_, answer):
        told = decode(answer)
        return encode(told | {"reply": jax.tree.map(change, told["reply"])})

    return garble


FAULTS = {
    "garbage": (lambda n, answer: bytes(range(256)), "length"),
    "nothing": (lambda n, answer: b"", "length"),
    "NaN": (spoiled(lambda leaf: np.full_like(leaf, np.nan)), "not finite"),
    "another shape": (spoiled(lambda leaf: np.zeros((*np.shape(leaf), 2), np.float32)), "shape"),
    "a replay": (lambda n, answer: encode(decode(answer) | {"number": 0}), "not the one that is due"),
    "another structure": (lambda n, answer: encode(decode(answer) | {"reply": (1, 2)}), "structure"),
    "64 MB": (lambda n, answer: bytes(64 * 2**20), "connection is lost"),
    "no answer": (lambda n, answer: None, "no answer within 5 s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_silo_at_fault_is_left_out_and_named(place, fault):
    garble, words = FAULTS[fault]
    place.call("a", Liar(garble, place.ledgers / "a.ledger"))
    place.call("b")
    place.call("c")
    start = time.monotonic()
    network = place.network(quorum=2, seconds=5.0)
    found = carry_out(moments(), jax.random.key(0), None, network)
    assert time.monotonic() - start < 30
    assert words in network.accounts["a"].missing
    assert not network.accounts["b"].missing
    both = np.concatenate(SILOS[1:])
    assert_allclose(found.mean, both.mean(axis=0), rtol=1e-4)
    assert float(found.mass) == len(both)
    with pytest.raises(QuorumLost, match="a: "):
        Network({name: s for name, s in network.sessions.items() if name == "b"}, NAMES, 3, 2, 5.0)


def test_a_silo_far_from_the_others_is_screened_out(place):
    alike = [RNG.standard_normal((60, 3)).astype(np.float32) for _ in range(2)]
    for name, rows in zip(NAMES, (alike[0] + 100, *alike), strict=True):
        place.call(name, silo_of(rows, place.ledgers / f"{name}.ledger"))
    sessions = place.network().sessions
    network = Network(sessions, NAMES, 3, 3, 30.0, screen=SCREENS["near_median"]())
    found = carry_out(feature_means(WHITENED), jax.random.key(0), None, network)
    assert_allclose(
        found, np.mean([np.asarray(WHITENED(jnp.asarray(rows))).mean(axis=0) for rows in alike], axis=0), atol=1e-5
    )
    assert [network.accounts[name].screened for name in NAMES] == [1, 0, 0]


@pytest.mark.parametrize("lie", ["shift", "amplify"])
def test_a_silo_that_lies_within_the_protocol_is_believed_without_a_screen(place, lie):
    """Its replies are well formed: one of three silos moves the kept set, and a screen brings it back."""
    honest = [(RNG.standard_normal((60, 3)) - 1).astype(np.float32) for _ in range(3)]
    false = {"shift": honest[0] + 6, "amplify": np.repeat(honest[0] + 6, 20, axis=0)}[lie]
    for name, rows in zip(NAMES, (false, *honest[1:]), strict=True):
        place.call(name, silo_of(rows, place.ledgers / f"{name}.ledger"))
    kept = {}
    for screen in (None, SCREENS["near_median"]()):
        network = Network(place.network().sessions, NAMES, 3, 3, 30.0, screen=screen)
        kept[screen is not None], _ = choose("landmark_balanced", network)
        assert (network.accounts["a"].screened > 0) == (screen is not None)
    alone, _ = choose("landmark_balanced", [jnp.asarray(rows) for rows in honest[1:]])
    assert_array_equal(kept[True], alone)
    rows = np.asarray(POOL.points)
    believed, screened = (rows[np.asarray(kept[k]) > 0].mean(axis=0) for k in (False, True))
    assert (believed > screened + 0.5).all()


def test_a_silo_that_was_left_out_may_come_back(place):
    for name in NAMES:
        place.call(name)
    place.network()
    place.stops["a"].set()
    end = time.monotonic() + 20
    while "a" in place.listener.sessions and time.monotonic() < end:
        time.sleep(0.05)
    one = Network(dict(place.listener.sessions), NAMES, 3, 2, 30.0)
    assert float(carry_out(moments(), jax.random.key(0), None, one).mass) == 120
    assert one.accounts["a"].missing.startswith("never came")
    place.call("a")
    assert float(carry_out(moments(), jax.random.key(0), None, place.network()).mass) == 180


def dial(address, secrets):
    """Call with these secrets, and name what ends the call."""
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(*secrets)) as channel:
        try:
            list(channel.stream_stream(METHOD)(iter([b""]), timeout=10.0))
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_connections_are_of_tls_1_3(place, certificates, version):
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    context.load_cert_chain(certificates / "a.pem", certificates / "a.key")
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    refused = version == "TLSv1_2"
    with (
        socket.create_connection(("localhost", place.listener.port)) as plain,
        pytest.raises(ssl.SSLError) if refused else contextlib.nullcontext(),
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        assert wrapped.version() == "TLSv1.3"


def test_only_listed_certificates_are_let_in(place, certificates, tmp_path, capfd):
    address = f"localhost:{place.listener.port}"
    authority, key, certificate = credentials(certificates, "a")
    others, expired = tmp_path / "others", tmp_path / "expired"
    make(others, ("a",), "localhost")
    make(expired, ("a",), "localhost", days=-1)
    assert dial(address, (authority, None, None)) == grpc.StatusCode.UNAVAILABLE
    for directory in (others, expired):
        _, wrong_key, wrong = credentials(directory, "a")
        assert dial(address, (authority, wrong_key, wrong)) == grpc.StatusCode.UNAVAILABLE
        assert "Handshake failed" in capfd.readouterr().err
    _, key, certificate = credentials(certificates, "server")  # of the authority, and of no silo
    assert dial(address, (authority, key, certificate)) in (
        grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED,
    )  # fmt: skip
    place.call("a")
    place.listener.wait(0.0, lambda: None)
    end = time.monotonic() + 20
    while "a" not in place.listener.sessions and time.monotonic() < end:
        time.sleep(0.05)
    assert dial(address, credentials(certificates, "a")) == grpc.StatusCode.ALREADY_EXISTS
    assert dial(address, credentials(certificates, "a")) == grpc.StatusCode.ALREADY_EXISTS
    (line,) = (line for line in place.listener.turned_away if "silo a is there already" in line)
    assert place.listener.turned_away[line] == 2
    with pytest.raises(ValueError, match="each must be named once"):
        Listener("localhost:0", certificates, ("a", "a"))
    with pytest.raises(FileNotFoundError):
        Listener("localhost:0", certificates, ("z",))


def test_two_servers_share_no_port(place, certificates):
    with pytest.raises(OSError, match="cannot be listened at"):
        Listener(f"localhost:{place.listener.port}", certificates, NAMES)
    for address in ("localhost", "localhost:99999", ":7453", "localhost:http"):
        with pytest.raises(ValueError, match=f"listen = {address}: must be HOST:PORT"):
            Listener(address, certificates, NAMES)


def test_keys_and_certificates_that_cannot_be_used_are_named(certificates, tmp_path):
    for file in ("ca.pem", "a.pem", "a.key"):
        (tmp_path / file).write_bytes((certificates / file).read_bytes())
    assert all(credentials(tmp_path, "a"))
    for file, content, words in (
        ("a.key", (certificates / "b.key").read_bytes(), "a.key is not the key of a.pem"),
        ("a.key", b"-----BEGIN PRIVATE KEY-----", "a.key cannot be used"),
        ("a.pem", (certificates / "a.key").read_bytes(), "a.pem cannot be used"),
        ("ca.pem", b"", "ca.pem cannot be used"),
    ):
        whole = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(content)
        with pytest.raises(ValueError, match=f"certificates = .*{words}"):
            credentials(tmp_path, "a")
        (tmp_path / file).write_bytes(whole)
    (tmp_path / "ca.pem").unlink()
    with pytest.raises(FileNotFoundError, match=r"certificates = .*ca.pem: No such file"):
        credentials(tmp_path, "a")


def test_a_silo_that_refuses_ends_the_call_and_calls_again(place):
    place.call("a", silo_of(SILOS[0], place.ledgers / "a.ledger", exchanges=("moments",)))
    place.call("b")
    place.call("c")
    network, before = place.network(quorum=2), dict(place.listener.sessions)
    carry_out(moments(), jax.random.key(0), None, network)
    carry_out(feature_means(WHITENED), jax.random.key(0), None, network)
    assert network.accounts["a"].missing == "it refuses: declined: exchange feature_means is not allowed"
    until(lambda: place.listener.sessions.get("a", before["a"]) is not before["a"])
    assert float(carry_out(moments(), jax.random.key(0), None, place.network()).mass) == 180
    said = [place.said.get() for _ in range(place.said.qsize())]
    for words in (
        "is connected",
        "answers moments, round 1",
        "refuses, declined: exchange feature_means",
        "dials again",
    ):
        assert any(line.startswith("a: ") and words in line for line in said)


# Processes


def test_three_processes_select_as_one(tmp_path, certificates):
    """The commands, end to end: the same rows as from files, with what each silo sent, and an end by signal."""
    for name, points in zip(NAMES, SILOS, strict=True):
        np.save(tmp_path / f"{name}.npy", points)
    np.save(tmp_path / "pool.npy", POOL.points)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "import sys, jaxcollapse_command as c; sys.exit(c.main())"]
    where = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}, "text": True}
    call = ["--server", f"localhost:{port}", "--certificates", certificates]
    serving = [
        subprocess.Popen(
            [*command, "serve", f"{name}.npy", *call, "--name", name, *([] if name == "c" else ["--selections", "1"])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **where,
        )
        for name in NAMES
    ]  # fmt: skip
    rest = ["select", "pool.npy", "--keep", "50", "--verifier", "landmark_balanced", "--json", "-"]
    apart = subprocess.run(
        [*command, *rest, "--listen", f"localhost:{port}", "--silos", "a,b,c", "--certificates", certificates],
        capture_output=True, timeout=240, **where,
    )  # fmt: skip
    assert apart.returncode == 0, apart.stderr
    report = json.loads(apart.stdout)
    together = subprocess.run(
        [*command, *rest, "--silo", "a.npy", "b.npy", "c.npy"], capture_output=True, timeout=240, **where
    )
    assert report["kept"] == json.loads(together.stdout)["kept"]
    assert [row["outcome"] for row in report["tables"]["silos"]] == ["took part"] * 3
    serving[2].send_signal(signal.SIGTERM)
    for name, process in zip(NAMES, serving, strict=True):
        told, errors = process.communicate(timeout=60)
        assert "nothing is written" not in errors
        assert f"{name}: is connected" in errors
        assert f"{name}: answers moments, round 1" in errors
        assert process.returncode == (0 if name != "c" else 128 + signal.SIGTERM)
        assert ("took part in: 1." in told) == (name != "c")
        lines = [json.loads(line) for line in (tmp_path / f"{name}.ledger").read_text().splitlines()]
        assert [line["exchange"] for line in lines] == ["moments", "moments", "feature_means", "feature_means"]


def test_one_process_serves_with_a_ledger(tmp_path, capsys):
    np.save(tmp_path / "a.npy", SILOS[0])
    make(tmp_path, NAMES, "localhost")
    ledger = tmp_path / "a.ledger"
    words = ["serve", tmp_path / "a.npy", "--server", "localhost:1", "--name", "a", "--certificates", tmp_path]
    with lock(tmp_path / "a.ledger.lock"):
        assert main([*map(str, words), "--ledger", str(ledger)]) == 2
    assert f"ledger = {ledger}: another process serves with it" in capsys.readouterr().err
    policy = tmp_path / "policy.toml"
    policy.write_text("epsilon = 1.0")
    for more, message in (
        (["--policy", policy], "ledger: name the file"),
        (["--policy", tmp_path / "none.toml"], f"policy = {tmp_path / 'none.toml'}: No such file"),
        (["--ledger", ledger, "--server", "localhost"], "server = localhost: must be HOST:PORT"),
        (["--ledger", ledger, "--name", "z"], "z.key: No such file"),
    ):
        assert main([*map(str, [*words, *more])]) == 2
        assert message in capsys.readouterr().err
    assert not ledger.exists()


def test_what_cannot_be_asked_of_others_is_refused(tmp_path, capsys):
    np.save(tmp_path / "pool.npy", POOL.points)
    make(tmp_path / "certificates", NAMES, "localhost")
    rest = ["select", str(tmp_path / "pool.npy"), "--keep", "5", "--listen", "localhost:0"]
    for words, message in (
        (["--silos", "a", "--verifier", "single_silo"], "single_silo"),
        (["--silos", "a", "--silo", "x.npy"], "silo: name files"),
        (["--silos", " , "], "silos: name those"),
        (["--silos", "a,b", "--quorum", "3"], "quorum = 3"),
        (["--silos", "a,z"], "z.pem"),
        (["--silos", "a", "--standardise"], "standardise"),
        (["--silos", "a,b", "--wait", "0"], "a: never came"),
    ):
        assert main([*rest, "--certificates", str(tmp_path / "certificates"), *words]) == 2
        assert message in capsys.readouterr().err


def test_processes_that_stop_die_or_lose_their_server(certificates, tmp_path):
    """SIGSTOP, SIGCONT, SIGKILL, and a server that goes and comes back at the same address."""

    def mass(quorum, seconds):
        network = Network(dict(listener.sessions), NAMES, 3, quorum, seconds)
        found = carry_out(moments(), jax.random.key(0), None, network)
        return float(found.mass), {name: account.missing for name, account in network.accounts.items()}

    listener = Listener("localhost:0", certificates, NAMES)
    address, silos = f"localhost:{listener.port}", {}
    for name, points in zip(NAMES, SILOS, strict=True):
        rows = tmp_path / f"{name}.npy"
        np.save(rows, points)
        script = Path(__file__).with_name("silo_process.py")
        words = [sys.executable, script, name, address, certificates, tmp_path / f"{name}.ledger", rows]
        path = {"PYTHONPATH": str(Path(__file__).parents[1])}
        silos[name] = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=os.environ | path)
    try:
        until(lambda: len(listener.sessions) == 3, 60.0)
        assert mass(3, 60.0)[0] == 180
        silos["a"].send_signal(signal.SIGSTOP)
        found, missing = mass(2, 1.0)
        assert (found, missing["a"]) == (120, "no answer within 1 s")
        silos["a"].send_signal(signal.SIGCONT)
        assert mass(3, 60.0)[0] == 180  # late answers to the earlier selection are passed over
        silos["b"].kill()
        until(lambda: "b" not in listener.sessions)
        found, missing = mass(2, 60.0)
        assert found == 120
        assert missing["b"].startswith("never came")
        with pytest.raises(QuorumLost, match="2 answer, and 3 must"):
            mass(3, 60.0)
        listener.close()
        listener = Listener(address, certificates, NAMES)
        until(lambda: set(listener.sessions) == {"a", "c"}, 60.0)
        assert mass(2, 60.0)[0] == 120
    finally:
        listener.close()
        for silo in silos.values():
            silo.kill()
            silo.wait()


def test_a_rehearsal_says_what_attacks_find(tmp_path, capsys):
    """Rows far apart in a wide pool: a kernel narrower than their distance gives them away, and moments do not."""
    rows = (40 * RNG.standard_normal((40, 6))).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    near = np.repeat(rows, 10, axis=0) + 0.01 * RNG.standard_normal((400, 6))
    np.save(tmp_path / "pool.npy", near.astype(np.float32))
    (tmp_path / "policy.toml").write_text('exchanges = ["moments"]')
    words = ["rehearse", str(tmp_path / "rows.npy"), "--candidates", str(tmp_path / "pool.npy"), "--json", "-"]
    told = {}
    for name in ("federated_sinkhorn", "landmark_balanced"):
        assert main([*words, "--verifier", name]) == 0
        told[name] = json.loads(capsys.readouterr().out)
    draw, sums, attacked = told["federated_sinkhorn"]["tables"]["attacks"]
    assert (sums["exchange"], sums["error"]) == ("moments", None)
    assert draw["share_recovered"] < 0.5 < attacked["share_recovered"]
    assert attacked["error"] < draw["error"]
    assert [row["error"] for row in told["landmark_balanced"]["tables"]["attacks"][1:]] == [None, None]
    assert main([*words, "--policy", str(tmp_path / "policy.toml")]) == 3
    refused = json.loads(capsys.readouterr().out)
    assert "exchange feature_means is not allowed" in refused["verdict"]
    assert not list(tmp_path.glob("*ledger*"))
