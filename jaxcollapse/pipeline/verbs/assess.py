"""Tell how complete reference data are, and what a verifier that knows them would do."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import tyro

from jaxcollapse.generators import gaussian, gaussian_mixture, kernel_density
from jaxcollapse.pipeline.assess import assess
from jaxcollapse.pipeline.report import Report
from jaxcollapse.pipeline.tables import Files, Reading, read, require_alike, require_unchanged, units_of

INCOMPLETE = 3
GENERATORS = {
    "gaussian": gaussian,
    "gaussian_mixture": lambda: gaussian_mixture(10),
    "kernel_density": lambda: kernel_density(2000),
}


@dataclasses.dataclass(frozen=True)
class Request:
    """Tell how complete reference data are, and what a verifier that knows them would do to a generator.

    The exit status is 3 where the reference lacks a class or mode, or where its mean is off by more than MAX_BIAS
    standard deviations and more than chance; otherwise 0.
    """

    reference: tyro.conf.Positional[Path]
    """File of the rows that the verifier knows."""
    silo: Files = ()
    """Files of the other parties; with the reference they are the union."""
    population: Path | None = None
    """File with a sample of what should be covered; the union stands for it where there is none."""
    candidates: Path | None = None
    """File with today's pool of synthetic samples, which shows what the generator does to data."""
    generator: Literal[tuple(GENERATORS)] = "gaussian_mixture"  # pyright: ignore[reportInvalidTypeForm]
    """What is measured in the place of the generator, where there are no candidates."""
    num_kept: int = 1000
    """Candidates kept in each generation."""
    budget: float = 0.25
    """Share of candidates that is kept."""
    num_generations: int = 10
    """Generations that the forecast is for."""
    workflow: Literal["replace", "accumulate", "accumulate_subsample"] = "accumulate"
    """What the next model is trained on: what is kept now, all that was, or a subsample of all that was."""
    num_modes: int = 10
    """Cells of the population that stand for classes where there are no labels."""
    max_bias: float = 0.25
    """Distance of means that is accepted, in standard deviations of the population."""
    seed: int = 0
    """Of everything random."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = dataclasses.field(default_factory=Reading)
    """How files are read."""


def answer(request: Request, tell: Callable[[str], None]) -> tuple[Report, int]:
    """Read the files and assess them.

    Args:
        request: what was asked.
        tell: progress, a line a stage.

    Returns:
        The report, and the exit status.

    Raises:
        ValueError: as `read` and `assess`.
    """
    silos = tuple(itertools.chain.from_iterable(request.silo))
    paths = (request.reference, *silos, *filter(None, (request.population, request.candidates)))
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(f"{twice}: is named twice; each file has one part")
    tables = {path: read(path, request.reading) for path in paths}
    require_alike(request.reading, *tables.values())
    if request.reading.standardise:
        real = [table for path, table in tables.items() if path != request.candidates]
        units = units_of(real, request.reading)
        tables = {path: table._replace(points=units(table.points)) for path, table in tables.items()}
    settings = ("num_kept", "budget", "num_generations", "workflow", "num_modes", "max_bias", "seed")
    report = assess(
        tables[request.reference],
        {str(path): tables[path] for path in silos},
        tables.get(request.population),
        tables.get(request.candidates),
        generator=GENERATORS[request.generator](),
        tell=tell,
        **{name: getattr(request, name) for name in settings},
    )
    require_unchanged(*tables.values())
    files = {str(path): table.source for path, table in tables.items()}
    told = {"generator": request.generator, **request.reading.settings, "files": files}
    report = report._replace(settings={**report.settings, **told})
    return report, INCOMPLETE if report.find("is_incomplete").value else 0
