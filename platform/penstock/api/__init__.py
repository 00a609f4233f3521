"""Resource types of the API group penstock.dev: Model, AcceleratorClass, Route, Tenant, one file a kind."""

from penstock.api.accelerator_class import AcceleratorClass, AcceleratorClassSpec, Price, Purchase
from penstock.api.errors import ManifestError, Problem
from penstock.api.load import load_files, parse_resource
from penstock.api.manifest import Location, Manifest, ResourceKey
from penstock.api.meta import API_VERSION, Metadata, Resource
from penstock.api.model import Degrees, Model, ModelSpec, Placement, Quantization, Task
from penstock.api.quantity import Quantity
from penstock.api.references import ReferenceProblem, check_references
from penstock.api.route import Route, RouteBackend, RouteSpec
from penstock.api.scaling import Scaling, ScalingMode
from penstock.api.source import WeightsSource, parse_source
from penstock.api.tenant import Secret, Tenant, TenantSpec

__all__ = [
    "API_VERSION",
    "AcceleratorClass",
    "AcceleratorClassSpec",
    "Degrees",
    "Location",
    "Manifest",
    "ManifestError",
    "Metadata",
    "Model",
    "ModelSpec",
    "Placement",
    "Price",
    "Problem",
    "Purchase",
    "Quantity",
    "Quantization",
    "ReferenceProblem",
    "Resource",
    "ResourceKey",
    "Route",
    "RouteBackend",
    "RouteSpec",
    "Scaling",
    "ScalingMode",
    "Secret",
    "Task",
    "Tenant",
    "TenantSpec",
    "WeightsSource",
    "check_references",
    "load_files",
    "parse_resource",
    "parse_source",
]
