"""Silos on other hosts: exchanges over mutual TLS, with a policy at each silo. A driver of `jaxcollapse.exchanges`."""
