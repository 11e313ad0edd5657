"""Result files, checkpoints, and what identifies the run that wrote them.

A file is written whole or not at all. A run's results are one file, so that they appear together.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from jaxcollapse.tree import is_key
from jaxcollapse.version import __version__

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "scikit-learn")  # the last holds the digits
MAGIC = b"jaxcollapse checkpoint\n"
_UNREADABLE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, TypeError, ValueError,
)  # fmt: skip


def versions() -> dict[str, str]:
    """Name what numbers depend on: packages, Python and the kind of device."""
    found = {"jaxcollapse": __version__} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "device": jax.devices()[0].device_kind}


@cache
def code() -> str:
    """Hash the sources of the package, experiments included."""
    root, found = Path(__file__).parent, hashlib.sha256()
    for folder, _, names in sorted(os.walk(root, followlinks=True)):
        for path in sorted(Path(folder, name) for name in names if name.endswith(".py")):
            found.update(f"{path.relative_to(root)} {path.stat().st_size}".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def fingerprint(configuration: Mapping[str, Any]) -> str:
    """Hash a configuration, the files below each path in it, the versions and the code."""
    text = json.dumps([configuration, versions(), code()], sort_keys=True, default=_files)
    return hashlib.sha256(text.encode()).hexdigest()


def _files(path: Path) -> list[Any]:
    """List the files below a path, each with its size and the time of its last change."""
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return [str(path), [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in found]]


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file whole or not at all; of processes that run as one the first does."""
    write_together({path: write})


def write_together(files: Mapping[Path, Callable[[BinaryIO], Any]]) -> None:
    """Write under temporary names beside the files, then, when all are written, rename."""
    if not is_first():
        return
    written = {}
    try:
        for path, write in files.items():
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            written[path] = name
            with open(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(handle)
            os.chmod(name, 0o644)
        for path, name in written.items():
            os.replace(name, path)
    finally:
        for name in written.values():
            Path(name).unlink(missing_ok=True)


def is_first() -> bool:
    """Tell the process that writes from others that run the same."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def leftovers(path: Path) -> list[Path]:
    """List what `write_atomic` left beside a file when it was killed."""
    pattern = rf"\.{re.escape(path.name)}\.\w{{8}}"
    return [found for found in path.parent.iterdir() if re.fullmatch(pattern, found.name)]


def remove_checkpoints(directory: Path) -> None:
    """Remove the checkpoints of a directory, with what was set aside or left by a kill. Other files stay."""
    if not is_first():
        return
    for path in directory.glob("*.npz"):
        if path.read_bytes()[: len(MAGIC)] == MAGIC:
            path.unlink()
    for path in directory.iterdir():
        if re.fullmatch(r".+\.npz\.damaged|\..+\.npz\.\w{8}", path.name):
            path.unlink()


@contextlib.contextmanager
def directory(path: Path) -> Iterator[None]:
    """Make a directory, and remove it at the end if it is empty.

    Raises:
        OSError: if it is a link, or cannot be made.
    """
    if path.is_symlink():
        raise OSError(f"{path} is a link: remove it")
    if not is_first():
        yield
        return
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a file, which nobody else can hold until the end of the context or of the process; then remove it.

    Raises:
        BlockingIOError: if another process holds it.
    """
    import fcntl  # there is none on Windows, where the rest works

    if not is_first():
        yield
        return
    with open(path, "a", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
            raise BlockingIOError(f"{path} has just been released")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def save(path: Path, dataset: xr.Dataset) -> None:
    """Write arrays with named axes as netCDF, their attributes as JSON."""
    text = {name: json.dumps(strict(value), allow_nan=False) for name, value in dataset.attrs.items()}
    content = dataset.assign_attrs(text).to_netcdf(engine="scipy")
    write_atomic(path, lambda file: file.write(content))


def load(path: Path | str) -> xr.Dataset:
    """Read what `save` wrote.

    Raises:
        ValueError: if the file is no result, or a damaged one.
        OSError: if it cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import xarray as xr
        >>> from jaxcollapse.results import load, save
        >>> with TemporaryDirectory() as folder:
        ...     save(Path(folder) / "run.nc", xr.Dataset({"trace_ratio": ("generation", [1.0, 0.5])}))
        ...     print(load(Path(folder) / "run.nc").trace_ratio.values)
        [1.  0.5]
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with xr.open_dataset(content, engine="scipy") as stored:
            found = stored.load()
        return found.assign_attrs({name: json.loads(value) for name, value in found.attrs.items()})
    except _UNREADABLE as error:
        raise ValueError(f"{path} is no result, or a damaged one ({type(error).__name__})") from error


def strict(value: Any) -> Any:
    """Turn a tree of numbers into what JSON knows: what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(name): strict(part) for name, part in value.items()}
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, Sequence):
        return [strict(part) for part in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return strict(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def digest(tree: Any) -> str:
    """Hash the shapes, types and bytes of a pytree of arrays."""
    found = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def digest_program(*programs: jax.stages.Lowered) -> str:
    """Hash programs: their code, their settings and the arrays that they captured."""
    return hashlib.sha256("".join(program.as_text() for program in programs).encode()).hexdigest()


def save_arrays(path: Path, arrays: Sequence[ArrayLike], identity: Mapping[str, str]) -> None:
    """Write a checkpoint: arrays in order, what identifies the run that made them besides the versions, a digest."""
    content = io.BytesIO()
    np.savez(content, *map(np.asarray, arrays), identity=json.dumps({**identity, **versions()}))
    mark = hashlib.sha256(content.getbuffer()).digest()
    write_atomic(path, lambda file: file.writelines([MAGIC, mark, content.getbuffer()]))


def load_arrays(path: Path, identity: Mapping[str, str]) -> list[np.ndarray] | None:
    """Read a checkpoint, or None where there is none. A damaged one is set aside, with a warning.

    Raises:
        ValueError: if another run made it.
    """
    if (stored := read_arrays(path)) is None:
        return None
    arrays, found = stored
    require_identity(path, found, identity)
    return arrays


def require_identity(path: Path, found: Mapping[str, str], identity: Mapping[str, str]) -> None:
    """Require that a checkpoint is of a run, of these versions.

    Raises:
        ValueError: if another run made it.
    """
    wanted = {**identity, **versions()}
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        raise ValueError(f"{path} is the checkpoint of another run, which differs in {', '.join(other)}: remove it")


def read_arrays(path: Path) -> tuple[list[np.ndarray], dict[str, str]] | None:
    """Read a checkpoint of any run, with what identifies it, as `load_arrays` does."""
    if not path.exists():
        return None
    content = path.read_bytes()
    mark, rest = content[len(MAGIC) :][:32], memoryview(content)[len(MAGIC) + 32 :]
    if not content.startswith(MAGIC) or hashlib.sha256(rest).digest() != mark:
        os.replace(path, _damaged(path))
        warnings.warn(f"{path} is damaged: set aside as {_damaged(path).name}, computed again", stacklevel=2)
        return None
    with np.load(io.BytesIO(rest)) as stored:
        arrays = {name: stored[name] for name in stored.files}
    identity = json.loads(str(arrays.pop("identity")))
    return [arrays[f"arr_{i}"] for i in range(len(arrays))], identity


def chunk_file(checkpoint: Path, chunk: int) -> Path:
    """Name the file of a chunk; the first has the checkpoint's own name."""
    return checkpoint.with_name(f"{checkpoint.stem}, chunk {chunk}{checkpoint.suffix}") if chunk else checkpoint


def chunk_files(directory: Path, name: str) -> list[Path]:
    """List the files of a sweep's chunks in the directories of a directory."""
    return sorted(
        path for path in directory.glob("*/*.npz") if re.fullmatch(rf"{re.escape(name)}(, chunk \d+)?\.npz", path.name)
    )


def _damaged(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged")
