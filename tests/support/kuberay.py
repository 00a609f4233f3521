"""KubeRay played on a real API server: see `penstock_loadtest.controlplane`.

The RayCluster definition must be there: KubeRay's own (`tests.support.kuberay_crds`), or `OPEN_DEFINITION`.
"""

from penstock_loadtest.controlplane.kuberay import OPEN_DEFINITION, KubeRay, install_definition, kuberay

__all__ = ["OPEN_DEFINITION", "KubeRay", "install_definition", "kuberay"]
