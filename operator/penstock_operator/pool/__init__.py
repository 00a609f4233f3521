"""Pools: one Ray cluster a namespace, with all its Models."""
