"""Draw figures: `python -m paper_figures NAME ... | all [FLAGS]`."""

import sys

import jaxcollapse_command

sys.exit(jaxcollapse_command.main(["figure", *sys.argv[1:]]))
