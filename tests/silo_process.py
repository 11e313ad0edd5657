"""A silo in a process of its own: `python silo_process.py NAME ADDRESS CERTIFICATES LEDGER ROWS.npy`."""

import sys
import threading
from pathlib import Path

import numpy as np

from jaxcollapse.network.policy import Ledger, Policy
from jaxcollapse.network.silo import Silo, attend

if __name__ == "__main__":
    name, address, certificates, ledger, rows = sys.argv[1:]
    silo = Silo(np.load(rows), Policy(), Ledger(Path(ledger)))
    attend(silo, address, Path(certificates), name, threading.Event(), lambda line: None)
