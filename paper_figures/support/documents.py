"""Results in documents, from the tables beside the figures: `python -m paper_figures.support.documents`.

A document, README or a page of docs/results, names a block in a comment, `<!-- NAME -->`, and ends it with
`<!-- end -->`.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from jaxcollapse.analysis import seed_interval
from jaxcollapse.paper_figures.departures import SETTINGS
from jaxcollapse.paper_figures.support.style import label

README, PAGES, TABLES = Path("README.md"), Path("docs/results"), Path("paper_figures/figures")
SCORES = {"frechet": "Fréchet distance", "precision": "precision", "recall": "recall", "coverage": "coverage"}
IMAGES = (
    "single_silo", "scheme_i", "scheme_ii", "federated_sinkhorn", "pooled", "logistic_ratio", "recoloured", "tilt",
    "balanced", "capped", "kernel_balanced", "landmark_balanced", "private_tilt", "private_balanced",
)  # fmt: skip
TOLD = (
    "random", "scheme_i", "scheme_ii", "federated_sinkhorn", "capped", "tilt", "balanced", "kernel_balanced",
    "landmark_balanced", "private_balanced",
)  # fmt: skip
WIDTH = 120
PLUS_MINUS = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
DISCLOSED = (0.05, 0.01, 0.002)
SOURCES = ("simulation", "theory")


def number(x: float, decimals: int = 2, sign: str = "") -> str:
    """Write a number without the zero before its point."""
    return re.sub(r"\b0\.", ".", f"{x:{sign}z.{decimals}f}")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def final(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the last generation."""
    return table[table.generation == table.generation.max()]


def beside_theory(cell: pd.Series, decimals: int = 2) -> str:
    """Write what was simulated and, in brackets, theory."""
    return f"{number(cell['simulation'], decimals)} ({number(cell['theory'], decimals)})"


def interval(mean: float, half: float) -> str:
    """Write a difference with its interval, which a single seed does not have."""
    decimals = 2 - (abs(mean) >= 1)
    return number(mean, decimals, "+") + f"{PLUS_MINUS}{number(half, decimals)}" * bool(np.isfinite(half))


def compared(table: pd.DataFrame, verifiers: Iterable[str]) -> str:
    """Write the scores of verifiers in every setting and, in brackets, their differences from random selection."""
    rows, settings = [], ["split", "generator"]
    varied = [name for name in settings if table[name].nunique() > 1]
    for _, found in table.groupby(settings, sort=False):
        prefix = "".join(f"{label(found[name].iloc[0])}, " for name in varied)
        cells = found.set_index(["score", "verifier"]).sort_index()
        random = cells["mean"] - cells.difference_mean  # the same for every verifier
        rows.append([prefix + "random", *(number(random[score].iloc[0]) for score in SCORES)])
        for verifier in (v for v in verifiers if v in found.verifier.array):
            here = [cells.loc[score, verifier] for score in SCORES]
            differences = [interval(cell.difference_mean, cell.difference_half) for cell in here]
            means = [number(cell["mean"]) for cell in here]
            rows.append([prefix + label(verifier), *map("{} ({})".format, means, differences)])
    return markdown(["what selects", *SCORES.values()], rows)


def siloed_images(read: Callable[[str], pd.DataFrame]) -> str:
    """Compare verifiers on images."""
    return compared(read("siloed_images_table"), IMAGES)


def study(name: str) -> Callable[[Callable[[str], pd.DataFrame]], str]:
    """Compare all verifiers of a study, in all its settings."""

    def block(read: Callable[[str], pd.DataFrame]) -> str:
        table = read(f"{name}_table")
        return compared(table, table.verifier.unique())

    return block


def siloed_regimes(read: Callable[[str], pd.DataFrame]) -> str:
    """Compare verifiers under generators that are clean, expand, contract or make junk: distance, and coverage."""
    table = read("siloed_regimes_table").set_index(["score", "verifier", "generator"]).sort_index()
    verifiers, generators = (read("siloed_regimes_table")[name].unique() for name in ("verifier", "generator"))
    blocks = []
    for score in ("frechet", "coverage"):
        found = table.loc[score]
        random = [found.loc[verifiers[0], g] for g in generators]
        rows = [["random", *(number(cell["mean"] - cell.difference_mean) for cell in random)]]
        for verifier in verifiers:
            cells = (found.loc[verifier, g] for g in generators)
            shown = (f"{number(c['mean'])} ({interval(c.difference_mean, c.difference_half)})" for c in cells)
            rows.append([label(verifier), *shown])
        blocks.append(markdown([SCORES[score], *map(label, generators)], rows))
    return "\n\n".join(blocks)


def go_no_go(read: Callable[[str], pd.DataFrame]) -> str:
    """Count the signs that were predicted, and tell how near the sizes are."""
    table = read("go_no_go")
    right = np.sign(table.predicted) == np.sign(table.happened)
    told = (table.predicted.abs() > table.predicted_half) & (table.happened.abs() > table.happened_half)
    off = (table.predicted - table.happened).abs().median()
    rank = table.predicted.corr(table.happened, method="spearman")
    least, most = number(table.happened.min()), number(table.happened.max())
    text = (
        f"The sign is right in {right.sum()} of {len(table)} cases, and in {right[told].sum()} of the {told.sum()} in "
        f"which both intervals leave out zero. Logarithms of distances over those of random selection are off by "
        f"{number(off)} in the median, run from {least} to {most}, and have the rank correlation {number(rank)}."
    )
    return textwrap.fill(text, WIDTH)


def departures(read: Callable[[str], pd.DataFrame]) -> str:
    """Write gains over random selection, log2, of both schemes at each published setting."""
    table = read("departures")
    verifiers, rows = table.verifier.unique(), []
    for (generator, setting), here in table.groupby(["generator", "setting"], sort=False):
        cells = here.set_index("verifier").loc[verifiers]
        gains = (interval(cell.gain, cell.gain_half) for cell in cells.itertuples())
        rows.append([f"{label(generator)}, {SETTINGS[setting]}", *gains])
    return markdown(["generator, what is as published", *map(label, verifiers)], rows)


def silo_geometry(read: Callable[[str], pd.DataFrame]) -> str:
    """Write factors on the distance of random selection: by budget over classes of silos, and along other dials.

    Rows of defects have no budget, and are left out.
    """
    table = read("silo_geometry").dropna(subset="budget").assign(factor=lambda t: 2 ** -t["mean"])
    dials = table[["num_silos", "num_train", "num_iterations"]]
    on_map = (dials == dials.iloc[0]).all(axis=1)
    columns = {f"budget {number(b)}": on_map & (table.budget == b) for b in table.budget.unique()}
    columns["other dials"] = ~on_map
    rows = []
    for verifier in table.verifier.unique():
        cells = (table.factor[where & (table.verifier == verifier)] for where in columns.values())
        rows.append(
            [label(verifier), *(" to ".join(dict.fromkeys(map(number, (cell.min(), cell.max())))) for cell in cells)]
        )
    return markdown(["what selects", *columns], rows)


def generalization_cost(read: Callable[[str], pd.DataFrame]) -> str:
    """Write accuracies, excess risks and distances, and how risks go with distances."""
    table = read("generalization_cost")
    real, table = table[table.verifier == "real images"], table[table.verifier != "real images"]
    last = final(table).groupby("verifier", sort=False).accuracy.mean()
    means = table.groupby("verifier", sort=False)[["excess", "entropic_w"]].mean()
    rows = [
        [label(verifier), number(last[verifier], 3), number(excess, 2, "+"), number(distance)]
        for verifier, excess, distance in means.itertuples()
    ]
    rows.append(["real images", number(real.accuracy.item(), 3), "", ""])
    slopes = [np.polyfit(seed.entropic_w, seed.excess, 1)[0] for _, seed in table.groupby("seed")]
    slope, low, _ = seed_interval(np.asarray(slopes))
    rank = table.entropic_w.corr(table.excess, method="spearman")
    steepest, used = (table.allowed / table.entropic_w).mean(), (table.excess / table.allowed).max()
    text = (
        f"Seed by seed, excess risk rises at {number(slope)} ± {number(slope - low)} nats for a unit of W2, where the "
        f"bound, with the steepest loss seen, allows {steepest:.0f}: at most {used:.1%} of it is used. "
        f"Over all methods, generations and seeds the rank correlation of the two is {number(rank)}."
    )
    head = ["what selects", "accuracy, last generation", "excess risk in nats, all", "entropic W2, all"]
    return f"{markdown(head, rows)}\n\n{textwrap.fill(text, WIDTH)}"


def disclosure(read: Callable[[str], pd.DataFrame]) -> str:
    """Write the share of points that attacks recover, in the largest dimension."""
    table = read("disclosure")
    table = table[(table.quantity == "share_recovered") & (table.dim == table.dim.max())]
    shares = table.set_index(["attack", "epsilon"])["mean"]
    head = ["share of recovered points within a tenth of the spacing of a sample"]
    rows = [[attack, *(number(shares[attack, e], 3) for e in DISCLOSED)] for attack in table.attack.unique()]
    return markdown([*head, *(f"epsilon {number(e, 3).rstrip('0')}" for e in DISCLOSED)], rows)


def poisoned_silos(read: Callable[[str], pd.DataFrame]) -> str:
    """Write factors on the distance under honest silos and no screen, of `landmark_balanced` and three liars."""
    table = read("poisoned_silos")
    table = table[(table.verifier == "landmark_balanced") & table.num_liars.isin((0, 3))]
    by = [table[name].unique() for name in ("split", "screen", "lie")]
    factors = (2 ** table.set_index(["split", "screen", "lie"])["mean"]).unstack("lie")
    rows = []
    for split, screen in product(*by[:2]):
        cells = factors.loc[split, screen][by[2]]
        rows.append([f"{split}, {screen}", *("" if np.isnan(cell) else number(cell) for cell in cells)])
    return markdown(["silos, screen", *("honest" if lie == "none" else lie for lie in by[2])], rows)


def messages(read: Callable[[str], pd.DataFrame]) -> str:
    """Write what verifiers exchange with all silos, and how far from the truth their models end."""
    table, rows = read("proxy_gaussian"), []
    means = table.set_index(["quantity", "verifier", "generation"])["mean"].sort_index()
    last = table.generation.max()
    for verifier in TOLD:
        sent, rounds = means["bytes", verifier], means.get("exchange_rounds", pd.Series(dtype=float)).get(verifier)
        adaptive = "" if rounds is None else f"{rounds[1:].mean():.0f}"
        before, each = sent[0], (sent[last] - sent[0]) / last
        distance = means["bures_w2", verifier, last]
        rows.append([label(verifier), f"{before:,.0f}", f"{each:,.0f}", adaptive, number(distance)])
    head = ["what selects", "bytes before", "bytes a generation", "rounds it needs", "Bures W2 to the truth"]
    return markdown(head, rows)


def phase_diagram(read: Callable[[str], pd.DataFrame]) -> str:
    """Write how many cells each theory predicts to two and to four standard errors, and by how much it is off, by n."""
    rows, columns = [], []
    for name, words in (("phase_diagram", "half-life"), ("phase_diagram_exponents", "exponent")):
        table = read(name)
        cells = table[table.within_2.notna()].set_index(["workflow", "theory", "num_kept"]).sort_index()
        columns = [f"n = {n:.0f}" for n in cells.index.unique("num_kept")]
        for workflow, theory in table[["workflow", "theory"]].dropna().drop_duplicates().itertuples(index=False):
            shares = cells.loc[workflow, theory][["within_2", "within_4", "median_difference"]].to_numpy()
            found = ("{}, {} ({})".format(*map(number, each)) for each in shares)
            rows.append([f"{words}, {label(workflow)}", label(theory), *found])
    return markdown(["cells within two, four errors (median difference)", "theory", *columns], rows)


def regimes(read: Callable[[str], pd.DataFrame]) -> str:
    """Write how often simulations lie on the exact mean field's side, and how far they are from laws in closed form."""
    maps, laws = read("regimes"), read("regimes_laws")
    maps["right"] = np.sign(maps.log_ratio) == np.sign(maps.log_ratio_exact)
    maps["clear"] = maps.log_ratio.abs() > 2 * maps.log_ratio_error
    rows = []
    for workflow, here in maps.groupby("workflow", sort=False):
        of_law = laws[laws.workflow == workflow]
        decay = (of_law.exponent - of_law.exponent_theory).abs().median()
        times = (of_law.crossing - of_law.crossing_theory).abs() / of_law.crossing_error
        shares = f"{here.right.mean():.1%} of {len(here)}", f"{here.right[here.clear].mean():.1%} of {here.clear.sum()}"
        crossed = f"{(times <= 2).sum()} of {times.notna().sum()}"
        rows.append([label(workflow), *shares, number(decay, 3), crossed])
    head = [
        "on theory's side",
        "of what is beyond two errors",
        "decay, median difference",
        "crossings within two errors",
    ]
    return markdown(["under", *head], rows)


def gaussian_collapse(read: Callable[[str], pd.DataFrame]) -> str:
    """Write the trace and the mean's error after the last generation, beside theory."""
    table, rows = final(read("gaussian_collapse")), []
    means = table.set_index(["metric", "setting", "source"])["mean"].sort_index()
    for setting in table.setting.unique():
        trace, error = means["trace_ratio", setting], means["mean_error", setting]
        traces = (f"{trace[source]:.2g}" if trace[source] < 0.01 else number(trace[source], 3) for source in SOURCES)
        rows.append([label(setting).replace("+", " and "), *traces, *(number(error[source]) for source in SOURCES)])
    quantities = ("trace ratio", "squared error of the mean")
    return markdown(["setting", *(f"{q}, {source}" for q in quantities for source in SOURCES)], rows)


def power_law(read: Callable[[str], pd.DataFrame]) -> str:
    """Write the last local slopes with their intervals, beside psi."""
    cells = final(read("power_law")).set_index(["target", "dim", "budget"])
    psi = cells.psi.loc["centred"].unstack("budget")
    rows = [[f"{dim}, psi", *map(partial(number, decimals=3), psi.loc[dim])] for dim in psi.index]
    for target, dim in product(("centred", "offset"), psi.index):
        found = cells.loc[target, dim]
        shown = (f"{number(c.slope, 3)} ± {number(c.slope - c.slope_low, 3)}" for c in found.itertuples())
        rows.append([f"{dim}, {target} target", *shown])
    rows.sort(key=lambda row: int(row[0].partition(",")[0]))
    return markdown(["dimension", *(f"budget {number(budget)}" for budget in psi.columns)], rows)


def finite_n(read: Callable[[str], pd.DataFrame]) -> str:
    """Write simulated traces over mean field beside theory, and log determinants likewise."""
    rows = []
    for c in read("finite_n").itertuples():
        name = c.quantity + (", replace" if np.isnan(c.instance) else f", instance {c.instance:.0f}")
        simulated = f"{number(c.simulation, 3)} ± {number(2 * c.standard_error, 3)}"
        rows.append([name, str(c.num_kept), simulated, number(c.theory, 3)])
    return markdown(["quantity", "n", "simulated, two standard errors", "theory"], rows)


def silo_digits(read: Callable[[str], pd.DataFrame]) -> str:
    """Write the trace that is left after the last generation, beside theory."""
    table = final(read("silo_digits"))
    means = table.set_index(["split", "verifier", "workflow", "source"])["mean"].sort_index()
    rows, workflows = [], table.workflow.unique()
    for split, verifier in product(*(table[name].unique() for name in ("split", "verifier"))):
        rows.append([f"{split}, {verifier}", *(beside_theory(means[split, verifier, w]) for w in workflows)])
    return markdown(["split, verifier", *map(label, workflows)], rows)


def calibrated_gradient(read: Callable[[str], pd.DataFrame]) -> str:
    """Write slopes of predicted on measured derivatives, and rank correlations."""
    table, rows = read("calibrated_gradient"), []
    epsilons = sorted(table.epsilon.unique(), reverse=True)
    for tau in sorted(table.tau.unique(), reverse=True):
        cells = [table[(table.tau == tau) & (table.epsilon == epsilon)] for epsilon in epsilons]
        slopes = (np.polyfit(c.finite_difference, c.predicted, 1)[0] for c in cells)
        ranks = (c.finite_difference.corr(c.predicted, method="spearman") for c in cells)
        name = "direct" if tau == 1 else f"proxy, tau {number(tau)}"
        rows.append([name, *(f"{number(s)} ({number(r, 3)})" for s, r in zip(slopes, ranks, strict=True))])
    return markdown(["slope (rank correlation)", *(f"epsilon {number(e, 3).rstrip('0')}" for e in epsilons)], rows)


def geodesic(read: Callable[[str], pd.DataFrame]) -> str:
    """Write by how much the way over the proxy is longer, first and last, and how potentials scale."""
    table, rows = read("geodesic"), []
    slopes = table[table.quantity == "potential_slope"].set_index("tau")
    for tau, found in table[table.quantity == "excess"].groupby("tau"):
        first, last = (f"{found['mean'].iloc[place]:.2%}" for place in (0, -1))
        slope = slopes.loc[tau]
        rows.append([number(tau), first, last, f"{number(slope['mean'], 4)} ± {number(2 * slope.error, 4)}"])
    return markdown(["tau", "longer before the first round", "after the last", "slope of potentials"], rows)


def barycenter_convergence(read: Callable[[str], pd.DataFrame]) -> str:
    """Write distances to both oracles after the last round."""
    table = read("barycenter_convergence")
    last = table[table["round"] == table["round"].max()].set_index(["epsilon", "step", "quantity"])
    rows = []
    for epsilon, step in last.index.droplevel("quantity").unique():
        cells = (last.loc[epsilon, step, quantity] for quantity in ("to_central", "to_gaussian"))
        shown = (f"{number(c['mean'], 3)} ± {number(2 * c['error'], 3)}" for c in cells)
        rows.append([number(epsilon, 3), f"{step:g}".lstrip("0"), *shown])
    return markdown(["epsilon", "step", "to the central barycenter", "moments to the Gaussian barycenter"], rows)


def non_gaussian(read: Callable[[str], pd.DataFrame]) -> str:
    """Write what is left of the dispersion at the last generation under accumulate and selection, by n."""
    table = final(read("non_gaussian")).query("setting == 'accumulate+select'")
    means = table.set_index(["family", "quantity", "num_kept"])["mean"].sort_index()
    sizes, rows = table.num_kept.unique(), []
    for family in table.family.unique():
        for quantity, name in (("ratio", "simulated"), ("theory", "Gaussian theory"), ("published", "published")):
            cells = (means.get((family, f"dispersion_{quantity}", n)) for n in sizes)
            rows.append([f"{label(family)}, {name}", *("" if c is None else number(c, 3) for c in cells)])
    return markdown(["dispersion ratio", *(f"n = {n}" for n in sizes)], rows)


def discrete_tails(read: Callable[[str], pd.DataFrame]) -> str:
    """Write symbols that survive and the mass of those that do not, beside theory."""
    table = final(read("discrete_tails"))
    means = table.set_index(["quantity", "verifier", "workflow", "source"])["mean"].sort_index()
    rows, workflows = [], table.workflow.unique()
    for (quantity, decimals), verifier in product((("symbols", 1), ("lost_mass", 2)), table.verifier.unique()):
        shown = (beside_theory(means[quantity, verifier, w], decimals) for w in workflows)
        rows.append([f"{label(quantity)}, verifier: {verifier}", *shown])
    return markdown(["after the last generation", *map(label, workflows)], rows)


def two_dimensional(read: Callable[[str], pd.DataFrame]) -> str:
    """Write the segments that are covered after the last generation, mean over seeds."""
    table, by = final(read("two_dimensional")), ["dataset", "generator", "verifier"]
    means = table.drop_duplicates([*by, "seed"]).groupby(by).covered.mean().unstack("verifier")[table.verifier.unique()]
    rows = [[f"{label(d)}, {label(g)}", *map(partial(number, decimals=1), row)] for (d, g), row in means.T.items()]
    return markdown(["segments covered, of 8", *map(label, means.columns)], rows)


def overhead(read: Callable[[str], pd.DataFrame]) -> str:
    """Write the exponents of growth of time and of memory."""
    table = read("overhead")
    operations, axes, rows = table.operation.unique(), table.axis.unique(), []
    cells = dict([*table.groupby(["operation", "axis"])])
    for operation in operations:
        found = (cells.get((operation, axis)) for axis in axes)
        logs = (None if c is None else np.log(c[["size", "seconds", "bytes"]].to_numpy()).T for c in found)
        pairs = ("" if c is None else ", ".join(number(np.polyfit(c[0], y, 1)[0]) for y in c[1:]) for c in logs)
        rows.append([label(operation), *pairs])
    return markdown(["exponents of time, memory", *axes], rows)


OF_STUDIES = ("balanced_selection", "siloed_diffusion", "siloed_splits", "siloed_unet")
BLOCKS = {
    f.__name__: f
    for f in (
        gaussian_collapse, power_law, finite_n, silo_digits, calibrated_gradient, geodesic, barycenter_convergence,
        non_gaussian, discrete_tails, two_dimensional, overhead, phase_diagram, regimes, siloed_images, siloed_regimes,
        go_no_go, departures, silo_geometry, generalization_cost, messages, disclosure, poisoned_silos,
    )
} | {name: study(name) for name in OF_STUDIES}  # fmt: skip


def fill(text: str, tables: Path) -> str:
    """Write every block of a text anew.

    Args:
        text: with blocks of `BLOCKS`.
        tables: directory of the tables, NAME.csv.
    """

    def read(name: str) -> pd.DataFrame:
        return pd.read_csv(tables / f"{name}.csv")

    def block(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{BLOCKS[match[1]](read)}\n<!-- end -->"

    return re.sub(r"(?s)<!-- (\w+) -->\n.*?<!-- end -->", block, text)


if __name__ == "__main__":
    for document in (README, *PAGES.glob("*.md")):
        document.write_text(fill(document.read_text(), TABLES))
