"""What follows from an assessment, in a paragraph."""

import numpy as np

from jaxcollapse.paper_figures.support.style import label
from jaxcollapse.pipeline.assess.findings import Findings
from jaxcollapse.pipeline.report import number

COLLABORATIVE = ("kernel_balanced", "landmark_balanced", "balanced", "capped", "tilt")
CLEAR = 0.05  # of coverage or recall: less than this is not worth a sentence


def verdict(found: Findings) -> str:
    """Say what the reference is like, what a verifier that knows it does, and what to do."""
    sentences = [*_reference(found), *_forecast(found), *_selection(found), *_others(found)]
    return " ".join(sentences)


def _reference(found: Findings) -> list[str]:
    said = []
    kind = "classes" if found.evidence.parties[0].labels is not None else "cells of the population"
    of_status = {status: list(found.modes["mode"][found.modes.status == status]) for status in ("missing", "scarce")}
    if found.bias is None:
        return [f"The reference has {number(found.evidence.parties[0].effective_size)} different rows' worth of data."]
    if of_status["missing"] or of_status["scarce"]:
        words = [f"{status}: {_listed(names)}" for status, names in of_status.items() if names]
        said.append(f"Of {len(found.modes)} {kind} the reference lacks {len(found.lacking)} ({'; '.join(words)}).")
    else:
        said.append(f"The reference has all {len(found.modes)} {kind} in due share.")
    mean = found.bias.mean
    if mean.is_beyond_chance:
        said.append(
            f"Its mean is {number(mean.value)} standard deviations from the population's ({number(mean.low)} to "
            f"{number(mean.high)})."
        )
    else:
        said.append(
            f"No bias of its mean can be told: it is {number(mean.seen)} standard deviations off, and samples of its "
            f"size by chance up to {number(mean.noise)}."
        )
    spread = found.bias.trace_ratio
    if spread.is_beyond_chance:
        said.append(f"It has {number(spread.value)} times the population's variance.")
    return said


def _forecast(found: Findings) -> list[str]:
    setting, future = found.setting, found.future
    life, left = future.half_life, np.exp([curve[-1] for curve in future.log_trace])
    who = f"A verifier that keeps the {number(100 * setting.budget)}% nearest to it, under {setting.workflow},"
    if future.multiplier.mean > 1:
        return [
            f"{who} leaves the generator expanding: variance grows by {number(future.multiplier.mean)} a generation."
        ]
    shown = f"{number(left[0])} of the variance after {setting.num_generations} generations"
    if life.mean > 1000 * setting.num_generations:
        return [f"{who} leaves {shown}, and hardly takes more."]
    between = "" if life.high > 1e6 else f" ({number(life.low)} to {number(life.high)})"
    return [f"{who} leaves {shown}; half of it is lost by generation {number(life.mean)}{between}."]


def _selection(found: Findings) -> list[str]:
    said, setting = [], found.setting
    if found.junk:
        best = 1 - found.junk
        said.append(
            f"{number(100 * found.junk)}% of candidates lie farther out than any real row: keep about {number(best)} "
            f"of them, not {number(setting.budget)}."
        )
    if found.gains is None:
        return [*said, "Whether selection pays is not predicted."]
    by = found.gains.set_index("verifier")
    alone = [name for name in by.index if name not in COLLABORATIVE]
    paying = by.loc[by.prediction == "pays"].sort_values("log_ratio")
    losing = [name for name in alone if by.prediction[name] == "loses"]
    if not len(paying):
        chosen = "no verifier tried is predicted to beat random selection: do not select"
        return [*said, f"Today {chosen}, or select only what is certainly wrong."]
    best = paying.index[0]
    with_whom = (
        ""
        if best in alone
        else ", told by all parties"
        if len(found.evidence.parties) > 1
        else ", told by the reference"
    )
    said.append(
        f"Select with {label(best)}{with_whom}: the Fréchet distance is predicted to be "
        f"{number(float(np.exp(paying.log_ratio.iloc[0])))} times that of random selection."
    )
    if losing:
        said.append(f"Do not select by the reference alone (worse than random: {', '.join(map(label, losing))}).")
    return said


def _others(found: Findings) -> list[str]:
    without = found.coverage.without
    if without is None:
        return ["Collect what is missing before selecting."] if found.is_incomplete else []
    everyone = float(without.coverage_without.iloc[0] + without.coverage_lost.iloc[0])
    silos = without.iloc[1:].set_index("silo")
    worth = (silos.coverage_lost - silos.coverage_lost_by_chance).sort_values(ascending=False)
    if not found.is_incomplete:
        said = "Other parties add little that the reference lacks."
    elif found.evidence.population is None:
        said = "Collaborate."
    else:
        alone = number(found.coverage.reference.coverage["reference"])
        said = f"Collaborate: all parties cover {number(everyone)} of the population, the reference alone {alone}."
    if worth.iloc[0] > CLEAR:
        lost = number(silos.coverage_lost[worth.index[0]])
        said += f" Without {worth.index[0]} the coverage falls by {lost}, beyond what as many rows of all would cost."
    else:
        said += " No silo is worth more than as many rows of all."
    return [said]


def _listed(names: list[str]) -> str:
    return ", ".join(map(str, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
