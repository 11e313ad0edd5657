"""Experiments on siloed images: bad input, and the parts that have independent oracles."""

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
from jaxcollapse.base import Measure
from jaxcollapse.classifier import Classifier, log_probabilities
from jaxcollapse.experiments import silo_geometry, siloed_images
from jaxcollapse.experiments.generalization_cost import divergence, judge, steepest
from jaxcollapse.experiments.siloed_images import PRESETS, Config, grid, summarise
from jaxcollapse.experiments.support import image_silos
from jaxcollapse.experiments.support.image_silos import SPLITS, deal, problem
from jaxcollapse.experiments.support.runner import Runner
from jaxcollapse.measures import uniform_measure
from jaxcollapse.paper_figures.siloed_images_samples import strip
from jaxcollapse.sizes import sizes
from jaxcollapse.verifiers import verifier

SMOKE = Config(**PRESETS["smoke"])


@pytest.fixture(scope="module")
def digits():
    return problem(SMOKE, Runner())


def test_features_labeller_and_silos_come_from_training_images_only(digits):
    images, labels, labeller_accuracy = digits
    assert labeller_accuracy > 0.9
    train, test = (np.asarray(m.points) for m in (images.train, images.test))
    assert not (train[:, None] == test[None]).all(axis=-1).any()
    assert_allclose(images.pca.mean, train.mean(axis=0), atol=1e-5)
    silos = deal(SMOKE, [SPLITS["ExDir(1, 0.1)"]], images, labels)
    assert_array_equal(silos.weights.sum(axis=(2, 3)), [[400], [400]])
    seen = {tuple(row) for row in np.asarray(images.train_features)}
    for points, weights in zip(*(np.asarray(leaf[0, 0]) for leaf in silos), strict=True):
        assert {tuple(row) for row in points[weights > 0]} <= seen


def test_poor_labeller_is_warned_of():
    assert image_silos.warnings(0.9) == []
    assert image_silos.warnings(0.853) == ["the labeller is right on 85.3% of held-out images, below 90%"]


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
        assert_array_equal(select(jax.random.key(0), pool, sizes(10)), pool.weights)


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
    found = summarise(xr.Dataset(scores, labels))
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
    actual = divergence(*(uniform_measure(np.float32(points)) for points in (x, y)), 2.0)
    assert_allclose(actual, expected, rtol=1e-3)


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
    owner = {tuple(row): label for row, label in zip(np.asarray(images.train_features), labels, strict=True)}
    for (seed, c, k), _ in np.ndenumerate(np.zeros((2, 2, 10))):
        present = np.asarray(silos.points[seed, c, k])[np.asarray(silos.weights[seed, c, k]) > 0]
        assert len({owner[tuple(row)] for row in present}) <= (1, 10)[c]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--dataset cifar", "invalid choice 'cifar' for argument '--dataset'"),
        ("--dataset mnist --data nowhere", "nowhere"),
        ("--splits iid --num-silos 300", "images of the smallest silo = 1: must be at least 2"),
        ("--features no_such_module:f", "features = 'no_such_module:f': must be pca, or MODULE:FUNCTION"),
        ("--workflow fresh_mix", "invalid choice 'fresh_mix' for argument '--workflow'"),
        ("--num-verifying-silos 11", "num_verifying_silos = 11: must be in [1, 10]"),
        ("--num-train 5000", "num_train = 5000: must be in"),
    ],
)
def test_bad_input_is_said_with_status_2(flags, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "keep_programs", lambda directory: None)
    place = ["--preset", "smoke", "--out", str(tmp_path / "out")]
    assert command.main(["run", "siloed_images", *place, *flags.split()]) == 2
    assert message in " ".join(re.sub("[│╭╮╰╯─]", "", capsys.readouterr().err).split())
    assert not list(tmp_path.rglob("*.nc"))
