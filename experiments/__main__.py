"""List experiments, or run some: `python -m experiments [NAME ... | all] [FLAGS]`."""

import sys

import jaxcollapse_command

sys.exit(jaxcollapse_command.main(["run", *sys.argv[1:]] if sys.argv[1:] else ["list"]))
