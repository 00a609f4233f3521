"""KubeRay's own CustomResourceDefinitions, out of the module that the operator of the tests is built from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support import binaries

MODULE = "github.com/ray-project/kuberay/ray-operator"


def folder() -> Path:
    """Return the folder of KubeRay's CRDs, one YAML file a kind: what `kubectl apply --server-side -f` takes."""
    return binaries.module_folder("kuberay", MODULE) / "config" / "crd" / "bases"


def definitions() -> list[Mapping[str, Any]]:
    """Return KubeRay's CRDs (RayCluster, RayService, RayJob, ...) in the order of their files."""
    # libyaml: the definitions are long, and Python's own parser takes seconds for them.
    return [yaml.load(path.read_text(), yaml.CSafeLoader) for path in sorted(folder().glob("*.yaml"))]
