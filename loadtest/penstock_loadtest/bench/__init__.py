"""Benchmarks in one form: rows of medians and spreads, with the machine and the versions beside them."""
