"""Experiments on siloed images: bad input, and the parts that have independent oracles."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from jaxcollapse import command
from jaxcollapse.base import Measure, counted
from jaxcollapse.classifier import Classifier, log_probabilities
from jaxcollapse.data.digits import load_digits
from jaxcollapse.data.images import LabelledImages
from jaxcollapse.experiments import silo_geometry, siloed_images
from jaxcollapse.experiments.generalization_cost import divergence, judge, steepest, unconverged
from jaxcollapse.experiments.siloed_images import PRESETS, Config, grid, summarise
from jaxcollapse.experiments.support import image_silos
from jaxcollapse.experiments.support.image_silos import SPLITS, deal, divide, problem, simulate, starts
from jaxcollapse.experiments.support.runner import Runner
from jaxcollapse.experiments.support.spaces import SPACES
from jaxcollapse.measures import uniform_measure
from jaxcollapse.paper_figures.siloed_images_samples import strip
from jaxcollapse.sizes import sizes
from jaxcollapse.sweep import Axis
from jaxcollapse.tree import row
from jaxcollapse.verifiers import verifier

SMOKE = Config(**PRESETS["smoke"])


@pytest.fixture(scope="module")
def digits():
    return problem(SMOKE, Runner())


def test_features_labeller_and_silos_come_from_training_images_only(digits):
    images, labels, accuracies = digits
    assert accuracies.shape == (2,)
    assert (accuracies > 0.9).all()
    silos = deal(SMOKE, [SPLITS["ExDir(1, 0.1)"]], images, labels)
    assert_array_equal(silos.weights.sum(axis=(2, 3)), [[400], [400]])
    for seed in range(2):
        train, test = (np.asarray(m.points[seed]) for m in (images.train, images.test))
        assert not (train[:, None] == test[None]).all(axis=-1).any()
        assert_allclose(images.pca.mean[seed], train.mean(axis=0), atol=1e-5)
        likely = log_probabilities(row(images.classifier, seed), images.test.points[seed])
        right = likely.argmax(axis=1) == images.test_labels[seed].argmax(axis=1)
        assert_allclose(accuracies[seed], right.mean(), atol=2 / len(test))
        seen = {tuple(row) for row in np.asarray(images.train_features[seed])}
        for points, weights in zip(*(np.asarray(leaf[seed, 0]) for leaf in silos), strict=True):
            assert {tuple(row) for row in points[weights > 0]} <= seen


def test_seeds_have_images_of_their_own(digits):
    images, _, _ = digits
    whole = load_digits()
    row_of = {tuple(row): i for i, row in enumerate(whole.points)}
    kept, held_out = (
        [{row_of[tuple(row)] for row in np.asarray(points)} for points in m.points] for m in (images.train, images.test)
    )
    assert len(kept[0]) == len(kept[1]) == 400
    assert len(held_out[0]) == len(held_out[1]) == 200
    assert [not a & b for a, b in zip(kept, held_out, strict=True)] == [True, True]
    # Two random halves share in the mean 400 * 400 / 1797 = 89 images, with a standard deviation of 7.
    assert abs(len(kept[0] & kept[1]) - 89) < 28


def test_features_may_be_the_labellers():
    images, _, _ = problem(dataclasses.replace(SMOKE, features="classifier", num_seeds=1), Runner())
    network = jax.tree.map(lambda leaf: np.asarray(leaf[0], float), images.classifier)
    hidden = (np.asarray(images.train.points[0]) - network.mean) / network.scale
    for weights in (network.first, network.second):
        hidden = np.maximum(0, hidden @ weights[:-1] + weights[-1])
    assert_allclose(images.train_features[0], hidden, atol=1e-3)


@pytest.mark.parametrize("published", [True, False])
def test_images_are_chosen_from_the_parts_as_published(published):
    def blank(count):
        return LabelledImages(np.zeros((count, 1), np.float32), np.zeros(count, np.int32), (1, 1, 1))

    train = blank(50)
    test = blank(30) if published else train
    config = dataclasses.replace(SMOKE, num_train=20, num_test=25, num_seeds=3)
    kept, held_out = divide(config, train, test)
    assert (kept.shape, held_out.shape) == ((3, 20), (3, 25))
    assert kept.min() >= 0
    assert 30 <= kept.max() < 50
    assert held_out.min() >= 0
    assert (held_out.max() < 30) == published
    for found in (kept, held_out):
        assert [len(set(indices)) for indices in found.tolist()] == [found.shape[1]] * 3
        assert len({frozenset(indices) for indices in found.tolist()}) == 3
    if not published:
        assert not any(set(a) & set(b) for a, b in zip(kept.tolist(), held_out.tolist(), strict=True))
    first = divide(dataclasses.replace(config, num_seeds=1), train, test)
    for alone, several in zip(first, (kept, held_out), strict=True):
        assert_array_equal(alone, several[:1])
    others, _ = divide(dataclasses.replace(config, seed=1), train, test)
    assert {frozenset(indices) for indices in kept.tolist()}.isdisjoint(map(frozenset, others.tolist()))


def kept_by_tilt(config, images, labels):
    """Run the tilt, and sum what each generation keeps."""
    runner, silos = Runner(), deal(config, [SPLITS["ExDir(1, 0.1)"]], images, labels)
    axes = {"seed": starts(config, runner, "first", images, SPACES["gaussian_mixture"], silos)}

    def record(images, space, silos, silo):
        return lambda key, state, info: info.kept.weights @ info.kept.points

    return simulate(config, runner, "tilt", SPACES["gaussian_mixture"], "tilt", record, axes).record


def test_a_seed_alone_is_the_first_of_several(digits):
    one = dataclasses.replace(SMOKE, num_seeds=1)
    images, labels, accuracies = problem(one, Runner())
    assert_array_equal(labels, digits[1][:1])
    assert_array_equal(accuracies, digits[2][:1])
    for alone, several in zip(*map(jax.tree.leaves, (images, digits[0])), strict=True):
        assert_array_equal(alone[0], several[0])
    alone, several = kept_by_tilt(one, images, labels), kept_by_tilt(SMOKE, *digits[:2])
    assert abs(alone).max() > 10
    assert_allclose(alone[0], several[0], atol=1e-3)
    assert abs(several[1, 1:] - several[0, 1:]).max() > 1


def test_features_of_a_user_are_those_of_each_seed_and_read_again(tmp_path, monkeypatch):
    calls = []

    def summits(images):
        calls.append(len(images))
        return np.sort(images, axis=1)[:, -3:]

    monkeypatch.setattr(math, "summits", summits, raising=False)
    config = dataclasses.replace(SMOKE, features="math:summits", feature_cache=str(tmp_path))
    images, _, _ = problem(config, Runner())
    assert sum(calls) == 2 * (400 + 200)
    assert len(list(tmp_path.iterdir())) == 4
    for features, real in ((images.train_features, images.train), (images.test_features, images.test)):
        assert_array_equal(features, np.sort(real.points, axis=-1)[..., -3:])
    seeds = Axis([0, 1], images)
    assert_array_equal(jax.vmap(lambda images: images.embed(images.train.points))(seeds.values), images.train_features)
    calls.clear()
    assert_array_equal(problem(config, Runner())[0].test_features, images.test_features)
    assert calls == []
    monkeypatch.setattr(math, "summits", lambda images: images[:, : 2 + len(images) % 2])
    with pytest.raises(ValueError, match=r"^features = 'math:summits': .* must be one number$"):
        problem(dataclasses.replace(config, num_train=201, num_test=200, feature_cache=str(tmp_path / "b")), Runner())


def test_poor_labeller_is_warned_of():
    assert image_silos.warnings(np.array([0.95, 0.9])) == []
    said = ["the labeller of a seed is right on 85.3% of held-out images, below 90%"]
    assert image_silos.warnings(np.array([0.95, 0.853])) == said


def test_unbiased_silo_has_the_size_of_the_first_and_points_of_all():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((4, 30, 2)) + 10 * np.arange(4)[:, None, None], jnp.float32)
    weights = jnp.asarray(np.arange(30) < [[12], [30], [30], [20]], jnp.float32)
    silos = Measure(x, weights)
    dealt, counts = jax.jit(lambda key: verifier("unbiased_silo", silos, key).score.reference), np.zeros(4)
    for key in jax.random.split(jax.random.key(0), 50):
        silo = jax.tree.map(np.asarray, dealt(key))
        assert silo.weights.sum() == 12
        owners = np.round(silo.points[silo.weights > 0].mean(axis=1) / 10).astype(int)
        counts += np.bincount(owners, minlength=4)
    expected = 600 * np.array([12, 30, 30, 20]) / 92
    assert (abs(counts - expected) < 4 * np.sqrt(expected)).all()


def test_keep_all_keeps_the_whole_pool_whatever_the_silo():
    x = jnp.asarray(np.random.default_rng(1).standard_normal((40, 2)), jnp.float32)
    pool = Measure(x, jnp.asarray(np.arange(40) < 10, jnp.float32))
    for silo in range(2):
        select = verifier("keep_all", x.reshape(2, 20, 2), silo=silo)
        assert_array_equal(counted(select(jax.random.key(0), pool, sizes(10))).value, pool.weights)


def test_paired_differences_and_silos_in_turn():
    rows = [
        {"split": "s", "generator": "g", "verifier": v, "seed": seed, "silo": k}
        | dict.fromkeys(siloed_images.SCORED, value + seed)
        for seed in (0, 1, 2)
        for v, k, value in (("random", 0, 1.0), ("single_silo", 0, 3.0), ("single_silo", 1, 5.0))
    ]
    last = pd.DataFrame(rows).set_index(["split", "generator", "verifier", "seed", "silo"]).to_xarray()
    found = summarise(last).sel(split="s", generator="g", score="frechet")
    assert_array_equal(found.selection, ["random", "single_silo", "single_silo, any"])
    assert_allclose(found["mean"], [2, 4, 5])
    assert_allclose(found.difference_mean, [0, 2, 3])
    assert_allclose(found.difference_half, 0)
    assert_allclose(found.half, 4.302653 / np.sqrt(3), rtol=1e-6)


def test_without_random_selection_nothing_is_compared():
    labels = {"split": ["s"], "generator": ["g"], "verifier": ["tilt"], "seed": [0, 1], "silo": [0]}
    scores = dict.fromkeys(siloed_images.SCORED, (tuple(labels), np.ones((1, 1, 1, 2, 1))))
    found = summarise(xr.Dataset(scores, labels, {"warnings": ["of a run"]}))
    assert not any(values.attrs for values in found.values())
    assert_array_equal(found["mean"], np.ones((1, 1, 1, 12)))
    assert np.isnan(found.difference_mean).all()


def test_grid_shows_the_images():
    shown = np.linspace(-1, 1, 2 * 3 * 12).reshape(2, 3, 12)
    row = strip(grid(shown)[1])
    assert row.shape == (2, 9, 3)
    assert_array_equal(row[:, 3:5].reshape(-1), np.round((shown[1, 1] + 1) * 127.5))


def test_divergence_is_that_of_pot():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((40, 3)), 1 + rng.standard_normal((30, 3))

    def cost(a, b):
        plan = ot.sinkhorn(ot.unif(len(a)), ot.unif(len(b)), ot.dist(a, b), 2.0, method="sinkhorn_log", numItermax=2000)
        a_, b_ = ot.unif(len(a)), ot.unif(len(b))
        return np.sum(plan * ot.dist(a, b)) + 2.0 * np.sum(plan * np.log(plan / np.outer(a_, b_)))

    expected = np.sqrt(cost(x, y) - (cost(x, x) + cost(y, y)) / 2)
    measures = [uniform_measure(np.float32(points)) for points in (x, y)]
    actual, error = divergence(*measures, 2.0)
    assert_allclose(actual, expected, rtol=1e-3)
    assert unconverged(np.array([0, error])) == []
    _, error = divergence(*measures, 1e-6)
    assert unconverged(np.array([0, error])) == [
        f"entropic_w: the largest marginal error of a transport problem is {error:.1e}, above 0.0001"
    ]
    assert len(unconverged(np.array([0, np.nan]))) == 1


def test_steepest_loss_is_that_of_finite_differences():
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        h, g = (
            Classifier(
                jnp.zeros(2), jnp.ones(()), *(jnp.asarray(rng.standard_normal(s)) for s in ((3, 5), (6, 4), (5, 3)))
            )
            for _ in range(2)
        )
        x = jnp.asarray(rng.standard_normal((6, 2)))

        def loss(points):
            return -np.sum(np.exp(log_probabilities(g, points)) * log_probabilities(h, points), axis=1)

        steps = 1e-6 * np.eye(2)
        slopes = [(loss(x + step) - loss(x - step)) / 2e-6 for step in steps]
        assert_allclose(steepest(h, g, x), np.sqrt(np.sum(np.square(slopes), axis=0)).max(), rtol=1e-5)


def test_slope_and_share_of_the_bound_are_those_of_the_table():
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"seed": np.repeat([0, 1, 2], 10), "entropic_w": rng.uniform(1, 2, 30), "slope": 8.0})
    table = table.assign(sliced_w=-table.entropic_w, frechet=table.entropic_w**2, kept_risk=rng.uniform(0, 1, 30))
    steepness = np.repeat([1.0, 2.0, 3.0], 10)
    found = judge(table.assign(risk=table.kept_risk + steepness * table.entropic_w))
    assert_allclose(found["slope_of_excess_risk"], 2)
    assert_allclose(found["slope_half"], 4.302653 / np.sqrt(3), rtol=1e-6)
    assert_allclose(found["largest_share_of_bound"], 3 / 8)
    assert_allclose(found["rank_correlation_sliced_w"], -found["rank_correlation_entropic_w"])


def test_each_dial_turns_alone_where_silos_hold_one_class():
    config = silo_geometry.Config()
    (first, classes, budgets), *others = silo_geometry.settings(config)
    assert (first, classes, budgets) == (config, config.classes, config.budgets)
    assert len(others) == 6
    for setting, classes, budgets in others:
        assert (classes, budgets) == ((1,), (0.25,))
        turned = [dial for dial in silo_geometry.DIALS if getattr(setting, dial) != getattr(config, dial)]
        assert len(turned) == 1
        assert getattr(setting, turned[0]) in getattr(config, f"of_{turned[0]}")


def test_geometry_deals_each_number_of_classes(digits):
    images, labels, _ = digits
    config = silo_geometry.Config(**silo_geometry.PRESETS["smoke"])
    silos = silo_geometry.deal_all(config, images, labels, (1, 10))
    assert silos.weights.shape[:3] == (2, 2, 10)
    assert_array_equal(silos.weights.sum(axis=(2, 3)), 400)
    owners = [
        {tuple(row): label for row, label in zip(*of_seed, strict=True)}
        for of_seed in zip(np.asarray(images.train_features), labels, strict=True)
    ]
    for (seed, c, k), _ in np.ndenumerate(np.zeros((2, 2, 10))):
        present = np.asarray(silos.points[seed, c, k])[np.asarray(silos.weights[seed, c, k]) > 0]
        assert len({owners[seed][tuple(row)] for row in present}) <= (1, 10)[c]


def test_severities_of_one_program_are_those_alone_and_traces_grow_by_their_law(digits):
    """Kernel densities that are refitted to random samples of them: each generation the covariance is 1 + b^2 times."""
    images, labels, _ = digits
    smoke, severities = silo_geometry.Config(**silo_geometry.PRESETS["smoke"]), (0.3, 0.9)
    config = dataclasses.replace(
        smoke, verifiers=(), workflow="replace", of_bandwidth=severities, num_kept=200, num_scored=200
    )
    silos = silo_geometry.deal_all(config, images, labels, config.classes)
    together = silo_geometry.turn(config, Runner(), images, silos, "bandwidth").isel(verifier=0)
    alone = dataclasses.replace(config, generator="kernel_density", bandwidth=severities[1])
    found = silo_geometry.compare(alone, Runner(), images, silos, (1,), (0.5,), "alone").isel(verifier=0, generation=-1)
    assert_allclose(together.frechet.isel(severity=1), found.frechet.squeeze(), rtol=1e-4)
    assert (together.frechet.isel(severity=1) > 1.5 * together.frechet.isel(severity=0)).all()
    spectrum = np.linalg.eigvalsh(np.cov(images.train_features[0].T))
    # The variance of the log trace of m points is 2 tr(S^2) / (m tr(S)^2): two generations, and scores at either end.
    error = np.sqrt(2 * (spectrum**2).sum() / spectrum.sum() ** 2 / 200 * (2 + 2)) / 2 / np.sqrt(2)
    assert_allclose(together.growth.mean("seed"), np.log1p(np.square(severities)), atol=4 * error)
    assert 4 * error < np.log1p(0.9**2) / 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--dataset cifar", "invalid choice 'cifar' for argument '--dataset'"),
        ("--dataset mnist --data nowhere", "nowhere"),
        ("--splits iid --num-silos 300", "--num-silos = 300: the smallest silo has 1 images, and needs 2"),
        ("--features no_such_module:f", "features = 'no_such_module:f': must be pca, classifier or MODULE:FUNCTION"),
        ("--workflow fresh_mix", "invalid choice 'fresh_mix' for argument '--workflow'"),
        ("--num-verifying-silos 11", "--num-verifying-silos = 11: must be at most 10"),
        ("--num-train 5000", "--num-train = 5000: must be in"),
    ],
)
def test_bad_input_is_said_with_status_2(flags, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "keep_programs", lambda directory: None)
    place = ["--preset", "smoke", "--out", str(tmp_path / "out")]
    assert command.main(["run", "siloed_images", *place, *flags.split()]) == 2
    assert message in " ".join(re.sub("[│╭╮╰╯─]", "", capsys.readouterr().err).split())
    assert not list(tmp_path.rglob("*.nc"))
