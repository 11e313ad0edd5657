"""Result files: raw arrays with named axes, tidy tables, configuration and versions.

A file is written whole or not at all, and never over another one unasked.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
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
    """Write arrays with named axes as netCDF."""
    write_atomic(path, lambda p: dataset.to_netcdf(p, engine="scipy"))


def save_arrays(path: Path, arrays: Sequence[ArrayLike], mark: str) -> None:
    """Write a checkpoint: arrays in order, and the fingerprint of what made them."""

    def write(p: Path) -> None:
        with p.open("wb") as file:
            np.savez(file, *map(np.asarray, arrays), mark=mark)

    write_atomic(path, write)


def load_arrays(path: Path, mark: str) -> list[np.ndarray] | None:
    """Read a checkpoint, or None where there is none or another configuration made it."""
    if not path.exists():
        return None
    with np.load(path) as stored:
        if str(stored["mark"]) != mark:
            return None
        return [stored[f"arr_{i}"] for i in range(len(stored.files) - 1)]
