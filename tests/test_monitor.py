"""The monitor: levels, mechanisms, its log under kills and errors, and the verb."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy

from jaxcollapse.pipeline.monitor import Monitor, log, statistics
from jaxcollapse.pipeline.monitor.log import Log, Settings
from jaxcollapse.pipeline.monitor.verdict import changes, forecast, gather, half_life, judge, levels, thresholds, trend
from jaxcollapse.pipeline.report import as_json, as_page
from jaxcollapse.pipeline.tables import Reading
from jaxcollapse.pipeline.verbs.monitor import Request, answer

ROOT = Path(__file__).parents[1]


def normal(seed, num=200, dim=4):
    return np.random.default_rng(seed).standard_normal((num, dim))


REFERENCE = normal([0, 0], 500)


WITHIN = statistics.frame(REFERENCE, 200)


def logged(samples, within=WITHIN, **settings):
    first = statistics.moments(within, samples[0])
    return Log(
        Settings(**settings), "", within, first, tuple(statistics.measure(within, first, x) for x in samples), ()
    )


def modes(seed, first=1.0, num=400):
    rng = np.random.default_rng(seed)
    which = rng.choice(4, num, p=np.array([first, 1, 1, 1]) / (3 + first))
    return 7 * np.eye(4)[which] + rng.standard_normal((num, 4))


def test_false_alarms_are_rare():
    """Healthy samples of one law, normal and skewed: binomial bounds that fail once in 10^4."""
    runs, alarms, watched = 100, 0, 0
    skewed = lambda seed: np.random.default_rng(seed).exponential(size=(200, 4))
    kinds = [(normal, WITHIN), (skewed, statistics.frame(skewed([1, 0]), 200))]
    for run in range(runs):
        make, within = kinds[run % 2]
        found = logged([make([1, run, t]) for t in range(11)], within)
        level = levels(found, gather(found, refits=False), gather(found, refits=True))[-1]
        alarms, watched = alarms + (level == 2), watched + (level >= 1)
    assert alarms <= scipy.stats.binom.ppf(1 - 1e-4, runs, 0.05)
    assert watched <= scipy.stats.binom.ppf(1 - 1e-4, runs, 0.2)


def refitted(seed, workflow, num=200, generations=8):
    """Refit a normal law; the samples that are watched are others than those that it is fitted on."""
    rng, samples = np.random.default_rng(seed), []
    memory = [rng.standard_normal((num, 4))]
    for _ in range(generations + 1):
        x = np.concatenate(memory)
        root = np.linalg.cholesky(np.cov(x.T, ddof=0))
        made = [x.mean(axis=0) + rng.standard_normal((num, 4)) @ root.T for _ in range(2)]
        samples.append(made[0])
        memory = [made[1]] if workflow == "replace" else [*memory, made[1]]
    return samples


@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
def test_healthy_refits_give_little_evidence_against_refits(workflow):
    runs = 40
    found = [logged(refitted([2, run], workflow), num_kept=200, workflow=workflow) for run in range(runs)]
    ever = sum(gather(each, refits=True).together.max() >= np.log(20) for each in found)
    assert ever <= scipy.stats.binom.ppf(1 - 1e-4, runs, 1 / 20)


CHANGES = {
    "variance loss": lambda seed, t: 0.95**t * normal(seed),
    "mean drift": lambda seed, t: normal(seed) + 0.1 * t * np.eye(4)[0],
    "junk": lambda seed, t: normal(seed) * np.where(np.arange(200) < 2 * t, 4, 1)[:, None],
    "lost modes": lambda seed, t: modes(seed, 0.8**t),
}


@pytest.mark.parametrize("mechanism", CHANGES)
def test_collapse_alarms_and_is_named(mechanism):
    within = statistics.frame(modes([3, 99]), 200) if mechanism == "lost modes" else WITHIN
    found = judge(logged([CHANGES[mechanism]([3, t], t) for t in range(13)], within))
    assert (found.level, found.mechanism) == ("alarm", mechanism)
    assert 0 < found.since <= 12
    assert found.p < 0.05 / 2
    assert mechanism in str(found)


def test_sampling_noise_is_named_where_the_number_kept_is_known():
    samples = refitted([4, 0], "replace", 50, 20)
    assert judge(logged(samples, num_kept=50, workflow="replace")).mechanism == "sampling noise"
    assert judge(logged(samples)).mechanism != "sampling noise"


def test_level_stays_once_it_is_reached():
    lost = [0.7 * normal([5, t]) if 1 < t < 5 else normal([5, t]) for t in range(12)]
    found = [judge(logged(lost[: t + 1])).level for t in range(2, 12)]
    assert found[-1] == "alarm"
    assert found == sorted(found, key=["ok", "watch", "alarm"].index)


def test_loss_is_tested_at_levels_that_sum_up():
    t = np.arange(1, 10_000)
    assert (2 * 0.05 / (4 * t * (t + 1))).sum() + 1 / thresholds(0.05)["alarm"] == pytest.approx(0.05, rel=1e-3)


def test_exponent_and_forecast_of_a_known_decay():
    """Of 40 runs the intervals of 95% hold in all but a few: binomial bounds that fail once in 10^4."""
    held, ahead, runs = 0, [], 40
    for run in range(runs):
        samples = [np.exp(-0.02 * t) * normal([6, run, t], 500) for t in range(15)]
        found = trend(logged(samples[:10], num_kept=10**6, workflow="replace"))
        held += found.interval[0] <= 0.04 <= found.interval[1]
        assert found.uniform[0] < found.interval[0] < found.interval[1] < found.uniform[1]
        band = forecast(logged(samples[:10], num_kept=10**6, workflow="replace"), 5)
        truth = np.exp(changes(logged(samples), "spread")[0][9:])
        ahead.append(band[-1, 2] > truth[-1] > band[-1, 1])
    low = scipy.stats.binom.ppf(1e-4, runs, 0.95)
    assert held >= low
    assert sum(ahead) >= low


def test_half_life_solves_its_equation():
    assert half_life("replace", 0.1) == pytest.approx(np.log(2) / 0.1)
    t = round(half_life("accumulate", 0.2))
    assert 0.2 * sum(1 / (k + 1) for k in range(1, t + 1)) == pytest.approx(np.log(2), rel=0.01)
    assert half_life("accumulate", -1.0) == np.inf


def test_run_goes_on_from_its_log(tmp_path):
    samples = [0.97**t * normal([7, t]) for t in range(6)]
    with Monitor(tmp_path / "whole", reference=REFERENCE) as watch:
        whole = [watch.add(x) for x in samples]
    apart = [Monitor(tmp_path / "apart", reference=REFERENCE).add(x) for x in samples]
    assert str(whole) == str(apart)
    assert Monitor(tmp_path / "apart", reference=REFERENCE).verdict() == whole[-1]
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "apart").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apart", "whole"]


def test_kills_lose_no_generation_that_was_reported(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "monitor_kills.py"), str(tmp_path), "20"],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert len(found["kills"]) == 20
    assert all(0 <= stored - reported <= 1 for reported, stored in found["kills"])
    assert found["same"]


def begun(path, generations=2, **settings):
    watch = Monitor(path, reference=REFERENCE, **settings)
    for t in range(generations):
        watch.add(normal([8, t]))
    return path.read_bytes()


def test_half_a_line_is_no_generation(tmp_path):
    path = tmp_path / "log"
    whole = begun(path, 3)
    for cut in (1, 100, len(whole) - whole.rfind(b"\n", 0, -1) - 2):
        path.write_bytes(whole[:-cut])
        assert len(log.read(path).samples) == 2
        Monitor(path, reference=REFERENCE).add(normal([8, 2]))
        assert path.read_bytes() == whole


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_add_leaves_the_log_as_it_was(tmp_path, monkeypatch, error):
    path = tmp_path / "log"
    before = begun(path)

    def fail(file):
        raise error

    monkeypatch.setattr(log.os, "fsync", fail)
    with pytest.raises(error):
        Monitor(path, reference=REFERENCE).add(normal([8, 2]))
    assert path.read_bytes() == before


def test_second_writer_is_refused(tmp_path):
    with Monitor(tmp_path / "log", reference=REFERENCE) as watch:
        watch.add(normal([8, 0]))
        with pytest.raises(BlockingIOError, match="another process adds to this log"):
            Monitor(tmp_path / "log", reference=REFERENCE).add(normal([8, 1]))
        watch.add(normal([8, 1]))
    assert len(log.read(tmp_path / "log").samples) == 2


def spoiled(x, row):
    x = x.copy()
    x[row, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (spoiled(normal(1), [7, 9]), r"features: 2 of 200 rows hold numbers that are not finite, first row 7"),
        (normal(1, dim=5), "features: 5 columns, and the reference has 4"),
        (normal(1, num=1), "features: 1 rows, and at least 20 are needed"),
        (np.ones(9), r"features: shape \(9,\) must be \[rows, columns\]"),
        (np.ones((30, 4)), "features: generation 0 has no spread in a direction in which the reference has"),
        ([["a", "b"]], "features = .*must be a number, or an array of them"),
    ],
)  # fmt: skip
def test_features_that_cannot_be_watched_are_refused(tmp_path, features, message):
    with pytest.raises(ValueError, match=message) as told:
        Monitor(tmp_path / "log", reference=REFERENCE).add(features)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reference": spoiled(normal(1), [3])}, "reference: 1 of 200 rows"),
        ({"reference": normal(1) * [1, 1, 0, 1]}, "reference: 1 columns are constant, the first is column 2"),
        ({"false_alarms": 0.0}, r"false_alarms = 0.0: must be in \[1e-06, 0.25\]"),
        ({"num_kept": 100}, "num_kept = 100, workflow = None: give both or neither"),
        ({"num_kept": 100, "workflow": "acumulate"}, "did you mean 'accumulate'"),
        ({"num_kept": 5, "workflow": "replace"}, "num_kept = 5: must be above 5"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        Monitor(tmp_path / "log", **{"reference": REFERENCE, **arguments}).add(normal(1))


def test_sample_that_was_added_before_is_refused(tmp_path):
    begun(tmp_path / "log")
    with pytest.raises(ValueError, match="features: the rows of generation 1 again"):
        Monitor(tmp_path / "log", reference=REFERENCE).add(normal([8, 1]))


def edited(content, **changed):
    head, rest = content.split(b"\n", 1)
    return json.dumps(json.loads(head) | changed).encode() + b"\n" + rest


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: edited(content, version=2), "version 2 of the log's format, and this release reads 1"),
        (lambda content: edited(content, reference="0" * 64), "of another reference: 000000000000, and this one is"),
        (lambda content: edited(content, format="x"), "is no log of the monitor"),
        (lambda content: b"a,b\n1,2\n", "is no log of the monitor"),
        (lambda content: b"", "is no log of the monitor"),
        (lambda content: content.replace(b'"tail"', b'"tale"'), "line 2 is damaged, where generation 0 belongs"),
        (lambda content: content.replace(b'"frame"', b'"framed"'), "is damaged"),
        (lambda content: content.replace(b'"axes"', b'"axis"'), "is damaged"),
        (lambda content: content[: content.rfind(b"\n", 0, -1)] + b"x\n", "line 2 is damaged|line 3 is damaged"),
    ],
)  # fmt: skip
def test_other_logs_are_refused(tmp_path, spoil, message):
    path = tmp_path / "log"
    content = spoil(begun(path))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Monitor(path, reference=REFERENCE).add(normal([8, 2]))
    assert path.read_bytes() == content


def test_log_of_other_settings_is_refused(tmp_path):
    begun(tmp_path / "log", num_kept=100, workflow="replace")
    with pytest.raises(ValueError, match="was begun with num_kept = 100, not 200"):
        Monitor(tmp_path / "log", reference=REFERENCE, num_kept=200, workflow="replace")
    with pytest.raises(ValueError, match=r"was begun with false_alarms = 0\.05, not 0\.01"):
        Monitor(tmp_path / "log", reference=REFERENCE, num_kept=100, workflow="replace", false_alarms=0.01)


def test_copies_and_unwatched_axes_are_told():
    few = logged([normal([9, t], 100, 30) for t in range(2)], statistics.frame(normal(9, 500, 30), 100))
    assert "Only the 10 leading principal axes of 30 columns" in judge(few).warnings[0]
    twice = logged([np.repeat(normal([9, t], 50), 2, axis=0) for t in range(2)])
    assert "50% of the rows are copies" in judge(twice).warnings[0]


@pytest.mark.parametrize(("loss", "status", "level"), [(1.0, 0, "ok"), (0.9, 4, "alarm")])
def test_verb_reports_and_tells_by_its_status(tmp_path, loss, status, level):
    np.save(tmp_path / "reference.npy", REFERENCE)
    request = Request(tmp_path / "log", tmp_path / "reference.npy", num_kept=10**6, workflow="accumulate")
    for t in range(4):
        np.save(tmp_path / f"{t}.npy", loss**t * normal([10, t]))
        added = Request(**vars(request) | {"add": tmp_path / f"{t}.npy"})
        report, found = answer(added, lambda word: None)
        assert (found == 0) or t
    assert found == status
    again, found = answer(request, lambda word: None)
    assert found == status
    written, before = as_json(again), as_json(report)
    assert written["quantities"] == before["quantities"]
    assert written["level"] == level
    assert len(written["tables"]["generations"]) == 4
    left = 100 * np.trace(np.cov((loss**3 * normal([10, 3])).T)) / np.trace(np.cov(normal([10, 0]).T))
    found = report.find("spread_left")
    assert found.value == pytest.approx(left, rel=0.05)
    assert found.low < left < found.high
    page = as_page(report)
    assert page.count("<svg") == 3
    assert "Alarm" in page if status else "Ok" in page


def test_verb_without_log_or_sample_is_refused(tmp_path):
    np.save(tmp_path / "reference.npy", REFERENCE)
    with pytest.raises(ValueError, match="there is no log yet, add the sample of generation 0"):
        answer(Request(tmp_path / "log", tmp_path / "reference.npy", reading=Reading()), lambda word: None)


def test_collapse_to_a_point_alarms(tmp_path):
    """After it nothing varies, and its generation's deviations are zero."""
    samples = [normal([11, 0]), normal([11, 1]), np.zeros((200, 4)), np.ones((200, 4)), 2 * np.ones((200, 4))]
    for settings in ({}, {"num_kept": 200, "workflow": "replace"}):
        found = judge(logged(samples, **settings))
        assert (found.level, found.since) == ("alarm", 2)
        assert found.losses["spread"] > 0.999
        assert np.all(np.isfinite(forecast(logged(samples, **settings))))


def test_generation_zero_without_sampling_error_is_refused(tmp_path):
    sides = np.where(np.arange(200) % 2, 1.0, -1.0)[:, None]
    with pytest.raises(ValueError, match="all rows of generation 0 are equally far from their mean: add columns"):
        Monitor(tmp_path / "log", reference=normal(1, dim=1)).add(sides)
