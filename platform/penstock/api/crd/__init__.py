"""CustomResourceDefinitions, made from the resource types: one text for YAML, Python and kubectl."""

from penstock.api.crd.definition import CRD_KINDS, custom_resource_definition, file_name, render

__all__ = ["CRD_KINDS", "custom_resource_definition", "file_name", "render"]
