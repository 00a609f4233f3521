"""Errors of the engine replica. They stay inside the replica: Ray Serve is told in built-in exceptions."""

from __future__ import annotations


class EngineError(Exception):
    """Anything that keeps a replica from serving."""


class SettingsError(EngineError, ValueError):
    """The application's arguments or the engine's flags are not usable; the message says which and why."""


class WeightsError(EngineError, ValueError):
    """Weights cannot be had from where the Model says; the message names the place and the remedy."""
