"""Three silos and a server as processes of one machine: `python docs/examples/silos.py DIRECTORY`.

Each silo holds some classes of handwritten digits. The server selects candidates with `jaxcollapse select --listen`,
silos answer with `jaxcollapse serve`; what crossed the wire is printed from the silos' own ledgers.
"""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

CLASSES = {"north": (0, 1, 2), "east": (3, 4, 5), "south": (6, 7, 8, 9)}
COMMAND = [sys.executable, "-c", "import sys, jaxcollapse_command as c; sys.exit(c.main())"]


def write_files(directory: Path) -> None:
    """Write features of each silo's images, and candidates from a mixture with a fifth of junk."""
    images, labels = load_digits(return_X_y=True)
    features = PCA(16).fit_transform(images)
    for name, classes in CLASSES.items():
        np.save(directory / f"{name}.npy", features[np.isin(labels, classes)])
    rng = np.random.default_rng(0)
    pool, _ = GaussianMixture(20, reg_covar=0.1, random_state=0).fit(features).sample(3200)
    junk = 3 * features.std(axis=0) * rng.standard_normal((800, 16))
    np.save(directory / "pool.npy", rng.permutation(np.concatenate([pool, junk])).astype(np.float32))


def main(directory: Path) -> int:
    """Run all four, and print the ledgers; the status is the server's."""
    directory.mkdir(parents=True, exist_ok=True)
    write_files(directory)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    names = ",".join(CLASSES)
    subprocess.run([*COMMAND, "certificates", "certificates", "--silos", names], cwd=directory, check=True)
    silos = [
        subprocess.Popen(
            [*COMMAND, "serve", f"{name}.npy", "--server", address, "--name", name, "--selections", "1"], cwd=directory
        )
        for name in CLASSES
    ]
    asked = ["--listen", address, "--silos", names, "--keep", "1000", "--html", "report.html", "--json", "kept.json"]
    status = subprocess.run([*COMMAND, "select", "pool.npy", *asked], cwd=directory, check=False).returncode
    for silo in silos:
        if status:
            silo.terminate()
        silo.wait()
    for name in CLASSES:
        sent = pd.read_json(directory / f"{name}.ledger", lines=True)
        table = sent[["exchange", "number", "round", "bytes", "noisy"]].to_string(index=False)
        print(f"\n{name} sent:\n{table}")  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
