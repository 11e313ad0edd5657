"""What runs experiments: one file of results, kills, damage, interruptions, progress and lost streams."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import toy_experiment

from jaxcollapse import Moments, Run, build_collapse, command, record_model, results, seeds, sizes, top_of_gaussian
from jaxcollapse.experiments.support import display as display_module
from jaxcollapse.experiments.support.display import SECONDS_BETWEEN_LINES, Display, Lasting, attend, clock
from jaxcollapse.experiments.support.runner import Options, Output, Runner, Settings, execute
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import METRICS
from jaxcollapse.targets import isotropic_target
from jaxcollapse.workflows import accumulate

ROOT = Path(__file__).parents[1]
CONFIG = toy_experiment.Config(seed=3)


def run_toy(out, config=CONFIG, experiment=toy_experiment, **options):
    """Run the toy, and return the lines that stay."""
    stream = io.StringIO()
    display = Display(stream)
    execute("toy", experiment, config, Options(out=out, **options), display)
    assert display.num_finished in (0, display.num_parts)
    display.close()
    return [line[len("12:00:00 ") :] for line in stream.getvalue().splitlines()]


def everything_in(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_results_are_one_file_that_says_where_they_are_from(tmp_path):
    lines = run_toy(tmp_path / "out")
    assert everything_in(tmp_path) == ["out", "out/toy.nc"]
    assert [line.partition(":")[0] for line in lines] == ["  squares", "  total", "toy"]
    data = results.load(tmp_path / "out" / "toy.nc")
    np.testing.assert_array_equal(data.squares, [9, 16, 25, 36])
    assert data.attrs["configuration"] == {"seed": 3, "float64": False, "size": 4}
    assert data.attrs["summary"] == {"total": 86, "nothing": None}  # JSON knows no infinity
    assert data.attrs["experiment"] == "toy_experiment"
    assert data.attrs["versions"] == results.versions()
    assert data.attrs["warnings"] == []


def test_results_that_are_there_stay_unless_they_are_of_something_else_and_may_be_replaced(tmp_path):
    run_toy(tmp_path)
    path = tmp_path / "toy.nc"
    before = path.stat().st_mtime_ns, path.read_bytes()
    assert run_toy(tmp_path) == [f"toy: {path} is there already, of this very configuration and version"]
    other = toy_experiment.Config(seed=4)
    with pytest.raises(FileExistsError, match=r"toy\.nc exists, of another configuration or version: give --overwrite"):
        run_toy(tmp_path, other)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert run_toy(tmp_path, overwrite=True)[-1].endswith("of this very configuration and version")
    run_toy(tmp_path, other, overwrite=True)
    assert results.load(path).attrs["configuration"]["seed"] == 4
    path.write_bytes(before[1][:200])
    with pytest.raises(FileExistsError, match="give --overwrite"):
        run_toy(tmp_path)
    run_toy(tmp_path, overwrite=True)
    assert path.read_bytes() == before[1]


def test_kills_and_full_disks_lose_and_mix_nothing(tmp_path):
    """At each write of a run with two checkpoints, and at random in sweeps, shards and merges; see `kills.py`."""
    command = [sys.executable, str(ROOT / "tests" / "kills.py"), str(tmp_path), "3"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["kills"]) == 18
    for overwrite, write, stage, killed, between, again, at_last, left in found["kills"]:
        published = (write, stage) == (3, "renamed")
        assert killed == -signal.SIGKILL
        assert between == ("new" if published else "old" if overwrite else "none")
        assert (again, at_last, left) == (0, "new", [])
    for place in ("a checkpoint", "the results"):
        assert found["others"][f"full disk at {place}"] == [2, "old", 0, "new", []]
    assert found["others"]["two at once"] == [2, "none"]
    # Killed or done before, done at last, no finished chunk computed again, the same bytes, and nothing left.
    assert found["random"] == [[kind, True, 0, True, True, []] for kind in ("run", "shard", "merge")]


def test_a_second_run_in_one_directory_is_refused_in_words(tmp_path):
    (tmp_path / "toy.parts").mkdir()
    with results.lock(tmp_path / "toy.parts" / "lock"):
        with pytest.raises(BlockingIOError, match=r"^it is running in .* already: wait, or give another --out$"):
            run_toy(tmp_path)
        assert run_toy(tmp_path / "another")[-1].startswith("toy: ")
    run_toy(tmp_path)


@pytest.mark.parametrize("what", ["toy.parts", "toy.parts/lock"])
def test_links_are_refused_and_strangers_files_stay(tmp_path, what):
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "out" / what
    elsewhere.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(OSError, match="link"):
        run_toy(tmp_path / "out")
    link.unlink()
    mark = results.fingerprint({"experiment": "toy", "seed": 3, "float64": False, "size": 4})[:16]
    strangers = [tmp_path / "out" / "toy.parts" / name for name in ("notes.txt", f"{mark}/notes.txt", f"{mark}/my.npz")]
    strangers[-1].parent.mkdir(parents=True)
    for path in strangers:
        path.write_text("precious")
    run_toy(tmp_path / "out")
    assert [path.read_text() for path in strangers] == ["precious"] * 3
    assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) == 4


def interrupted(after):
    """Make an experiment that is interrupted after a part of the toy."""

    def run(config, runner):
        finish = runner.display.finish

        def finish_and_stop():
            finish()
            if runner.display.num_finished == after:
                raise KeyboardInterrupt

        runner.display.finish = finish_and_stop
        return toy_experiment.run(config, runner)

    return SimpleNamespace(run=run)


def damages(content):
    """List 44 ways in which a checkpoint can be damaged."""
    yield from (content[:length] for length in (0, 1, 10, *range(50, 600, 50), len(content) - 1))
    yield from (bytes(length) for length in (10, len(content)))
    yield from (content + b"more", b"text", content[::-1])
    for place in np.linspace(0, len(content) - 1, 20).astype(int):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    for arrays in ([], [np.zeros(2)], [np.zeros((3, 4))], [np.arange(4), np.arange(4)]):
        file = io.BytesIO()
        np.savez(file, *arrays)
        yield file.getvalue()


def test_damaged_checkpoints_are_computed_again_with_one_line(tmp_path):
    run_toy(tmp_path / "whole")
    whole = (tmp_path / "whole" / "toy.nc").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path, experiment=interrupted(1))
    (path,) = tmp_path.glob("toy.parts/*/squares.npz")
    content = path.read_bytes()
    found = list(damages(content))
    assert len(found) == 44
    for damage in found:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damage)
        lines = run_toy(tmp_path)
        assert [line for line in lines if "set aside" in line] == [
            f"  warning: {path} is damaged: set aside as squares.npz.damaged, computed again"
        ]
        assert (tmp_path / "toy.nc").read_bytes() == whole
        assert not (tmp_path / "toy.parts").exists()
        (tmp_path / "toy.nc").unlink()


def test_checkpoints_of_each_configuration_and_code_are_kept_apart(tmp_path, monkeypatch):
    computed, save = [], results.save_arrays
    monkeypatch.setattr(results, "save_arrays", lambda path, *rest: (computed.append(path), save(path, *rest)))
    other, code = toy_experiment.Config(seed=4), results.code()
    for config, version, count in ((CONFIG, code, 1), (other, code, 2), (CONFIG, code, 2), (CONFIG, "new", 3)):
        monkeypatch.setattr(results, "code", lambda version=version: version)
        with pytest.raises(KeyboardInterrupt):
            run_toy(tmp_path, config, interrupted(1))
        assert len(set(computed)) == len(computed) == count
    monkeypatch.setattr(results, "code", lambda: code)
    run_toy(tmp_path)
    assert len(list(tmp_path.glob("toy.parts/*/squares.npz"))) == 2


def test_a_part_of_other_data_is_refused_with_what_differs(tmp_path):
    def given(data):
        return Runner(tmp_path).once("part", lambda x: 2 * x, np.arange(data))

    np.testing.assert_array_equal(given(2), [0, 2])
    np.testing.assert_array_equal(given(2), [0, 2])
    with pytest.raises(ValueError, match="is the checkpoint of another run, which differs in data, program: remove it"):
        given(3)


def collapse(num_generations, interval):
    """Make an experiment of one sweep."""

    def run(config, runner):
        truth = Moments(jnp.float32(1), jnp.zeros(2), jnp.eye(2))
        recursion, target = sizes(20, 0.2, num_generations), isotropic_target(jnp.ones(2))

        def build(seed):
            model = build_collapse(gaussian(), top_of_gaussian(target), accumulate(moments_memory()))
            return Run(seed, model, truth, recursion, record_model({"trace_ratio": METRICS["trace_ratio"]}, truth))

        runner.expect(1)
        return Output(runner.sweep("sweep", build, {"seed": seeds(3, config.seed)}, interval=interval), {})

    return SimpleNamespace(run=run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_one_line_and_the_same_command_continues(tmp_path, number):
    def whole(out, display):
        return lambda: execute("toy", collapse(12, 0), Settings(), Options(out=out), display)

    assert attend(whole(tmp_path / "whole", Display()), Display()) == 0
    stream = io.StringIO()
    display = Display(stream)
    update = display.update

    def update_and_signal(done, total, doing):
        update(done, total, doing)
        if (done, doing) == (5, "running"):
            signal.raise_signal(number)
            assert display.stopped.wait(60)

    display.update = update_and_signal
    assert attend(whole(tmp_path, display), display) == 128 + number
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if "%" not in line] == [lines[-1]]
    assert lines[-1].endswith("toy: interrupted; what is finished is kept, and the same command continues")
    assert everything_in(tmp_path / "toy.parts")

    stream = io.StringIO()
    display = Display(stream)
    assert attend(whole(tmp_path, display), display) == 0
    assert re.search(r"sweep: 12 generations, .* of tracing and compiling, resumed at", stream.getvalue())
    assert "resumed at" in stream.getvalue()
    assert (tmp_path / "toy.nc").read_bytes() == (tmp_path / "whole" / "toy.nc").read_bytes()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_errors_of_the_work_reach_the_caller():
    def work():
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        attend(work, Display())


def test_something_moves_every_two_seconds_off_a_terminal(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(display_module, "time", SimpleNamespace(monotonic=lambda: now[0], strftime=lambda _: "12:00 "))
    stream = io.StringIO()
    display = Display(stream, num_experiments=2)
    shown = []

    def wait(seconds):
        for _ in range(int(2 * seconds)):
            now[0] += 0.5
            before = stream.tell()
            display.tick()
            if stream.tell() > before:
                shown.append(now[0])

    display.begin("one")
    display.num_parts = 2
    display.part("first", "generations")
    display.update(0, 0, "tracing")
    wait(3)
    display.update(0, 40, "compiling")
    wait(5)
    display.update(0, 40, "running")
    wait(1)
    display.update(10, 40)
    wait(4)
    display.finish()
    wait(2.5)
    display.part("second", "generations")
    display.update(20, 40, "running")
    display.update(30, 40, "running")
    wait(2)
    gaps = np.diff([1000.0, *shown])
    assert gaps.max() <= SECONDS_BETWEEN_LINES
    assert stream.getvalue().splitlines() == [
        "12:00 one (1 of 2), 0%: first, tracing, 2 s",
        "12:00 one (1 of 2), 0%: first, compiling, 1 s",
        "12:00 one (1 of 2), 0%: first, compiling, 3 s",
        "12:00 one (1 of 2), 0%: first, compiling, 5 s",
        "12:00 one (1 of 2), 6%, about 2 min 30 s left: first, 10 of 40 generations, 5/s",
        "12:00 one (1 of 2), 6%, about 3 min 0 s left: first, 10 of 40 generations, 2.5/s",
        "12:00   first: 40 generations, 5.0 s, after 8.0 s of tracing and compiling",
        "12:00 one (1 of 2), 25%, about 46 s left: between parts, 2 s",
        "12:00 one (1 of 2), 44%, about 22 s left: second, 30 of 40 generations, 5/s, resumed at 20",
    ]


def test_times_are_written_in_words():
    assert [clock(s) for s in (0.4, 59.6, 200, 7500)] == ["0 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]


def test_a_lost_stream_ends_nothing(tmp_path):
    closed = io.StringIO()
    closed.close()
    with open("/dev/full", "w") as full:
        for name, stream in (("closed", closed), ("full", full), ("none", None)):
            display = Display(Lasting(stream))
            display.say("line")
            execute("toy", toy_experiment, CONFIG, Options(out=tmp_path / name), display)
            display.close()
            assert display.num_finished == 2
    assert len(list(tmp_path.glob("*/toy.nc"))) == 3


COMMAND = f"exec {sys.executable} -m experiments"


def start(words):
    return subprocess.Popen(words, shell=True, cwd=ROOT, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def hears_sigterm(process):
    """Tell whether a process has a handler of its own."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    return int(caught[1], 16) >> (signal.SIGTERM - 1) & 1


def test_a_signal_during_imports_stops_in_one_line(tmp_path):
    running = start(f"{COMMAND} gaussian_collapse --preset smoke --out {tmp_path}")
    while not hears_sigterm(running):
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    assert (running.returncode, out, err) == (130, "", "jaxcollapse: interrupted\n")


def test_an_experiment_that_is_killed_continues_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "keep_programs", lambda directory: None)
    flags = ["gaussian_collapse", "--preset", "smoke", "--num-generations", "1000", "--out"]
    running = start(" ".join([COMMAND, *flags, str(tmp_path / "killed")]))
    while not list(tmp_path.glob("killed/*.parts/*/without selection.npz")) and running.poll() is None:
        time.sleep(0.01)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert not list(tmp_path.glob("killed/*.nc"))
    for place in ("killed", "whole"):
        assert command.main(["run", *flags, str(tmp_path / place)]) == 0
    name = "gaussian_collapse.nc"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_closed_streams_are_no_place_for_results(tmp_path):
    assert start(f"{COMMAND} geodesic --preset smoke --out {tmp_path} <&- >&- 2>&-").wait() == 0
    assert results.load(tmp_path / "geodesic.nc").attrs["experiment"] == "geodesic"


def test_programs_are_kept_in_a_directory_of_the_machine(tmp_path, monkeypatch):
    settings, config = {}, SimpleNamespace(jax_compilation_cache_dir=None)
    config.update = settings.__setitem__
    monkeypatch.setattr(command, "jax", SimpleNamespace(config=config))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command.keep_programs("")
    assert Path(settings["jax_compilation_cache_dir"]) == tmp_path / "jaxcollapse" / command.machine_type()
    command.keep_programs(str(tmp_path / "mine"))
    assert Path(settings["jax_compilation_cache_dir"]) == tmp_path / "mine" / command.machine_type()
    settings.clear()
    command.keep_programs("none")
    assert settings == {"jax_enable_compilation_cache": False}
    settings.clear()
    config.jax_compilation_cache_dir = "/set/by/variable"
    command.keep_programs("")
    assert settings == {}


def test_importing_takes_nothing_that_only_some_functions_need():
    heavy = ["scipy.stats", "scipy.optimize", "sklearn", "matplotlib", "rich", "tyro"]
    code = f"import sys, jaxcollapse; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
