"""Accelerators and model families as data, and the memory arithmetic over them."""
