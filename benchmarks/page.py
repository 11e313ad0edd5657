"""The page of benchmarks: what every module prints, one process each. `make bench` writes docs/benchmarks.md."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

PARTS = {
    "processes": "Whole processes beside the authors' protocol",
    "recursion --num-generations 100": "Programs of the recursion beside the authors' protocol",
    "throughput": "Throughput beside its limits",
    "scaling": "Cost against sizes",
    "sums": "Moments in single precision",
    "transport --num-candidates 3000 --num-reference 500 --repeats 3": "Optimal transport and aggregation",
    "mixture --num-generations 50": "Mixtures beside scikit-learn",
    "images": "Diffusion",
}
PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "scikit-learn")


def machine() -> str:
    """Describe what was timed, on what and when."""
    processor = platform.processor() or platform.machine()
    if (found := Path("/proc/cpuinfo")).exists():
        names = [line.partition(":")[2].strip() for line in found.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return (
        f"{datetime.date.today()}, {processor}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}; "
        f"Python {platform.python_version()}, {versions}."
    )


def main() -> None:
    """Run all parts, and write the page that the one argument names."""
    page = f"# Benchmarks\n\nWritten by `make bench`: {machine()}\n"
    for part, title in PARTS.items():
        command = [sys.executable, "-m", *f"benchmarks.{part}".split()]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(printed, flush=True)
        page += f"\n## {title}\n\n`python -m benchmarks.{part}`\n\n```text\n{printed.rstrip()}\n```\n"
        Path(sys.argv[1]).write_text(page)


if __name__ == "__main__":
    main()
