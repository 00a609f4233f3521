"""Where etcd and kube-apiserver are on this machine: nothing is built here."""

from __future__ import annotations

import os
from pathlib import Path

from penstock_loadtest.errors import MissingSubjectError

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"


def find(program: str) -> Path:
    """Return a program's path: in the folder of `KUBEBUILDER_ASSETS`, else the newest that `make` has built.

    Raises:
        MissingSubjectError: it is in neither place.
    """
    assets = os.environ.get(ASSETS_VARIABLE)
    if assets and (Path(assets) / program).is_file():
        return Path(assets) / program
    home = os.environ.get("XDG_CACHE_HOME")
    cache = (Path(home) if home else Path.home() / ".cache") / "penstock" / "bin"
    built = sorted(cache.glob(f"*/{program}"), key=lambda path: path.stat().st_mtime)
    if not built:
        raise MissingSubjectError(
            f"{program} is neither in ${ASSETS_VARIABLE} nor below {cache}: run `make bench`, which builds it, "
            "or set the variable to a folder of envtest's binaries"
        )
    return built[-1]
