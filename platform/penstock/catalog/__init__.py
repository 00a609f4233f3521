"""Accelerators and model families as data, and the memory arithmetic over them."""

from penstock.catalog.advice import Fit, Remedy, assess
from penstock.catalog.budget import Budget, EngineLimits, memory_budget
from penstock.catalog.config import ConfigError, from_config
from penstock.catalog.data import CatalogModel, accelerator_classes, find, models, weights_uri
from penstock.catalog.geometry import Geometry, Precision
from penstock.catalog.limits import engine_limits
from penstock.catalog.memory import kv_bytes_per_sequence, kv_bytes_per_token, weight_bytes

__all__ = [
    "Budget",
    "CatalogModel",
    "ConfigError",
    "EngineLimits",
    "Fit",
    "Geometry",
    "Precision",
    "Remedy",
    "accelerator_classes",
    "assess",
    "engine_limits",
    "find",
    "from_config",
    "kv_bytes_per_sequence",
    "kv_bytes_per_token",
    "memory_budget",
    "models",
    "weight_bytes",
    "weights_uri",
]
