"""Inference engines: one adapter a file, each giving command line, readiness and load in one normal form."""

from penstock.engines.base import Engine, EngineLoad, LaunchSpec
from penstock.engines.registry import ENGINES, UnknownEngineError, get_engine

__all__ = ["ENGINES", "Engine", "EngineLoad", "LaunchSpec", "UnknownEngineError", "get_engine"]
