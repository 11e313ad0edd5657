"""Select candidates by what silos tell."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import jax
import numpy as np
import pandas as pd
import tyro

from jaxcollapse.base import Measure
from jaxcollapse.exchanges import SCREENS
from jaxcollapse.pipeline import before_after
from jaxcollapse.pipeline.report import Listing, Quantity, Report
from jaxcollapse.pipeline.select import DEFAULT, KEEPERS, TILE, Selection, Tell, keep, made
from jaxcollapse.pipeline.tables import (
    BLOCK,
    Files,
    Reading,
    Table,
    dominant,
    read,
    require_alike,
    require_unchanged,
    units_of,
)  # fmt: skip
from jaxcollapse.verifiers import VERIFIERS, verifier_bytes

MOST_OF_SILO = 20_000


@dataclasses.dataclass(frozen=True)
class Request:
    """Keep the candidates that a verifier likes, by what silos of real data tell; files hold features in rows."""

    candidates: tyro.conf.Positional[Path]
    """File of synthetic samples to choose from."""
    keep: Annotated[int, tyro.conf.arg(metavar="N")]
    """Candidates to keep."""
    silo: Files = ()
    """Files of real data, one for each silo: --silo A B, or --silo A --silo B."""
    listen: str = ""
    """HOST:PORT at which silos on other hosts call, in place of files: `jaxcollapse serve` runs beside their data."""
    silos: str = ""
    """Names of silos that may call, with commas between them."""
    certificates: Path = Path("certificates")
    """Directory with ca.pem, server.pem, server.key, and NAME.pem of every silo that may call."""
    quorum: int | None = None
    """Silos that have to answer; by default all."""
    screen: Literal["", *SCREENS] = ""  # pyright: ignore[reportInvalidTypeForm]
    """How replies that differ from the others' are weighed down or left out; by default all silos are believed."""
    wait: float = 60.0
    """Seconds that silos have to call."""
    round_seconds: float = 30.0
    """Seconds that they have to answer a message; who takes longer is left out of the selection."""
    verifier: Literal[KEEPERS] = DEFAULT  # pyright: ignore[reportInvalidTypeForm]
    """How to select; single_silo is that of the first."""
    seed: int = 0
    """Seed of everything random."""
    scores: Path | None = None
    """File, csv or parquet, for a row of each candidate: its row, id, whether it is kept, probability and score."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = dataclasses.field(default_factory=Reading)

    @property
    def outputs(self) -> tuple[Path | None]:
        """Files that are written besides the report."""
        return (self.scores,)


def answer(request: Request, tell: Tell) -> tuple[Report, int]:
    """Select; the status is zero.

    Raises:
        ValueError: if files or numbers are not allowed.
    """
    if request.scores and request.scores.suffix not in (".csv", ".parquet"):
        raise ValueError(f"scores = {request.scores}: must be a csv or a parquet file")
    if any(request.silo) == bool(request.listen):
        raise ValueError("silo: name files of real data, or with --listen the --silos that call")
    tell("reading")
    paths = (*itertools.chain.from_iterable(request.silo), request.candidates)
    *silos, candidates = (read(path, request.reading) for path in paths)
    require_alike(request.reading, *silos, candidates)
    if not 0 < request.keep < len(candidates.rows):
        raise ValueError(
            f"keep = {request.keep}: must be at least 1 and less than the {len(candidates.rows)} candidates"
        )
    rng, num_candidates = np.random.default_rng(request.seed), len(candidates.rows)

    def take(rows: np.ndarray) -> np.ndarray:
        return units(candidates.points[rows])

    def compare(rows: np.ndarray) -> tuple[before_after.Side, dict[str, float]]:
        side = before_after.side(take, rows, np.random.default_rng(request.seed), BLOCK)
        return side, before_after.numbers(side, real)

    asked: Any  # points of silos, or silos that answer elsewhere
    with contextlib.ExitStack() as connection:
        if request.listen:
            asked, units = connection.enter_context(_connected(request, candidates, tell)), np.asarray
            real = before_after.told_side(asked)
        else:
            units = units_of(silos, request.reading)
            asked = [units(_some(silo.points, MOST_OF_SILO, rng)) for silo in silos]
            real = before_after.side_of(asked, rng, BLOCK)
        with ThreadPoolExecutor(1) as beside:  # programs compile beside the selection, not after it
            compared = beside.submit(compare, np.arange(num_candidates))
            chosen = made(request.verifier, asked, request.seed)
            selection = keep(chosen, take, num_candidates, request.keep, request.seed, TILE, tell)
            tell("comparing")
            (before, first), (after, last) = compared.result(), compare(selection.kept)
    numbers = [first, last]
    labelled = [silo.labels for silo in silos if silo.labels is not None]
    of_silos = np.concatenate(labelled) if labelled and len(labelled) == len(silos) else None
    shares = None if candidates.labels is None else before_after.classes(candidates.labels, selection.kept, of_silos)
    if request.listen:
        told, accounts = [], [before_after.exchanged(asked.accounts)]
        doubts = [f"silo {name}: {a.missing}" for name, a in asked.accounts.items() if a.missing]
        doubts += [
            f"silo {name}: {a.screened} replies screened out" for name, a in asked.accounts.items() if a.screened
        ]
        doubts += [f"{line}, {count} times" if count > 1 else line for line, count in asked.said.items()]
    else:
        told, accounts, doubts = _told(request.verifier, silos, num_candidates), [], []
    num_silos = len(asked.sessions) if request.listen else len(asked)
    warnings = [
        *doubts,
        *_warn_of_data(silos, candidates, selection, real, numbers),
        *dominant(candidates.columns, np.diagonal(real.moments.covariance)),
        *_warn_of_classes(shares),
    ]
    require_unchanged(candidates, *silos)
    report = Report(
        verb="select",
        verdict=_verdict(request, candidates, num_silos, *numbers),
        quantities=[
            Quantity("num_candidates", len(candidates.rows), "rows of the candidates that were valid", "rows"),
            Quantity("num_kept", len(selection.kept), "rows that are kept", "rows"),
            *before_after.quantities(real, before, after, numbers),
            *told,
        ],
        listings=[
            *accounts,
            *([shares] if shares else []),
            before_after.columns(candidates.columns, real, before, after),
        ],
        charts=[before_after.panel(real, before, after, selection.probability, shares)],
        warnings=warnings,
        settings={
            "candidates": candidates.source,
            **{f"silo_{i}": silo.source for i, silo in enumerate(silos)},
            **(
                {"silos": request.silos, "quorum": asked.quorum, "screen": request.screen or "none"}
                if request.listen
                else {}
            ),
            "verifier": request.verifier,
            "seed": request.seed,
            **request.reading.settings,
            "columns": ", ".join(candidates.columns),
            "tiles": selection.num_tiles,
        },
        extra={"kept": candidates.rows[selection.kept].tolist()},
        files={request.scores: _scores(request.scores, candidates, selection)} if request.scores else {},
    )
    return report, 0


def _some(points: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows at random, where there are more than so many."""
    if len(points) <= most:
        return np.asarray(points)
    return np.asarray(points[np.sort(rng.choice(len(points), most, replace=False))])


def _verdict(
    request: Request,
    candidates: Table,
    num_silos: int,
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> str:
    nearer = "nearer to" if after["frechet"] < before["frechet"] else "farther from"
    wider = "as wide as" if abs(after["trace_ratio"] - 1) < 0.05 else (
        "narrower than" if after["trace_ratio"] < 1 else "wider than"
    )  # fmt: skip
    text = (
        f"{request.keep} of {len(candidates.rows)} candidates are kept by {request.verifier}, with "
        f"{num_silos} silos. The kept are {nearer} the silos' union than all candidates (Fréchet distance "
        f"{after['frechet']:.3g}, before {before['frechet']:.3g}), and {wider} the union (total variance times "
        f"{after['trace_ratio']:.2f})."
    )
    if "precision" not in after:
        return f"{text} Silos told moments of their rows, and no row: whether the kept lie among them is not known."
    return (
        f"{text} Of the kept {after['precision']:.0%} lie inside the silos' support, of all "
        f"candidates {before['precision']:.0%}; {after['coverage']:.0%} of the silos' rows have one of the kept among "
        f"their neighbours, and {before['coverage']:.0%} one of all, samples of {before_after.COMPARED} rows at most."
    )


def _connected(request: Request, candidates: Table, tell: Tell) -> contextlib.AbstractContextManager[Any]:
    """Take the calls of silos on other hosts.

    Raises:
        ValueError: if units would need their rows.
    """
    from jaxcollapse.pipeline import across  # whose libraries are an extra

    if request.reading.standardise:
        raise ValueError("standardise: silos on other hosts tell no units; agree on them before, and prepare files")
    names = [name.strip() for name in request.silos.split(",") if name.strip()]
    if not names:
        raise ValueError("silos: name those that may call, with commas between them")
    return across.connected(
        request.listen, request.certificates, names, request.verifier, len(candidates.columns), request.quorum,
        request.wait, request.round_seconds, request.screen, tell,
    )  # fmt: skip


def _told(name: str, silos: Sequence[Table], num_candidates: int) -> list[Quantity]:
    """Count the bytes that each silo sends and receives, in single precision."""
    dim, most = silos[0].points.shape[1], max(len(silo.rows) for silo in silos)
    counts = []

    def count(points: Any, weights: Any) -> Any:
        counts.extend(verifier_bytes(name, Measure(points, weights), num_candidates))
        return weights

    shapes = ((len(silos), most, dim), (len(silos), most))
    jax.eval_shape(count, *(jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes))
    taking_part = len(silos) if VERIFIERS[name].everyone else 1
    total = sum(counts) // taking_part
    return [
        Quantity(
            "bytes_per_silo", total,
            "what a silo that takes part exchanges with the server, at most, were they apart: messages both ways",
            "bytes",
        )
    ]  # fmt: skip


def _warn_of_data(
    silos: Sequence[Table],
    candidates: Table,
    selection: Selection,
    real: before_after.Side,
    numbers: Sequence[Mapping[str, float]],
) -> list[str]:
    """Say what makes the result doubtful."""
    found = [
        f"{name}: {value:.3g}; the kept may miss the silos' distribution, compare before and after"
        for name, value in selection.trouble.items()
        if value and name not in ("exchange_rounds", "marginal_error")
    ]
    found += [f"{t.path}: {t.dropped} invalid rows are dropped" for t in (candidates, *silos) if t.dropped]
    rows, dim = int(real.moments.mass), candidates.points.shape[1]
    if rows < (asked := dim * (dim + 3) // 2):
        found.append(f"silos have {rows} rows together, fewer than the {asked} moments of {dim} columns")
    for silo in silos:
        if len(silo.rows) > MOST_OF_SILO:
            found.append(f"{silo.path}: {MOST_OF_SILO} of {len(silo.rows)} rows, drawn at random, stand for all")
    before, after = numbers
    if after.get("precision", 1) < 0.5:
        found.append(
            f"{1 - after['precision']:.0%} of the kept lie outside the support of every silo "
            f"({1 - before['precision']:.0%} of all candidates)"
        )
    if after["trace_ratio"] < 0.8:
        found.append(f"the kept have {after['trace_ratio']:.2f} of the total variance of the silos' union")
    return found


def _warn_of_classes(shares: Listing | None) -> list[str]:
    if shares is None:
        return []
    found = [
        f"class {row['class']} falls to {row['kept']:.1%} of the kept, from {row['candidates']:.1%} of the candidates"
        for _, row in shares.frame[shares.frame.falls].iterrows()
    ]
    if "silos" in shares.frame and (missing := shares.frame[shares.frame.candidates == 0]["class"].tolist()):
        found.append(f"no candidate is of class {', '.join(missing)}, of which silos have rows")
    return found


def _scores(path: Path, candidates: Table, selection: Selection) -> Callable[[BinaryIO], Any]:
    """Lay out a row of each candidate."""
    frame = pd.DataFrame({"row": candidates.rows})
    if candidates.ids is not None:
        frame["id"] = candidates.ids
    frame["kept"] = np.isin(np.arange(len(frame)), selection.kept)
    frame["probability"], frame["score"] = selection.probability, selection.score

    def write(file: BinaryIO) -> None:
        if path.suffix == ".csv":
            frame.to_csv(file, mode="wb", index=False)
        else:
            frame.to_parquet(file, index=False)

    return write
