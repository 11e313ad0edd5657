"""Silos that lie to the verifier: what each lie costs, what a screen of replies saves, and what it costs the honest."""

import dataclasses
from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from jaxcollapse.base import Measure, Record
from jaxcollapse.checks import check_range
from jaxcollapse.exchanges import feature_means, in_turn
from jaxcollapse.exchanges.screening import SCREENS, Screen, screened
from jaxcollapse.experiments.support.comparison import Verifiers, settings
from jaxcollapse.experiments.support.image_silos import (
    SPLITS,
    ImageComparison,
    Images,
    Space,
    Start,
    deal,
    real_images,
    simulate,
    starts,
)
from jaxcollapse.experiments.support.ranges import Count, NumSeeds, NumSilos, Range
from jaxcollapse.experiments.support.runner import Output, Runner
from jaxcollapse.experiments.support.spaces import SPACES
from jaxcollapse.measures import as_moments, pooled, share, uniform_measure
from jaxcollapse.metrics import METRICS, POINT_METRICS
from jaxcollapse.record import record_samples
from jaxcollapse.silos import class_split
from jaxcollapse.sweep import Axis, along
from jaxcollapse.tree import closure, row, stack
from jaxcollapse.verifiers import problem

DIVISIONS = {"alike": SPLITS["iid"], "one class each": lambda seed, labels, num_silos: class_split(labels, num_silos)}
RECORDED = ("frechet", "recall")
BOUND = SCREENS["bounded_mass"]()
RULES: dict[str, Screen] = {
    "bounded mass": BOUND,
    "within 3 medians": in_turn((BOUND, SCREENS["near_median"](3.0))),
    "within 1.5 medians": in_turn((BOUND, SCREENS["near_median"](1.5))),
    "geometric median": in_turn((BOUND, SCREENS["geometric_median"]())),
}
_LIES, _LIARS, _POOL = 2**32 - 3, 2**32 - 4, 2**32 - 5  # beyond the generations that a key is folded with


def moved(key: jax.Array, silos: Measure, pool: jax.Array) -> Measure:
    """Move all data by three standard deviations along the first principal component."""
    spread = jnp.sqrt(as_moments(pooled(silos)).covariance[0, 0])
    return silos._replace(points=silos.points.at[..., 0].add(3 * spread))


def collapsed(key: jax.Array, silos: Measure, pool: jax.Array) -> Measure:
    """Put all data at the first of a silo's points."""
    return silos._replace(points=jnp.broadcast_to(silos.points[:, :1], silos.points.shape))


def copied(key: jax.Array, silos: Measure, pool: jax.Array) -> Measure:
    """Take rows of the first model's samples for data."""
    return silos._replace(points=pool[jax.random.randint(key, silos.weights.shape, 0, len(pool))])


def amplified(key: jax.Array, silos: Measure, pool: jax.Array) -> Measure:
    """Move the data, and claim a hundred times the mass."""
    return Measure(moved(key, silos, pool).points, 100 * silos.weights)


def silent(key: jax.Array, silos: Measure, pool: jax.Array) -> Measure:
    """Say nothing: what is left if all liars are known."""
    return silos._replace(weights=jnp.zeros_like(silos.weights))


LIES = {"shift": moved, "collapse": collapsed, "copy": copied, "amplify": amplified}


@dataclasses.dataclass(frozen=True)
class Config(ImageComparison):
    """Fréchet distance and recall under silos that lie, with and without screens, over those of honest silos."""

    verifiers: Verifiers = ("kernel_balanced", "landmark_balanced", "scheme_ii")
    """Ways to select, by exchanges that can be screened."""
    divisions: tuple[Literal[tuple(DIVISIONS)], ...] = tuple(DIVISIONS)
    """How images are divided: dealt at random, or by class."""
    lies: tuple[Literal[tuple(LIES)], ...] = tuple(LIES)
    """What liars hold instead of their data when they answer."""
    num_liars: tuple[NumSilos, ...] = (1, 3, 5)
    """Silos that lie, beside none."""
    screens: tuple[Literal[tuple(RULES)], ...] = tuple(RULES)
    """Screens of replies, beside none; the later ones after masses are bounded."""
    num_train: Count = 500
    """Real images in the silos."""
    num_kept: Count = 100
    """Samples n kept in each generation."""
    num_generations: Count = 2
    """Generations after the fit to real data."""
    num_components: Annotated[int, Range(2, 4096)] = 8
    """Principal components."""
    num_gaussians: Count = 5
    """Components of the mixture model."""
    num_iterations: Count = 10
    """Iterations of expectation maximisation in each of its fits."""
    num_scored: Annotated[int, Range(2, 10**6)] = 500
    """Samples of each model that are scored."""
    num_seeds: NumSeeds = 4
    """Seeds, each with images, features, silos, liars and simulation of its own."""
    num_support: Count = 50
    """Support points S of the schemes' references."""
    num_rounds: Count = 5
    """Rounds of the schemes."""


PRESETS = {
    "smoke": {
        "verifiers": ("landmark_balanced",), "lies": ("amplify",), "num_liars": (1,),
        "screens": ("within 3 medians",), "num_kept": 60, "num_generations": 1, "num_train": 300, "num_test": 200,
        "num_components": 4, "num_gaussians": 4, "num_scored": 60, "num_seeds": 2,
    },
    "quick": {
        "verifiers": ("kernel_balanced", "landmark_balanced"), "num_liars": (1, 3),
        "num_generations": 1, "num_seeds": 2,
    },
    "paper": {},
}  # fmt: skip


@closure
class one_of:
    """Pass replies through one of several screens, by index, so that they are lanes of one program.

    Attributes:
        screens: all that there are; index 0 is none.
        index: of the one, shape [].
    """

    screens: tuple[Screen, ...]
    index: Any

    def __call__(self, replies: Any) -> Any:
        return jax.lax.switch(self.index, (lambda replies: replies, *self.screens), replies)


@closure
class hear:
    """Hear one of a seed's divisions through a screen.

    Attributes:
        division: its index, shape [].
        screen: of the replies.
    """

    division: Any
    screen: Screen

    def __call__(self, silos: Measure, _: Any = 0) -> screened:
        return screened(row(silos, self.division), self.screen)


def cases_of(config: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List the divisions under each lie, and the cases, each with the index of its division.

    Honest silos are heard through every screen; liars are silent once, as if all were known, and tell every lie through
    every screen.
    """
    told = [("none", 0), *(("silent", f) for f in config.num_liars)]
    told += [(lie, f) for lie in config.lies for f in config.num_liars]
    divisions = pd.DataFrame(
        [(split, *each) for split in config.divisions for each in told], columns=["split", "lie", "num_liars"]
    )
    screens = pd.DataFrame({"screen": ["none", *config.screens]})
    cases = divisions.assign(division=divisions.index).merge(screens, how="cross")
    return divisions, cases[(cases.lie != "silent") | (cases.screen == "none")].reset_index(drop=True)


def lying(key: jax.Array, num_silos: int, num_liars: Any) -> jax.Array:
    """Choose the silos that lie, [K]; more liars are these and others."""
    return jax.random.permutation(jax.random.fold_in(key, _LIARS), num_silos) < num_liars


def poison(config: Config, key: jax.Array, silos: Measure, pool: jax.Array) -> Measure:
    """Let silos of each division tell each lie, in each number."""
    lies = {"none": lambda key, silos, pool: silos, "silent": silent, **LIES}

    def told(split: str, lie: str, num_liars: int) -> Measure:
        held = row(silos, config.divisions.index(split))
        liars = lying(key, config.num_silos, num_liars)
        false = lies[lie](jax.random.fold_in(key, _LIES), held, pool)
        points = jnp.where(liars[:, None, None], false.points, held.points)
        return Measure(points, jnp.where(liars[:, None], false.weights, held.weights))

    return stack([told(*each) for each in cases_of(config)[0].itertuples(index=False)])


def believed(config: Config, key: jax.Array, silos: Measure, case: tuple[hear, Any]) -> dict[str, jax.Array]:
    """Compute the liars' share of the mean features that verifiers ask for, and how many of the honest are left out."""
    heard, liars = case[0](silos), lying(key, config.num_silos, case[1])
    exchange = feature_means(problem(heard, key, **settings(config)).features)
    told = jax.vmap(lambda silo: exchange.reply(key, silo, None)[1])(heard.silos)
    left = share(heard.screen(told).mass)
    return {"share_of_liars": jnp.sum(left, where=liars), "honest_left_out": jnp.mean(left == 0, where=~liars)}


def record_distance(config: Config, images: Images, space: Space, silos: Measure, silo: Any) -> Record:
    """Record how far samples of the model are from images held out."""
    metrics = {name: (METRICS | POINT_METRICS)[name] for name in RECORDED}
    truth = uniform_measure(images.test_features)
    return record_samples(metrics, truth, space.trained, config.num_scored, space.embed)


def run(config: Config, runner: Runner) -> Output:
    """Run random selection, and every verifier on silos of every division under every lie and screen."""
    check_range("num_liars", max(config.num_liars), high=config.num_silos)
    runner.expect(3 + len(config.verifiers))
    images, classes = real_images(config)
    divided = deal(config, [DIVISIONS[name] for name in config.divisions], images, classes)
    make, record = SPACES["gaussian_mixture"], partial(record_distance, config)
    start = starts(config, runner, "first model", images, make, divided)
    _, cases = cases_of(config)
    screens, index = tuple(RULES[name] for name in config.screens), pd.Index(["none", *config.screens])
    chosen = zip(cases.division, index.get_indexer(cases.screen), strict=True)
    heard = stack([hear(division, one_of(screens, screen)) for division, screen in chosen])

    def poisoned(start: Start, heard: hear, num_liars: jax.Array) -> tuple[Measure, dict[str, jax.Array]]:
        space = make(config, start.images)
        sampled = space.embed(space.generator.sample(jax.random.fold_in(start.key, _POOL), start.model, 1000))
        silos = poison(config, start.key, start.silos, sampled)
        return silos, jax.lax.map(partial(believed, config, start.key, silos), (heard, num_liars))

    told = start.values, heard, cases.num_liars.to_numpy()
    silos, shares = runner.once("lies", jax.vmap(poisoned, (0, None, None)), *told)
    lied = {"seed": Axis(start.labels, start.values._replace(silos=silos)), "hear": Axis(range(len(cases)), heard)}
    runs = {
        name: simulate(config, runner, name, make, name, record, {"seed": start} if name == "random" else lied)
        for name in ("random", *config.verifiers)
    }
    last = {name: found.isel(generation=-1, drop=True) for name, found in runs.items()}
    verified = along("verifier", {name: last[name] for name in config.verifiers}).rename(hear="case")
    described = {name: ("case", cases[name].to_numpy()) for name in ("split", "lie", "num_liars", "screen")}
    arrays = compared(verified.assign_coords(described), last["random"])
    arrays = arrays.assign({name: (("seed", "case"), values) for name, values in shares.items()})
    means = arrays.damage.mean("seed").to_dataframe()
    named = means.set_index([*described], append=True).droplevel("case").damage
    return Output(arrays, {"mean_damage": {" / ".join(map(str, key)): value for key, value in named.items()}})


def compared(verified: xr.Dataset, random: xr.Dataset) -> xr.Dataset:
    """Compare with honest silos of the same division that are heard without a screen, the first of it, seed by seed."""
    splits = verified.split.to_series().reset_index(drop=True)
    first = splits.index.to_series().groupby(splits).transform("first").to_numpy()
    honest = verified[[*RECORDED]].isel(case=first).drop_vars(verified.case.coords)
    found = {}
    for suffix, runs in {"": verified, "_of_random": random}.items():
        found[f"damage{suffix}"] = np.log2(runs.frechet / honest.frechet)
        found[f"lost_recall{suffix}"] = honest.recall - runs.recall
    return xr.Dataset(found)
