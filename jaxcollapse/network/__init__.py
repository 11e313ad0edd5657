"""Silos on other hosts: exchanges over mutual TLS, with a policy at each silo. A driver of `jaxcollapse.exchanges`."""

import os

# gRPC has no switch for the version of TLS. Its list of ciphers is that of 1.2 alone, and one for RSA keys leaves
# nothing of 1.2 to parties with elliptic keys.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384")

try:
    import cryptography
    import grpc
except ImportError as error:
    raise ImportError("silos on other hosts need two libraries: pip install 'jaxcollapse[silos]'") from error
