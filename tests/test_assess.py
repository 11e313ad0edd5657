"""What is said of a reference: completeness, bias, forecast, gains, and the words for them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy
from sklearn.neighbors import NearestNeighbors

from jaxcollapse.analysis import Interval
from jaxcollapse.base import Moments
from jaxcollapse.generators import gaussian
from jaxcollapse.pipeline.assess import assess
from jaxcollapse.pipeline.assess.assess import factors_of
from jaxcollapse.pipeline.assess.bias import bias, frechet, moments_of
from jaxcollapse.pipeline.assess.coverage import coverage, shares
from jaxcollapse.pipeline.assess.evidence import MAX_DIM, gather
from jaxcollapse.pipeline.assess.forecast import forecast, half_life
from jaxcollapse.pipeline.assess.gain import expansion_of_candidates
from jaxcollapse.pipeline.report import Quantity, Report, as_json, as_page
from jaxcollapse.pipeline.tables import Table
from jaxcollapse.pipeline.verbs import assess as verb

SIZES = {"num_kept": 60, "num_generations": 2, "num_modes": 3, "verifiers": ("landmark_balanced",)}


def normal(seed, num, dim=3, shift=0.0):
    return np.random.default_rng(seed).standard_normal((num, dim)) + shift * np.eye(dim)[0]


def table(points, labels=None, columns=None):
    columns = columns or tuple("abcdefgh"[: points.shape[1]])
    return Table(points, columns, np.arange(len(points)), labels=labels)


def three_modes(seed, num, modes=(0, 1, 2)):
    """Draw from modes at (0, 0), (8, 0) and (16, 0)."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(modes, num)
    return rng.standard_normal((num, 2)) + 8 * labels[:, None] * np.array([1, 0]), labels


def test_weighted_moments_and_frechet_distance_are_those_of_numpy_and_scipy():
    x, w = normal(0, 50), np.random.default_rng(1).integers(0, 4, (2, 50)).astype(float)
    found = moments_of(x, w)
    np.testing.assert_allclose(
        found.covariance[1], np.cov(x, rowvar=False, fweights=w[1].astype(int), ddof=0), atol=1e-12
    )
    a, b = found.covariance
    cross = scipy.linalg.sqrtm(a @ b).real
    known = np.sum((found.mean[0] - found.mean[1]) ** 2) + np.trace(a + b - 2 * cross)
    first, second = (Moments(*(leaf[[i]] for leaf in found)) for i in (0, 1))
    np.testing.assert_allclose(frechet(first, second), known, rtol=1e-9)


def test_copies_are_counted_and_shared_rows_are_named():
    x = normal(0, 40)
    found = gather(np.concatenate([x, x[:10]]), {"north": normal(1, 30)}, np.concatenate([x[:5], normal(2, 50)]))
    ours = found.parties[0]
    assert (ours.num_rows, ours.num_duplicates) == (50, 10)
    assert ours.effective_size == pytest.approx(50**2 / (30 + 10 * 4))
    assert any("10 of the 50 rows of reference are in the population's sample" in note for note in found.notes)
    assert any("10 of the 50 rows of reference repeat" in note for note in found.notes)


def test_columns_are_matched_by_name_and_constant_ones_left_out():
    x, y = normal(0, 30), normal(1, 30)
    x[:, 1] = y[:, 1] = 7
    found = gather(table(x), [table(y[:, [2, 1, 0]], columns=("c", "b", "a"))])
    np.testing.assert_array_equal(found.parties[1].points, y[:, [0, 2]])
    assert "left out: b" in found.notes[0]
    x[:, 2] = 0
    assert any("constant in the reference, 1 of them (c)" in note for note in gather(table(x), [table(y)]).notes)
    wide = gather(normal(2, 100, MAX_DIM + 8), (), normal(3, 200, MAX_DIM + 8))
    assert wide.parties[0].points.shape == (100, MAX_DIM)
    assert any("leading principal axes" in note for note in wide.notes)
    outweighed = gather(table(x * [100, 1, 1]), [table(y * [100, 1, 1])])
    assert any("Column a holds 100% of the variance" in note for note in outweighed.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((normal(0, 20), [normal(1, 20, 4)]), "silo 1: has 4 columns and the reference 3; 3 is in one alone"),
        ((table(normal(0, 9)), [table(normal(1, 9), columns=("a", "b", "z"))]), "c, z are in one alone"),
        ((normal(0, 1),), "reference: has 1 row, and at least 2"),
        ((table(normal(0, 9), np.zeros(9)), [table(normal(1, 9))]), "labels: reference has them and silo 1 has none"),
        ((np.ones((9, 2)),), "columns 0, 1: each is constant"),
        ((normal(0, 9), [normal(0, 9)]), "silo 1: holds the rows of the reference"),
        ((normal(0, 9), {"population": normal(1, 9)}), "must not be reference, population or candidates"),
        ((np.full((9, 2), np.nan),), "reference: 18 values are not finite"),
        ((normal(0, 9)[0],), r"reference: shape \(3,\) must be"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as refused:
        gather(*arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget = 0: must be in"),
        ({"workflow": "replce"}, "did you mean 'replace'"),
        ({"verifiers": ["kernel"]}, "verifier 'kernel' is not known"),
        ({"num_generations": 0}, "num_generations = 0"),
        ({"max_bias": -1}, "max_bias = -1"),
    ],
)
def test_options_are_checked_before_anything_else(options, message):
    with pytest.raises(ValueError, match=message):
        assess(normal(0, 20), **options)


def test_bias_is_told_from_chance():
    """Of 30 references without bias none is told to have one, but for a chance of 1 in 201 each; b = 1 always is."""
    without = [bias(gather(normal(i, 60), (), normal(100 + i, 150)), np.random.default_rng(i)) for i in range(30)]
    assert sum(found.mean.is_beyond_chance for found in without) <= 3
    assert sum(found.frechet.is_beyond_chance for found in without) <= 3
    biased = [
        bias(gather(normal(i, 60, shift=1), (), normal(100 + i, 150)), np.random.default_rng(i)) for i in range(30)
    ]
    assert all(found.mean.is_beyond_chance for found in biased)
    square = np.array([found.mean.value**2 for found in biased])
    assert abs(square.mean() - 1) < 4 * square.std() / 30**0.5
    held = sum(found.mean.low <= 1 <= found.mean.high for found in biased)
    assert held >= scipy.stats.binom.ppf(1e-4, 30, 0.95)


def test_bias_within_a_union_counts_the_reference_itself():
    """A reference that is half of the union is half as far from it as from the other half."""
    found = bias(gather(normal(0, 2000, shift=2), [normal(1, 2000)]), np.random.default_rng(0))
    known = 1 / np.sqrt(1 + 1)  # the union's variance along the shift is 1 + 2^2 / 4
    assert abs(found.mean.value - known) < 4 * (found.mean.high - found.mean.low) / 3.92
    assert found.trace_ratio.low < 3 / 4 < found.trace_ratio.high


def test_coverage_is_that_of_scikit_learn():
    x, y = normal(0, 80), normal(1, 60, shift=1)
    found = coverage(gather(x, [y]), np.random.default_rng(0)).silos.set_index("silo").loc["silo 1"]
    third, fifth = (NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, k] for k in (3, 5))
    apart = scipy.spatial.distance.cdist(y, x)
    reach = NearestNeighbors(n_neighbors=4).fit(y).kneighbors(y)[0][:, 3]
    known = {
        "precision": (apart <= third).any(axis=1).mean(),
        "recall": (reach >= apart.T).any(axis=1).mean(),
        "density": (apart <= fifth).sum() / (5 * len(y)),
        "coverage": (apart <= fifth).any(axis=0).mean(),
    }
    for name, value in known.items():
        assert found[name] == pytest.approx(value, abs=1e-5)
    assert found.precision_by_chance > 0.8


def test_modes_are_counted_with_and_without_labels():
    population, labels = three_modes(0, 300)
    reference, of = three_modes(1, 60, (0, 1))
    named = shares(gather(table(reference, of), (), table(population, labels)))
    assert list(named.status) == ["", "", "missing"]
    assert list(named.population) == pytest.approx(np.bincount(labels) / 300)
    cells = shares(gather(reference, (), population), num_modes=3)
    assert sorted(cells.status) == ["", "", "missing"]
    assert sorted(cells.population) == pytest.approx(sorted(named.population), abs=0.01)
    few = shares(gather(table(reference[:8], of[:8]), (), table(population, labels)))
    assert few.status[2] == "rare"
    scarce = np.concatenate([reference, population[labels == 2][:3]])
    found = shares(gather(table(scarce, np.append(of, [2, 2, 2])), (), table(population, labels)))
    assert list(found.status) == ["", "", "scarce"]


def isotropic(dim, num=2):
    return Moments(np.ones(num), np.zeros((num, dim)), np.broadcast_to(np.eye(dim), (num, dim, dim)))


@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
def test_forecast_of_an_unbiased_reference_is_the_closed_form(workflow):
    """The rate is f kappa_d(alpha) in all directions that vary, whatever their spreads."""
    scale = np.diag([1.0, 0.1, 0.01])
    start = isotropic(3)._replace(covariance=np.broadcast_to(scale, (2, 3, 3)))
    future = forecast(
        start, start, np.array([1.2, 1.2]), workflow=workflow, num_kept=10**6, budget=0.5, num_generations=4
    )
    chi2 = scipy.stats.chi2
    rate = 1.2 * chi2.cdf(chi2.ppf(0.5, 3), 5) / 0.5
    t = np.arange(5)
    known = t * np.log(rate) if workflow == "replace" else scipy.special.gammaln(t + rate) - scipy.special.gammaln(rate)
    known = known if workflow == "replace" else known - scipy.special.gammaln(t + 1)
    np.testing.assert_allclose(future.log_trace.mean, known, atol=1e-4)
    assert future.multiplier.mean == pytest.approx(rate)
    np.testing.assert_allclose(future.log_trace.low, known, atol=1e-4)


def test_forecast_of_a_biased_reference_is_what_numpy_simulates():
    rng, n = np.random.default_rng(0), 20_000
    mean, root = np.array([1.5, 0.5, 0]), np.diag([1.0, 0.7, 1.5])
    reference = isotropic(3)._replace(
        mean=np.broadcast_to(mean, (2, 3)), covariance=np.broadcast_to(root @ root, (2, 3, 3))
    )
    future = forecast(
        isotropic(3), reference, np.ones(2), workflow="replace", num_kept=n, budget=0.5, num_generations=4
    )
    centre, covariance, traces = np.zeros(3), np.eye(3), [0.0]
    for _ in range(4):
        x = rng.multivariate_normal(centre, covariance, 2 * n)
        energy = np.sum(((x - mean) / np.diag(root)) ** 2, axis=1)
        kept = x[np.argsort(energy)[:n]]
        centre, covariance = kept.mean(axis=0), np.cov(kept, rowvar=False)
        traces.append(np.log(np.trace(covariance) / 3))
    np.testing.assert_allclose(future.log_trace.mean, traces, atol=0.03)


def test_half_life_continues_the_law():
    assert half_life(np.log(0.8) * np.arange(3), 0.8, "replace") == pytest.approx(np.log(0.5) / np.log(0.8))
    assert half_life(np.log(0.6) * np.arange(3), 0.6, "replace") == pytest.approx(1 + np.log(0.5 / 0.6) / np.log(0.6))
    t = np.arange(1, 4)
    assert half_life(np.append(0, -0.1 * np.log(t)), 0.9, "accumulate") == pytest.approx(2**10)
    assert half_life(np.array([0, 0.1]), 1.1, "replace") == np.inf


def test_expansion_and_junk_of_candidates_are_found():
    rng = np.random.default_rng(0)
    data, pool = rng.standard_normal((1000, 3)), 1.1 * rng.standard_normal((900, 3))
    found = expansion_of_candidates(np.concatenate([pool, normal(1, 100, shift=30)]), data, np.ones(1000), rng)
    assert found.junk_share.low < 0.1 < found.junk_share.high
    np.testing.assert_allclose(found.junk.mean, [30, 0, 0], atol=0.5)
    assert found.log_trace.low < 2 * np.log(1.1) < found.log_trace.high
    clean = expansion_of_candidates(normal(2, 900), data, np.ones(1000), rng)
    assert clean.junk_share.low == 0
    assert clean.log_trace.low < 0 < clean.log_trace.high


def test_rates_that_may_be_zero_or_are_not_known_count_as_zero():
    draw = lambda *rate: factors_of(Interval(*map(np.float64, rate)), np.random.default_rng(0))
    np.testing.assert_array_equal(draw(np.nan, np.nan, np.nan), 1)
    assert draw(0.1, -0.1, 0.3)[0] == 1
    found = draw(0.2, 0.1, 0.3)
    assert found[0] == pytest.approx(np.exp(0.2))
    assert np.log(found[1:]).std() == pytest.approx(0.1 / 1.96, rel=0.4)  # four standard errors of 50 draws


@pytest.fixture(scope="module")
def incomplete():
    """A reference of two modes, a silo of the third, and a population of all."""
    population, labels = three_modes(0, 300)
    parts = [three_modes(1, 80, (0, 1)), three_modes(2, 60, (2,))]
    stages = []
    (reference, of), (silo, of_silo) = parts
    tables = table(reference, of), {"south": table(silo, of_silo)}, table(population, labels)
    return assess(*tables, generator=gaussian(), tell=stages.append, **SIZES), stages


def test_an_incomplete_reference_is_said_to_be_one(incomplete):
    report, stages = incomplete
    assert len(stages) == 6
    assert report.find("is_incomplete").value == 1
    assert report.find("modes_lacking").value == 1
    within = 1 - report.find("modes").frame.population[2]
    assert 0.75 * within < report.find("recall_of_reference").value <= within + 1e-6
    assert list(report.find("modes").frame.status) == ["", "", "missing"]
    value = report.find("value").frame.set_index("silo")
    assert value.coverage_lost["south"] == pytest.approx(1 / 3, abs=0.06)
    gains = report.find("gains").frame.set_index("verifier").prediction
    assert gains["mahalanobis"] == "loses"
    for words in ("lacks 1 (missing: 2)", "Collaborate", "Without south", "25% nearest"):
        assert words in report.verdict


def test_the_report_is_json_and_a_page(incomplete):
    report, _ = incomplete
    written = json.loads(json.dumps(as_json(report)))
    assert written["quantities"]["modes_lacking"]["value"] == 1
    assert written["tables"]["modes"][2]["status"] == "missing"
    page = as_page(report)
    assert page.count("<figure>") == len(report.charts) == 4
    assert "nan" not in page


def test_a_complete_reference_is_said_to_be_one():
    (reference, of), (silo, of_silo), (population, labels) = three_modes(1, 80), three_modes(2, 60), three_modes(0, 300)
    tables = table(reference, of), {"south": table(silo, of_silo)}, table(population, labels)
    report = assess(*tables, generator=gaussian(), **SIZES)
    assert report.find("is_incomplete").value == 0
    for words in ("all 3 classes", "No bias of its mean can be told", "add little", "No silo is worth more"):
        assert words in report.verdict


@pytest.mark.parametrize(("incomplete", "status"), [(0.0, 0), (1.0, 3)])
def test_the_verb_reads_files_and_hands_over_the_status(incomplete, status, monkeypatch, tmp_path):
    asked = []

    def assessed(*given, **options):
        asked.append((given, options))
        return Report("assess", "", [Quantity("is_incomplete", incomplete, "")])

    monkeypatch.setattr(verb, "assess", assessed)
    monkeypatch.chdir(tmp_path)
    files = {name: normal(seed, 5) for seed, name in enumerate(("mine.npy", "theirs.npy", "all.npy"))}
    for name, points in files.items():
        np.save(name, points)
    request = verb.Request(Path("mine.npy"), ((Path("theirs.npy"),),), Path("all.npy"), budget=0.5)
    report, found = verb.answer(request, print)
    assert found == status
    told = report.settings["files"]
    assert all(told[name].startswith(f"{name} (5 rows, SHA-256 ") for name in files)
    ((reference, silos, population, candidates), options), *_ = asked
    np.testing.assert_array_equal(reference.points, files["mine.npy"])
    np.testing.assert_array_equal(silos["theirs.npy"].points, files["theirs.npy"])
    np.testing.assert_array_equal(population.points, files["all.npy"])
    assert candidates is None
    assert options["budget"] == 0.5
    with pytest.raises(ValueError, match=r"mine\.npy: is named twice"):
        verb.answer(verb.Request(Path("mine.npy"), ((Path("mine.npy"),),)), print)


def test_where_nothing_is_known_beside_the_reference_that_is_said():
    report = assess(normal(0, 100, 2), generator=gaussian(), **SIZES | {"verifiers": ()})
    assert any("Nothing says what should be covered" in note for note in report.warnings)
    assert "bias_of_mean" not in [q.name for q in report.quantities]
    assert isinstance(report.find("forecast").frame, pd.DataFrame)
