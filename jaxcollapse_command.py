"""The door of the command `jaxcollapse`, light, so that signals stop it in one line while the rest is imported."""

import os
import signal
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command; see `jaxcollapse --help`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    for number in range(3):  # a stream that is closed leaves its number to the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # What XLA writes there, of programs that it takes from a cache, is worth no warning.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from jaxcollapse.command import main

    return main(sys.argv[1:] if arguments is None else arguments)


def _stop(number, frame) -> None:
    os.write(2, b"jaxcollapse: interrupted\n")
    os._exit(128 + number)
