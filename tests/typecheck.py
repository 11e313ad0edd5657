"""The checker that the import hook of `conftest` applies to every function of the package."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as Python's typing has it
