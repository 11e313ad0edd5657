"""What experiments cost at the preset `quick`, each in a process of its own: `python -m benchmarks.experiments PAGE`.

Processor time, since it is the same whatever runs beside it; programs are compiled anew.
"""

import os
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

from jaxcollapse import experiments
from jaxcollapse.experiments import studies

HEAD = """# What the experiments cost

Each at the preset `quick`, in a process of its own that compiles its programs anew: `python -m benchmarks.experiments`.

| experiment | processor time | memory |
|---|---|---|
"""


def cost(name: str) -> str:
    """Run an experiment, and write its row."""
    with tempfile.TemporaryDirectory() as directory:
        command = "import sys, jaxcollapse_command as c; sys.exit(c.main())"
        flags = ["run", name, "--preset", "quick", "--out", directory, "--figures", directory, "--cache", "none"]
        process = subprocess.Popen([sys.executable, "-c", command, *flags], stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise ChildProcessError(f"{name} ended with {os.waitstatus_to_exitcode(status)}")
    minutes = (usage.ru_utime + usage.ru_stime) / 60
    return f"| [{name}]({name}.md) | {minutes:.1f} min | {usage.ru_maxrss / 2**20:.1f} GiB |"


if __name__ == "__main__":
    rows = []
    packages = experiments, studies
    for name in (
        each.name for package in packages for each in pkgutil.iter_modules(package.__path__) if not each.ispkg
    ):
        rows.append(cost(name))
        print(rows[-1], flush=True)
    Path(sys.argv[1]).write_text(HEAD + "\n".join(rows) + "\n")
