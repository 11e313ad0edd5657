"""The command `jaxcollapse`: works on a team's files, and lists, runs, merges and draws experiments."""

import ast
import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import io
import json
import pkgutil
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import jax
import platformdirs
import tyro

from jaxcollapse import __version__, experiments, paper_figures
from jaxcollapse.checks import check_names
from jaxcollapse.experiments import studies
from jaxcollapse.experiments.support.display import Display, Lasting, attend
from jaxcollapse.experiments.support.runner import PRESETS, Options, Places, execute, merge_shards
from jaxcollapse.pipeline import verbs
from jaxcollapse.results import is_first, write_together


def _members(package: Any) -> dict[str, str]:
    """List the modules of a package: the name, and the name to import."""
    modules = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg and not m.name.startswith("_")]
    return {name: f"{package.__name__}.{name}" for name in modules}


EXPERIMENTS, STUDIES, FIGURES = map(_members, (experiments, studies, paper_figures))
GROUPS = {"all": tuple(EXPERIMENTS), "studies": tuple(STUDIES)}
RUNNABLE = EXPERIMENTS | STUDIES
VERBS = _members(verbs)


def purpose(module: str) -> str:
    """Read the first line of a module's docstring, without importing it."""
    source = Path(str(importlib.util.find_spec(module).origin)).read_text()  # pyright: ignore[reportOptionalMemberAccess]
    return str(ast.get_docstring(ast.parse(source))).partition("\n")[0]


@dataclasses.dataclass(frozen=True)
class List:
    """List experiments, studies and figures."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Run experiments. With a single one all fields of its configuration are flags; see `run NAME --help`."""

    names: tyro.conf.Positional[tuple[Literal[(*RUNNABLE, *GROUPS)], ...]]  # pyright: ignore[reportInvalidTypeForm]
    """Experiments or studies; all: every experiment; studies: every study."""
    run: tyro.conf.OmitArgPrefixes[Options] = dataclasses.field(default_factory=Options)


@dataclasses.dataclass(frozen=True)
class Merge:
    """Put shards together, which `run --shard I/N` left: OUT/NAME.nc and figures as one run makes them."""

    names: tyro.conf.Positional[tuple[Literal[(*RUNNABLE, *GROUPS)], ...]]  # pyright: ignore[reportInvalidTypeForm]
    """Experiments or studies; all: every experiment; studies: every study."""
    run: tyro.conf.OmitArgPrefixes[Places] = dataclasses.field(default_factory=Places)


@dataclasses.dataclass(frozen=True)
class Figure:
    """Draw figures from results, each with the table of the numbers that it shows."""

    names: tyro.conf.Positional[tuple[Literal[(*FIGURES, "all")], ...]]  # pyright: ignore[reportInvalidTypeForm]
    """Figures; all: every one whose results are there."""
    results: Path = Path("results")
    """Directory with NAME.nc."""
    out: Path = Path("figures")
    """Directory for NAME.png, NAME.pdf and NAME.csv."""


@dataclasses.dataclass(frozen=True)
class Writing:
    """Where a report goes."""

    json: str = ""
    """File for the report as JSON; - for standard output, in place of the text."""
    html: Path | None = None
    """File for the report as a page of its own, with figures."""
    overwrite: bool = False
    """Replace files that are there."""


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Args:
        arguments: words after the command's name.

    Returns:
        The exit status: 0, 2 for bad input, 128 and the number of a signal; of a verb 3 and 4 say what it found.
    """
    out, err = Lasting(sys.stdout), Lasting(sys.stderr)
    display = Display(err)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            return _answer(list(arguments), out, display)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2 * (stop.code is not None)
    except (ValueError, OSError, ImportError, MemoryError, OverflowError, jax.errors.JaxRuntimeError) as error:
        display.close()
        display.say(f"{display.name or 'jaxcollapse'}: {(str(error).splitlines() or [type(error).__name__])[0]}")
        display.tick()
        return 2


def _answer(arguments: list[str], out: Lasting, display: Display) -> int:
    if arguments == ["--version"]:
        out.write(f"jaxcollapse {__version__}\n")
        return 0
    if arguments and arguments[0] in VERBS:
        return _report(arguments[0], arguments[1:], out, display)
    with _refused_in_one_line():
        request = parse(arguments)
    if isinstance(request, List):
        for title, members in (("experiments", EXPERIMENTS), ("studies", STUDIES), ("figures", FIGURES)):
            out.write(f"{title}:\n")
            for name, module in members.items():
                out.write(f"  {name:24s} {purpose(module)}\n")
        return 0
    if not request.names:
        raise ValueError("name experiments or figures, or all: `jaxcollapse list` shows them")
    if isinstance(request, Figure):
        for path in _draw(request):
            display.say(str(path))
            display.tick()
        return 0
    keep_programs(request.run.cache)
    if getattr(request.run, "distributed", False):
        jax.distributed.initialize()
        display.console.quiet = not is_first()
    names = [member for name in request.names for member in GROUPS.get(name, (name,))]
    config = getattr(request, "experiment", None)
    display.num_experiments = len(names)

    def work() -> None:
        for name in names:
            module = importlib.import_module(RUNNABLE[name])
            if isinstance(request, Merge):
                merge_shards(name, module, request.run, display)
            else:
                execute(name, module, config or default(module, request.run.preset), request.run, display)
            if request.run.figures and not getattr(request.run, "shard", "") and is_first():
                drawing = importlib.import_module("jaxcollapse.paper_figures.support.drawing")
                for path in drawing.draw(request.run.out / f"{name}.nc", request.run.figures, FIGURES):
                    display.say(f"{name}: {path}")

    return attend(work, display)


def _report(verb: str, arguments: list[str], out: Lasting, display: Display) -> int:
    """Answer one of the verbs, and write what it says: all files or none.

    Raises:
        FileExistsError: if a file is there and is not to be replaced.
    """
    module = importlib.import_module(VERBS[verb])
    with _refused_in_one_line():
        asked = tyro.cli(_verb_of(verb), args=arguments, prog=f"jaxcollapse {verb}")
    request, writing = asked.request, asked.writing
    json_file = Path(writing.json) if writing.json not in ("", "-") else None
    named = [path for path in (json_file, writing.html, *getattr(request, "outputs", ())) if path]
    for path in named:
        if path.exists() and not writing.overwrite:
            raise FileExistsError(f"{path} exists: name another file, or --overwrite")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent} not found: the directory of {path.name} must exist")
    keep_programs("")
    found = []

    def tell(doing: str, done: int = 0, total: int = 0) -> None:
        if doing != tell.doing:
            if tell.doing:
                display.finish()
            display.part(doing)
            tell.doing = doing
        display.update(done, total)

    def work() -> None:
        display.begin(verb)
        found.append(module.answer(request, tell))
        if display.stopped.is_set():
            raise KeyboardInterrupt

    tell.doing = ""
    if status := attend(work, display, getattr(module, "INTERRUPTED", "nothing is written")):
        return status
    (report, status), reports = found[0], importlib.import_module("jaxcollapse.pipeline.report")
    told, files = json.dumps(reports.as_json(report), indent=1, allow_nan=False) + "\n", dict(report.files)
    if json_file:
        files[json_file] = lambda file: file.write(told.encode())
    if writing.html:
        page = reports.as_page(report).encode()
        files[writing.html] = lambda file: file.write(page)
    write_together(files)
    out.write(told if writing.json == "-" else reports.as_text(report))
    return status


def _verb_of(verb: str) -> type:
    """Make the request of a verb, with where its report goes."""
    request = importlib.import_module(VERBS[verb]).Request
    fields = [
        ("request", tyro.conf.OmitArgPrefixes[request]),
        ("writing", tyro.conf.OmitArgPrefixes[Writing], dataclasses.field(default=Writing())),
    ]
    made = dataclasses.make_dataclass(verb.capitalize(), fields, frozen=True)
    made.__doc__ = request.__doc__
    return made


@contextlib.contextmanager
def _refused_in_one_line() -> Iterator[None]:
    """Take what tyro says of bad input out of its boxes.

    Raises:
        ValueError: if it says anything.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()) as boxes:
            yield
    except SystemExit as stop:
        if stop.code:
            lines = [line.strip(" |+│╭╮╰╯") for line in boxes.getvalue().splitlines()[1:]]  # the first is the title
            parts = [" ".join(part.split()).rstrip(".") for part in re.split("[─-]{3,}", " ".join(lines))]
            raise ValueError("; ".join(filter(None, parts))) from stop
        raise


def _draw(request: Figure) -> Iterator[Path]:
    """Draw the figures asked for, of every result that they are of.

    Raises:
        FileNotFoundError: if there is none.
    """
    drawing = importlib.import_module("jaxcollapse.paper_figures.support.drawing")  # heavy
    chosen = FIGURES if "all" in request.names else {name: FIGURES[name] for name in request.names}
    pictures = (
        path for file in sorted(request.results.glob("*.nc")) for path in drawing.draw(file, request.out, chosen)
    )
    first = next(pictures, None)
    if first is None:
        wanted = ", ".join(request.names)
        raise FileNotFoundError(f"{request.results} holds no results of {wanted}: `jaxcollapse run` makes them")
    yield first
    yield from pictures


def default(module: Any, preset: str) -> Any:
    """Make an experiment's configuration at a scale."""
    return module.Config(**module.PRESETS[preset])


def parse(arguments: list[str]) -> List | Run | Merge | Figure:
    """Read the request. Of a single experiment to run the preset comes first, then every flag over it."""
    command, name = (*arguments, "", "")[:2]
    alone = len(arguments) < 3 or arguments[2].startswith("-")
    if command == "run" and name in RUNNABLE and alone:
        return tyro.cli(_run_of(name, preset_of(arguments)), args=arguments[2:], prog=f"jaxcollapse run {name}")
    if command in ("run", "merge") and not name.startswith("-"):
        check_names("experiment", arguments[1:2], [*RUNNABLE, *GROUPS])
    completed = any(word.startswith("--tyro-") for word in arguments)
    kinds = {"list": List, "run": _run_of_any() if completed else Run, "merge": Merge, "figure": Figure}
    if completed or command not in kinds:
        kinds = {verb: _verb_of(verb) for verb in VERBS} | kinds
    return tyro.extras.subcommand_cli_from_dict(kinds, args=arguments, prog="jaxcollapse", description=__doc__)


def preset_of(arguments: list[str]) -> str:
    """Find the preset among flags; one that is not known is left to be refused with them."""
    named = [word for word in re.findall(r"--preset[= ](\S+)", " ".join(arguments)) if word in PRESETS]
    return named[-1] if named else Options.preset


def _run_of(name: str, preset: str) -> type:
    """Make the request to run one experiment, with all fields of its configuration."""
    module = importlib.import_module(RUNNABLE[name])
    fields = [
        ("experiment", tyro.conf.OmitArgPrefixes[module.Config], dataclasses.field(default=default(module, preset))),
        ("run", tyro.conf.OmitArgPrefixes[Options], dataclasses.field(default=Options(preset=preset))),
    ]
    made = dataclasses.make_dataclass("Run", fields, frozen=True)
    made.__doc__, made.names = purpose(RUNNABLE[name]), (name,)
    return made


def _run_of_any() -> type:
    """Make the request to run any experiment, with all flags of all of them: what completion has to know."""
    requests = [Annotated[_run_of(name, "quick"), tyro.conf.subcommand(name)] for name in RUNNABLE]
    return dataclasses.make_dataclass("Run", [("name", tyro.conf.OmitSubcommandPrefixes[Union[tuple(requests)]])])  # noqa: UP007


def keep_programs(directory: str) -> None:
    """Keep compiled programs in a directory, of the user's by default, one for each type of machine."""
    if directory == "none":
        jax.config.update("jax_enable_compilation_cache", False)  # noqa: FBT003
        return
    if not directory and jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    place = Path(directory) if directory else platformdirs.user_cache_path("jaxcollapse")
    jax.config.update("jax_compilation_cache_dir", str(place / machine_type()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def machine_type() -> str:
    """Name the instructions that this machine has: programs compiled for others may not run on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"
