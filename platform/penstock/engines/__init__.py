"""Inference engines: one adapter a file, each giving command line, readiness and load in one normal form."""
