"""Results in documents: each number is generated from a committed table, and words say what the tables hold."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from jaxcollapse.command import RUNNABLE
from jaxcollapse.paper_figures.support import documents

ROOT = Path(__file__).parents[1]
TABLES = ROOT / documents.TABLES
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / documents.PAGES).glob("*.md"))}
DOCUMENTS = PAGES | {"README": (ROOT / documents.README).read_text()}
BLOCK = r"(?s)<!-- (\w+) -->\n(.*?)\n<!-- end -->"


def read(name):
    return pd.read_csv(TABLES / f"{name}.csv")


def last(name):
    """Read the rows of the last generation."""
    table = read(name)
    return table[table.generation == table.generation.max()]


def differences(name):
    """Read differences from random selection, and half their intervals, by score, setting and verifier."""
    table = read(f"{name}_table").set_index(["score", "split", "generator", "verifier"])
    return table[["difference_mean", "difference_half"]].sort_index()


def test_every_experiment_has_a_page_and_every_page_an_experiment():
    assert {*PAGES} == {*RUNNABLE, "index"}
    for name in RUNNABLE:
        assert PAGES[name].startswith(f"({name})=\n# ")
        assert PAGES[name].count("```{result} " + name + "\n") == 1
        assert re.findall("^## (.*)", PAGES[name], re.MULTILINE) == ["What would refute it", "Holds for"]
        assert f"| `{name}` |" in PAGES["index"]
    listed = re.findall(r"^(\w+) <\1>$", PAGES["index"], re.MULTILINE)
    assert sorted(listed) == sorted(RUNNABLE)


def test_every_figure_is_on_the_page_of_its_experiment():
    shown = {figure: name for name, text in PAGES.items() for figure in re.findall(r"figures/(\w+)\.png", text)}
    owners = {path.stem: max(filter(path.stem.startswith, RUNNABLE), key=len) for path in TABLES.glob("*.png")}
    assert shown.items() <= owners.items()
    missing = {name for name in owners if name not in shown}
    assert {name.rpartition("_")[2] for name in missing} <= {"table", "samples"}  # of studies, which have numbers


def test_documents_hold_what_the_tables_say():
    stated = {name: dict(re.findall(BLOCK, text)) for name, text in DOCUMENTS.items()}
    written = {name: block(read) for name, block in documents.BLOCKS.items()}
    assert all(found == {name: written[name] for name in found} for found in stated.values())
    assert sorted(name for page in PAGES for name, _ in re.findall(BLOCK, PAGES[page])) == sorted(documents.BLOCKS)


@pytest.mark.parametrize("name", PAGES)
def test_numbers_outside_blocks_are_settings(name):
    """A result has a decimal point, an interval or a factor."""
    prose = re.sub(BLOCK, "", PAGES[name])
    assert not re.findall(r"\d*\.\d+|.{10}±.{10}|factors? of [\d.]+", prose)


@pytest.mark.parametrize(
    ("x", "arguments", "expected"),
    [
        (0.5647, (), ".56"),
        (0.594521, (), ".59"),
        (-0.4862, (2, "+"), "-.49"),
        (10.8028, (1, "+"), "+10.8"),
        (100.04, (1,), "100.0"),
        (0.0, (3,), ".000"),
    ],
)
def test_numbers_are_rounded_without_the_zero_before_the_point(x, arguments, expected):
    assert documents.number(x, *arguments) == expected


def test_table_of_differences_by_hand():
    table = pd.DataFrame(
        [("s", "g", "tilt", score, 0.75, 0.25, 0.125) for score in documents.SCORES]
        + [("s", "g", "pooled", score, 3.0, 2.5, 0.25) for score in documents.SCORES]
        + [("s", "h", "tilt", score, 0.75, 0.5, np.inf) for score in documents.SCORES],
        columns=["split", "generator", "verifier", "score", "mean", "difference_mean", "difference_half"],
    )
    written = documents.compared(table, ("absent", "pooled", "tilt")).replace("\N{NO-BREAK SPACE}", " ")
    _, _, random, pooled, _, _, alone = written.splitlines()
    assert random == "| g, random |" + " .50 |" * 4
    assert pooled == "| g, pooled |" + " 3.00 (+2.5 ± .2) |" * 4
    assert alone == "| h, tilt |" + " .75 (+.50) |" * 4


def test_slope_and_bound_by_other_means():
    table = read("generalization_cost").dropna()
    slopes = [scipy.stats.linregress(seed.entropic_w, seed.excess).slope for _, seed in table.groupby("seed")]
    half = scipy.stats.t.interval(0.95, len(slopes) - 1, scale=scipy.stats.sem(slopes))[1]
    rank = scipy.stats.spearmanr(table.entropic_w, table.excess).statistic
    stated = " ".join(documents.generalization_cost(read).split())
    expected = re.search(r"rises at (\S+) ± (\S+) nats .* allows (\d+): at most (\S+)% .* is (\S+)\.$", stated)
    numbers = np.array([float(number) for number in expected.groups()])
    bound = (table.allowed / table.entropic_w).mean(), 100 * (table.excess / table.allowed).max()
    np.testing.assert_array_less(
        abs(numbers - [np.mean(slopes), half, *bound, rank]), [0.0051, 0.0051, 0.51, 0.051, 0.0051]
    )


@pytest.mark.parametrize("name", ["siloed_images", "siloed_diffusion", "siloed_splits"])
def test_order_by_distance_is_the_one_told(name):
    for (split, _), found in differences(name).loc["frechet"].groupby(["split", "generator"]):
        chosen = found.droplevel([0, 1]).loc[["tilt", "pooled", "scheme_i", "scheme_ii", "single_silo"]]
        tilt, pooled, first, second, single = chosen.difference_mean
        assert tilt < 0 < min(pooled, first, second)
        assert max(pooled, first, second) < single
        if split == "iid":
            assert (
                max(abs(pooled - first), abs(pooled - second)) < chosen.difference_half[["scheme_i", "scheme_ii"]].max()
            )
        else:
            assert pooled < min(first, second)


def test_words_on_rules_for_images_hold():
    table = read("siloed_images_table").set_index(["score", "verifier"])
    pooled = table.loc[("recall", "pooled")]
    assert pooled["mean"] < -pooled.difference_mean
    told = np.sign(table.difference_mean) * (abs(table.difference_mean) > table.difference_half)
    assert told.xs("kernel_balanced", level="verifier")[[*documents.SCORES]].tolist() == [-1, 1, 0, 1]
    assert told.xs("landmark_balanced", level="verifier")[["frechet", "coverage"]].tolist() == [-1, 0]
    assert table["mean"]["coverage"].idxmax() == "capped"
    assert told["recall", "capped"] == -1
    assert told["frechet", "private_tilt"] == told["frechet", "private_balanced"] == 1


def test_balanced_selection_gains_what_is_told():
    table = differences("balanced_selection").xs("balanced", level="verifier")
    sign = np.where(table.index.get_level_values("score") == "frechet", -1, 1)
    surely = (sign * table.difference_mean > table.difference_half).droplevel("split")
    assert surely[["frechet", "precision", "coverage"]].all()
    assert surely["recall", "diffusion"]
    told = abs(table.difference_mean) > table.difference_half
    assert not told.droplevel("split")["recall", "gaussian_mixture"]


def test_words_on_regimes_of_images_hold():
    table = read("siloed_regimes_table").set_index(["score", "generator", "verifier"]).sort_index()
    distance = table.loc["frechet", "kernel_density"]
    random = distance["mean"] - distance.difference_mean
    schemes = distance["mean"][["scheme_i", "scheme_ii"]].max()
    assert schemes < random.iloc[0] / 5
    assert distance.difference_mean["single_silo"] > -distance.half["single_silo"]
    for generator in table.index.unique("generator"):
        cells = table.xs(generator, level="generator")
        difference, half = cells.difference_mean, cells.difference_half
        best, lost = cells["mean"]["coverage"].idxmax(), difference["recall", "capped"] < -half["recall", "capped"]
        assert (best == "capped") == (generator != "kernel_density")
        assert lost == (generator != "gaussian_mixture_with_blends")
        if generator != "kernel_density":
            assert cells["mean"]["coverage", "recoloured"] < cells["mean"]["coverage", "landmark_balanced"]
        for rule in ("kernel_balanced", "landmark_balanced"):
            assert difference["frechet", rule] < -half["frechet", rule]
            assert difference["coverage", rule] > half["coverage", rule]
            lower = difference["precision", rule] < -half["precision", rule]
            assert lower == (generator == "gaussian_mixture_with_blends")
            lower = difference["recall", rule] < -half["recall", rule]
            assert lower == (generator in ("gaussian_mixture_with_junk", "kernel_density"))
        both = cells.loc[["frechet", "precision", "recall", "coverage"]]
        one, other = (both.xs(rule, level="verifier") for rule in ("kernel_balanced", "landmark_balanced"))
        assert (abs(one["mean"] - other["mean"]) < one.half + other.half).all()
    junk = table["mean"]["frechet", "gaussian_mixture_with_junk"]
    assert junk["balanced"] > junk["single_silo"]
    assert junk.idxmin() in ("kernel_balanced", "landmark_balanced")
    clean = table.xs("gaussian_mixture", level="generator")["mean"]
    random = clean["recall"] - table.xs("gaussian_mixture", level="generator").difference_mean["recall"]
    for generator in ("gaussian_mixture_with_junk", "kernel_density"):
        assert table["mean"]["recall", generator, "kernel_balanced"] > random.iloc[0]


def test_gains_are_predicted_as_told():
    table = read("go_no_go")
    assert (table.generator.nunique(), table.verifier.nunique()) == (8, 8)
    wrong = table[table.predicted * table.happened < 0]
    assert (abs(wrong.happened) < wrong.happened_half).all()
    stated = " ".join(documents.go_no_go(read).split())
    found = [float(x) for x in re.findall(r"-?[\d.]*\d", stated)]
    halves = table[["predicted_half", "happened_half"]].to_numpy()
    told = (abs(table[["predicted", "happened"]].to_numpy()) > halves).all(axis=1)
    off, rank = np.median(abs(table.predicted - table.happened)), scipy.stats.spearmanr(table.predicted, table.happened)
    right = (table.predicted * table.happened > 0).to_numpy()
    expected = [right.sum(), len(table), (told & right).sum(), told.sum(), off, *table.happened.agg(["min", "max"])]
    np.testing.assert_allclose(found, [*expected, rank.statistic], atol=0.0051)


def test_words_on_growth_hold():
    table = read("go_no_go_growth")
    assert (table.growth - table.growth_half < 0)[table.generator.str.startswith("diffusion")].all()
    schemes = table[table.verifier.isin(["scheme_i", "scheme_ii"])]
    gains = schemes.generator.isin(["gaussian_mixture_with_junk", "kernel_density"])
    assert (schemes.happened + schemes.happened_half < 0)[gains].all()
    assert (schemes.happened - schemes.happened_half > 0)[~gains].all()


def test_words_on_the_dials_hold():
    table = read("silo_geometry").dropna(subset="budget")  # without defects
    gain = table.set_index(["verifier", "budget"])[["mean", "error"]].sort_index()
    for verifier in ("single_silo", "scheme_i", "scheme_ii"):
        means = gain.loc[verifier, "mean"].groupby("budget").mean()
        assert (gain.loc[verifier, "mean"] < 0).all()
        assert means.is_monotonic_increasing
    on_map = table[(table[["num_silos", "num_train", "num_iterations"]] == [10, 500, 20]).all(axis=1)]
    pooled = on_map[on_map.verifier == "pooled"]
    level = abs(pooled["mean"]) < 2 * pooled.error
    assert level[pooled.budget > 0.1].all()
    assert not level[pooled.budget == 0.1].any()
    assert (pooled["mean"][pooled.budget == 0.1] < 0).all()
    assert (gain.loc["tilt", "mean"] > 0).all()


def test_words_on_silos_that_lie_hold():
    table = read("poisoned_silos")
    by = ["split", "verifier", "screen", "lie", "num_liars"]
    found = table.set_index(by)[["mean", "error", "share_of_liars", "honest_left_out"]].sort_index()
    chance = found["mean"].xs("random", level="screen").droplevel(["lie", "num_liars"])
    harmful, broken = ["shift", "collapse", "amplify"], ["shift", "amplify"]

    def worse_than_random(**fixed):
        chosen = found["mean"].xs(tuple(fixed.values()), level=tuple(fixed))
        return (chosen - chance > 0).all()

    assert worse_than_random(screen="none", lie="amplify", num_liars=1)
    for lie in broken:
        for screen in table.screen[table.screen != "random"].unique():
            assert worse_than_random(screen=screen, lie=lie, num_liars=5)
    alike, apart = found.loc["alike"], found.loc["one class each"]
    balanced = ["kernel_balanced", "landmark_balanced"]
    for lie in harmful:
        for liars in (1, 3):
            cut = alike.xs(("within 3 medians", lie, liars), level=("screen", "lie", "num_liars"))
            assert (cut.share_of_liars < 0.005).all()
            assert (cut["mean"].loc[balanced] < chance.loc["alike"].loc[balanced]).all()
            at_three = apart.xs((lie, 3), level=("lie", "num_liars"))
            wide, bounded = (at_three.xs(s, level="screen") for s in ("within 3 medians", "bounded mass"))
            assert (wide.honest_left_out == 0).all()
            np.testing.assert_allclose(wide.share_of_liars, bounded.share_of_liars, atol=1e-6)
    for lie in harmful:
        wide, tight = (
            alike.loc["scheme_ii", screen, lie, 3]["mean"] for screen in ("within 3 medians", "within 1.5 medians")
        )
        assert tight < wide
    copies = alike.xs("copy", level="lie")
    assert (copies.share_of_liars > 0.05).all()
    assert (copies["mean"].loc[balanced] < 0.5).all()
    tight, wide = (
        apart.xs((screen, 3), level=("screen", "num_liars")).share_of_liars
        for screen in ("within 1.5 medians", "within 3 medians")
    )
    assert (tight - wide).unstack("lie")[harmful].lt(0).all(axis=None)
    assert (
        apart.xs(("within 1.5 medians", "copy", 5), level=("screen", "lie", "num_liars")).honest_left_out > 0.5
    ).all()
    one_point, nothing = (
        apart.xs(("none", lie, 3), level=("screen", "lie", "num_liars")) for lie in ("collapse", "silent")
    )
    assert (one_point["mean"] < nothing["mean"]).loc[balanced].all()
    honest = found.xs(("none", 0), level=("lie", "num_liars"))
    weighed = honest.xs("geometric median", level="screen").loc["one class each"].loc[balanced]
    assert (weighed["mean"] > weighed.error).all()
    assert (honest.xs("bounded mass", level="screen")["mean"] == 0).all()
    for lie in broken:
        bounded = found.xs(("bounded mass", lie, 3), level=("screen", "lie", "num_liars"))["mean"]
        assert (bounded - chance > 0).unstack("verifier")[balanced].all(axis=None)


def test_distance_does_not_rank_methods():
    table = read("generalization_cost")
    means = table.groupby("verifier")[["excess", "entropic_w", "accuracy"]].mean()
    scheme, pooled = means.loc["scheme_ii"], means.loc["pooled"]
    assert scheme.entropic_w > pooled.entropic_w
    assert scheme.excess < pooled.excess
    assert scheme.accuracy > pooled.accuracy


def phase_diagram(name, quantity):
    """Read cells by their place, and agreement with theory."""
    table = read(f"{name}")
    cells = table[table.within_2.isna()].set_index(["workflow", "dim", "num_kept", "budget", "bias"]).sort_index()
    shares = table[table.within_2.notna()].pivot(index=["workflow", "num_kept"], columns="theory", values="within_2")
    return cells.filter(like=quantity).rename(columns=lambda column: column.removeprefix(f"{quantity}_")), shares


def test_half_lives_grow_as_told():
    cells, shares = phase_diagram("phase_diagram", "half_life")
    cells = cells.mean_field.drop("fresh_mix").fillna(np.inf)
    for axis in ("budget", "bias", "dim"):
        levels = [level for level in cells.index.names if level != axis]
        grown = cells.groupby(level=levels).apply(lambda values: values.is_monotonic_increasing)
        assert grown.all()
    corrected = shares.dropna().finite_n
    assert len(corrected) == 6
    assert (abs(corrected - 0.954) < 0.04).all()
    assert (shares.dropna().mean_field < corrected).all()
    agreement = read("phase_diagram").query("theory == 'mean_field' and quantity == 'half_life'")
    scaled = agreement.num_kept * agreement.median_difference
    assert scaled.max() < 2 * scaled.min()


def test_rates_have_two_phases_and_theory_fails_between_them():
    cells, shares = phase_diagram("phase_diagram_exponents", "exponent")
    assert (
        shares.finite_n.loc[["replace", "accumulate"]].groupby("workflow").apply(lambda x: x.is_monotonic_increasing)
    ).all()
    cells = cells.xs(200, level="num_kept")
    rates = cells.loc["replace"]
    simulated = rates.exponent.unstack("bias")
    near, far = simulated.loc[:, :0.5], simulated[6.0]
    assert (abs(np.log(near[0.5] / near[0.0])) < 0.05).all()
    assert (far < near[0.0]).all()
    assert round(near.loc[(2, 0.01), 0.0] / far[2, 0.01]) == 5
    missed = (abs(rates.exponent - rates.finite_n) > 4 * rates.error).unstack("bias").to_numpy()
    change = -np.gradient(np.log(simulated.to_numpy()), axis=1)
    assert 0 < missed.sum() < 0.1 * missed.size
    assert change[missed].min() > 0.03 > np.median(change[~missed])
    assert (np.diff(cells.loc["accumulate"].mean_field.unstack("bias"), axis=1) < 1e-3).all()
    growing = cells.exponent < -4 * cells.error
    assert growing.groupby("workflow").sum().between(1, 10).loc[["accumulate", "fresh_mix"]].all()
    fresh = cells.loc["fresh_mix"]
    assert (fresh.exponent < 4 * fresh.error).all()
    assert abs(fresh.exponent).median() < 0.02


def test_selection_pays_where_the_generator_is_bad_enough():
    maps, laws = (read(f"{name}") for name in ("regimes", "regimes_laws"))
    assert (maps.log_ratio[(maps.expansion == 0) & (maps.share == 0)] > 0).all()
    assert (maps.log_ratio[(maps.expansion == maps.expansion.max()) & (maps.share > 0.1)] < 0).all()
    wrong = maps[np.sign(maps.log_ratio) != np.sign(maps.log_ratio_exact)]
    assert (wrong.log_ratio < 0).all()
    far = laws[(laws.scale == 3) & (laws.share > 0)]
    assert (abs(far.best_budget - (1 - far.share)) < 0.03).all()
    assert {-1, 1} == {*np.sign(laws.exponent_limit.dropna())}  # collapse and explosion


def test_a_gaussian_collapses_as_told():
    found = last("gaussian_collapse").query("source == 'simulation'").set_index(["metric", "setting"])["mean"]
    trace, error = found["trace_ratio"], found["mean_error"]
    assert (trace[["accumulate", "accumulate_subsample"]] > 0.98).all()
    assert (trace[["accumulate+select", "accumulate_subsample+select"]] < 0.1).all()
    for workflow in ("accumulate", "accumulate_subsample"):
        assert error[f"{workflow}+select"] > 100 * error[workflow]
    table = read("gaussian_collapse").query("metric == 'trace_ratio' and source == 'simulation'")
    replace = table[table.setting == "replace+select"].set_index("generation")["mean"]
    assert replace[10] < 0.01


def test_slopes_are_as_told():
    cells = last("power_law").set_index(["target", "budget", "dim"]).sort_index()
    assert (abs(cells.slope - cells.psi).loc["centred"] < 0.004).all()
    below, off = cells.psi - cells.slope, abs(cells.slope - cells.psi)
    assert (off.loc["offset"].drop(index=0.5, level="budget") < 0.006).all()
    assert (below["offset", 0.5] > 0.01).all()
    assert (cells.psi - cells.slope_mean_field)["offset", 0.5].gt(0.01).all()
    assert (cells.slope_low > cells.psi).xs(32, level="dim")["centred"].all()


def test_the_first_correction_is_within_three_errors():
    table = read("finite_n")
    off = abs(table.simulation - table.theory) / table.standard_error
    assert (off < 3).all()
    assert off[table.instance == 2023].idxmax() == table[table.instance == 2023].num_kept.idxmax()


def test_words_on_a_gaussian_of_digits_hold():
    means = last("silo_digits").set_index(["source", "split", "workflow", "verifier"])["mean"].unstack()
    simulated, theory = means.loc["simulation"], means.loc["theory"]
    assert (simulated.random.drop(index="replace", level="workflow") > 0.98).all()
    assert (simulated.pooled < simulated.silo).all()
    assert (simulated.silo.drop(index="fresh_mix", level="workflow") < 0.4).all()
    assert (abs(simulated - theory)[["silo", "pooled"]] < 0.03).all(axis=None)
    fresh = read("silo_digits").query("workflow == 'fresh_mix' and source == 'simulation' and generation >= 50")
    levels = fresh.groupby(["split", "verifier"])["mean"]
    assert (levels.max() < 1.05 * levels.min()).all()


def test_gradients_are_right_where_it_is_told():
    table = read("calibrated_gradient")
    cells = table.groupby(["tau", "epsilon"])
    slopes = cells.apply(lambda c: np.polyfit(c.finite_difference, c.predicted, 1)[0])
    ranks = cells.apply(lambda c: c.finite_difference.corr(c.predicted, method="spearman"))
    assert (abs(slopes[1.0] - 1) < 0.03).all()
    assert (abs(slopes[0.75] - 1) < 0.06).all()
    assert (slopes[0.25] < 0.6).all()
    assert (ranks[0.5] > 0.95).all()
    assert (abs(slopes[0.5] - 1) > 0.08).all()
    far = table[(table.tau == 0.25) & (table.finite_difference > 10)]
    assert (far.groupby("epsilon").predicted.min() < 0).all()
    missed = table.groupby(["epsilon", "tau"]).marginal_error.max() > 1e-4
    assert [*missed[missed].index] == [(0.005, 0.25), (0.005, 0.5)]


def test_proxies_lie_on_the_geodesic():
    table = read("geodesic").set_index(["quantity", "tau"])
    rounds = table.loc["excess"].set_index("round", append=True)["mean"].unstack("round")
    assert (rounds[0] > 0.01).all()
    assert (rounds.drop(columns=0) < 0.01).all(axis=None)
    slopes = table.loc["potential_slope"]
    assert (abs(slopes["mean"] - slopes.index) < 1e-3).all()


def test_ten_rounds_reach_the_barycenter():
    table = read("barycenter_convergence").set_index(["quantity", "epsilon", "step", "round"])["mean"].unstack("round")
    assert (table[0] > 3 * table[10]).all()
    assert (abs(np.log(table[40] / table[20])) < 0.05).all()
    assert (table[40].xs(0.005, level="epsilon") < table[40].xs(0.02, level="epsilon")).all()


def test_words_on_gaussian_silos_hold():
    means = last("proxy_gaussian").set_index(["quantity", "verifier"])["mean"]
    distance = means["bures_w2"]
    assert (distance[["scheme_i", "scheme_ii", "private_tilt", "private_balanced"]] > distance["random"]).all()
    near = ["tilt", "balanced", "kernel_balanced", "landmark_balanced", "federated_sinkhorn", "capped"]
    assert (distance[near] < distance["random"]).all()
    assert distance.idxmin() == "recoloured"
    assert (means["trace_ratio"][["scheme_i", "scheme_ii"]] < 0.2).all()


def test_attacks_recover_what_is_told():
    table = read("disclosure").query("quantity == 'share_recovered'")
    shares = table.set_index(["dim", "attack", "epsilon"])["mean"].unstack("epsilon")
    few = [attack for attack in shares.index.unique("attack") if attack in ("known step", "unknown step, two rounds")]
    assert (shares.loc[16].loc[few] == 0).all(axis=None)
    assert (abs(shares.loc[2].loc[few] - shares.loc[2, "fresh draw"]) < 0.015).all(axis=None)
    sharp = shares.loc[16].drop(index=[*few, "fresh draw"])
    assert (sharp[0.001] > 0.4).all()
    assert (sharp[0.05] < 0.01).all()


def test_families_collapse_as_told():
    table = last("non_gaussian").set_index(["setting", "quantity", "family", "num_kept"]).sort_index()
    means, errors = table["mean"], table["error"]
    selected = means["accumulate+select"]
    assert (selected["dispersion_ratio"] < 0.1).all()
    assert (abs(means["accumulate", "dispersion_ratio"] - 1) < 0.03).all()
    ratio = selected["dispersion_ratio"] / selected["dispersion_theory"]
    assert ratio["laplace"].between(0.5, 0.6).all()
    off = abs(selected["dispersion_ratio"] - selected["dispersion_theory"])
    assert (off < 2 * errors["accumulate+select", "dispersion_ratio"]).drop(index="laplace", level="family").all()
    published = selected["dispersion_published"]["laplace", 500]
    assert published < selected["dispersion_ratio"]["laplace", 500] < selected["dispersion_theory"]["laplace", 500]
    assert errors["replace", "dispersion_ratio", "laplace", 100] > 1


def test_symbols_survive_as_told():
    table = last("discrete_tails").set_index(["quantity", "workflow", "verifier", "source"])
    means, errors = table["mean"].unstack("source"), table.error.unstack("source").simulation
    assert (abs(means.simulation - means.theory) < 3 * errors).all()
    symbols, lost = (means.simulation[quantity].unstack("verifier") for quantity in ("symbols", "lost_mass"))
    assert (symbols.silo > 0.8 * symbols.none).all()
    assert symbols.loc["replace"].max() < 10
    kept = read("discrete_tails").query("source == 'simulation' and workflow == 'accumulate'")
    assert kept.groupby(["quantity", "verifier"])["mean"].nunique().eq(1).all()
    assert (lost.silo > lost.none).all()


def test_modes_survive_as_told():
    by = ["dataset", "generator", "verifier"]
    covered = last("two_dimensional").drop_duplicates([*by, "seed"]).groupby(by).covered.mean().unstack("verifier")
    assert (covered[["random", "logistic_ratio"]] == 8).all(axis=None)
    assert (covered[["single_silo", "federated_sinkhorn"]] <= 6).all(axis=None)
    fewer = covered[["scheme_i", "scheme_ii"]].lt(covered.single_silo, axis=0).stack()
    assert [*fewer[fewer].index] == [("swiss_roll", "gaussian_mixture", "scheme_i")]
    assert (covered.single_silo <= covered.min(axis=1) + 1).all()


def test_costs_grow_as_told():
    for (operation, axis), cell in read("overhead").groupby(["operation", "axis"]):
        for quantity in ("seconds", "bytes"):
            exponent = np.polyfit(np.log(cell["size"]), np.log(cell[quantity]), 1)[0]
            assert exponent <= 1.25
            if (operation, axis) == ("federated_sinkhorn", "silos"):
                assert abs(exponent) < 0.1
    first = read("overhead").query("factor == 1").groupby("operation").seconds.min()
    assert first.idxmax() == "scheme_i"


def test_words_on_other_generators_of_images_hold():
    found = differences("siloed_diffusion").droplevel(["split", "generator"])
    told = np.sign(found.difference_mean) * (abs(found.difference_mean) > found.difference_half)
    for verifier in ("pooled", "federated_sinkhorn"):
        assert told.xs(verifier, level="verifier")[[*documents.SCORES]].tolist() == [0, 1, -1, 1]
    assert told.xs("tilt", level="verifier")[[*documents.SCORES]].tolist() == [-1, -1, 1, 0]
    signs = np.sign(differences("siloed_unet").droplevel(["split", "generator"]).difference_mean)
    assert (signs["frechet", "single_silo"], signs["frechet", "tilt"]) == (1, -1)
    alike = differences("siloed_splits").difference_mean["frechet"].unstack("verifier").droplevel("generator")
    assert alike.single_silo["iid"] < alike.single_silo["Dirichlet(0.1)"]
    assert (alike[["scheme_i", "scheme_ii"]] > 0).all(axis=None)
    recoloured = differences("balanced_selection").xs("recoloured", level="verifier").droplevel("split")
    surely = np.sign(recoloured.difference_mean) * (abs(recoloured.difference_mean) > recoloured.difference_half)
    assert (surely["frechet"] == -1).all()
    assert (surely[["precision", "coverage"]] == -1).all()


def test_published_settings_turn_no_sign_and_cut_pixels_do():
    table = read("departures").set_index(["generator", "setting", "verifier"]).sort_index()
    low, high = table.gain - table.gain_half, table.gain + table.gain_half
    assert (high["gaussian_mixture"] < 0).all()
    usual = table.xs("usual", level="setting").loc["gaussian_mixture"]
    for _, here in table.loc["gaussian_mixture"].groupby("setting"):
        changed = here.droplevel("setting")
        assert (abs(changed.gain - usual.gain) < changed.gain_half).all()
    assert (low["gaussian_mixture_with_junk"] > 0).all()
    kernel = table.loc["kernel_density"]
    assert (kernel.gain > 0).all()
    plain, classified = kernel.loc[["usual", "support", "rounds", "debiased"]], kernel.loc[["classifier", "all"]]
    assert classified.gain.max() < (plain.gain - plain.gain_half).min()
    images = table.gain_images + table.gain_images_half
    assert (images["gaussian_mixture_with_junk"] < 0).all()
    assert (table.gain_images["kernel_density"] < 0).all()
    assert (
        (table.random_frechet_images < 0.15 * table.random_frechet)
        .loc[["gaussian_mixture_with_junk", "kernel_density"]]
        .all()
    )
