"""Rehearse a selection at a silo: what would be sent, and what attacks make of it."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from jaxcollapse.pipeline import before_after
from jaxcollapse.pipeline.report import Listing, Quantity, Report
from jaxcollapse.pipeline.select import DEFAULT, TILE, keep, made
from jaxcollapse.pipeline.tables import BLOCK, Reading, read, require_alike
from jaxcollapse.pipeline.tiles import Tell
from jaxcollapse.verifiers import APART


@dataclasses.dataclass(frozen=True)
class Request:
    """Tell a silo's officer what a selection would send, and attack that; nothing leaves this process."""

    data: tyro.conf.Positional[Path]
    """File of the silo's rows."""
    candidates: Path
    """File of candidates, or of rows like them."""
    verifier: Literal[APART] = DEFAULT  # pyright: ignore[reportInvalidTypeForm]
    """How the server would select."""
    policy: Path | None = None
    """TOML file of limits, as for `jaxcollapse serve`."""
    seed: int = 0
    """Seed of everything random."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = dataclasses.field(default_factory=Reading)


def answer(request: Request, tell: Tell) -> tuple[Report, int]:
    """Rehearse; the status is zero, or 3 where the policy refuses.

    Raises:
        ValueError: if files or numbers are not allowed.
    """
    from jaxcollapse.network.policy import Ledger, Policy, read_policy  # whose libraries are an extra
    from jaxcollapse.network.server import QuorumLost
    from jaxcollapse.network.silo import Silo
    from jaxcollapse.pipeline.rehearsal import NUM_ATTACKED, attacks, network_of

    if request.reading.standardise:
        raise ValueError("standardise: parties have to agree on units before; prepare the files")
    tell("reading")
    table, pool = (read(path, request.reading) for path in (request.data, request.candidates))
    require_alike(request.reading, table, pool)
    if len(pool.rows) < 8:
        raise ValueError(f"candidates: {len(pool.rows)} rows must be at least 8")
    rng = np.random.default_rng(request.seed)
    rows, candidates = (
        np.asarray(t.points[np.sort(rng.permutation(len(t.rows))[:TILE])], np.float32) for t in (table, pool)
    )
    warnings = [
        f"{t.path}: {TILE} of {len(t.rows)} rows, drawn at random, stand for all"
        for t in (table, pool) if len(t.rows) > TILE
    ]  # fmt: skip
    policy = read_policy(request.policy) if request.policy else Policy()
    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger(Path(directory) / "ledger")
        silo = Silo(rows, policy, ledger)
        network, session = network_of(silo, rows.shape[1])
        num_kept, refusal, quantities = len(candidates) // 4, "", []
        try:
            tell("selecting")
            before_after.told_side(network)  # as `select` asks, for its report
            chosen = made(request.verifier, network, request.seed)
            kept = keep(chosen, lambda i: candidates[i], len(candidates), num_kept, request.seed, TILE, tell).kept
            quantities = _utility(rows, candidates, kept)
        except QuorumLost:
            refusal = network.accounts["silo"].missing
        tell("attacking")
        table_of_attacks = attacks(silo, session, candidates, request.seed)
        spent = Quantity(
            "epsilon", ledger.loss(policy.delta), f"loss of privacy of noisy messages, delta {policy.delta:g}"
        )
    sent = int(table_of_attacks.bytes.sum())
    verdict = (
        f"With {request.verifier} this silo would send {sent} bytes in {int(table_of_attacks.messages.sum())} messages."
        if not refusal else f"The policy ends {request.verifier}: {refusal}."
    )  # fmt: skip
    worst = table_of_attacks.share_recovered[1:].max()
    if np.isfinite(worst):
        verdict += f" The best attack tried finds a row in {worst:.0%} of the places that it asks at."
    meanings = {
        "bytes": "of the silo's frames",
        "error": "median distance of recovered points to the nearest row, over the median distance of rows to another",
        "share_recovered": f"share of {NUM_ATTACKED} recovered points within a tenth of that distance of a row",
    }
    return Report(
        "rehearse",
        verdict,
        [*quantities, spent],
        [Listing("attacks", "Exchanges that were answered, and attacks on them", table_of_attacks, meanings)],
        warnings=warnings,
        settings={
            "data": table.source, "candidates": pool.source, "verifier": request.verifier, "seed": request.seed,
            **dataclasses.asdict(policy),
        },
    ), 3 if refusal else 0  # fmt: skip


def _utility(rows: np.ndarray, candidates: np.ndarray, kept: np.ndarray) -> list[Quantity]:
    """Compare a quarter of the candidates, as kept with this silo alone, with its rows."""
    rng = np.random.default_rng(0)
    real = before_after.side_of([rows], rng, BLOCK)
    before, after = (
        before_after.side(lambda i: candidates[i], index, np.random.default_rng(0), BLOCK)
        for index in (np.arange(len(candidates)), kept)
    )
    found = [before_after.numbers(side, real) for side in (before, after)]
    return before_after.quantities(real, before, after, found)
