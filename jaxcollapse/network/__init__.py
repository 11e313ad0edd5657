"""Silos on other hosts: exchanges over mutual TLS, with a policy at each silo. A driver of `jaxcollapse.exchanges`."""

try:
    import cryptography
    import grpc
except ImportError as error:
    raise ImportError("silos on other hosts need two libraries: pip install 'jaxcollapse[silos]'") from error
