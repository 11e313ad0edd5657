"""Benchmarks: the hot paths timed, beside what others would use. `make bench` prints all of them."""
