"""Result files: raw arrays with named axes, tidy tables, configuration and versions.

A file is written whole or not at all, and never over another one unasked.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "jaxcollapse")


def versions() -> dict[str, str]:
    """Name what numbers depend on: packages, Python and the kind of device."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "device": jax.devices()[0].device_kind}


def fingerprint(configuration: Mapping[str, Any]) -> str:
    """Hash a configuration together with the versions."""
    text = json.dumps([configuration, versions()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Write under a temporary name beside the file, then rename."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def prepare(directory: Path, names: Iterable[str], *, overwrite: bool) -> None:
    """Make a writable output directory and make sure that nothing would be lost in it.

    Raises:
        FileExistsError: if an output exists and may not be overwritten.
        OSError: if the directory cannot be made or written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (directory / name).exists() and not overwrite:
            raise FileExistsError(f"{directory / name} exists: give --overwrite to replace it")
    with tempfile.TemporaryFile(dir=directory):
        pass


def save_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON document."""
    text = json.dumps(content, indent=2, default=float) + "\n"
    write_atomic(path, lambda p: p.write_text(text))


def save_table(path: Path, table: pd.DataFrame) -> None:
    """Write a tidy table as CSV, seven significant digits."""
    write_atomic(path, lambda p: table.to_csv(p, index=False, float_format="%.7g"))


def save_dataset(path: Path, dataset: xr.Dataset) -> None:
    """Write arrays with named axes as netCDF, whose attributes are text."""
    text = {name: "\n".join(value) if isinstance(value, list) else value for name, value in dataset.attrs.items()}
    write_atomic(path, lambda p: dataset.assign_attrs(text).to_netcdf(p, engine="scipy"))


def digest(tree: Any) -> str:
    """Hash the shapes, types and bytes of a pytree of arrays."""
    found = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def digest_program(program: jax.stages.Lowered) -> str:
    """Hash a program: its code, its settings and the arrays that it captured."""
    return hashlib.sha256(program.as_text().encode()).hexdigest()


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def save_arrays(path: Path, arrays: Sequence[ArrayLike], identity: Mapping[str, str]) -> None:
    """Write a checkpoint: arrays in order, and what identifies the run that made them, besides the versions."""
    text = json.dumps({**identity, **versions()})

    def write(p: Path) -> None:
        with p.open("wb") as file:
            np.savez(file, *map(np.asarray, arrays), identity=text)

    write_atomic(path, write)


def load_arrays(path: Path, identity: Mapping[str, str]) -> list[np.ndarray] | None:
    """Read a checkpoint, or None where there is none.

    Raises:
        ValueError: if another run made it.
    """
    if not path.exists():
        return None
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        found, wanted = json.loads(str(arrays.pop("identity"))), {**identity, **versions()}
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no checkpoint, or a damaged one: remove it ({type(error).__name__})") from error
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        raise ValueError(f"{path} is the checkpoint of another run, which differs in {', '.join(other)}: remove it")
    return [arrays[f"arr_{i}"] for i in range(len(arrays))]
