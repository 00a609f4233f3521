"""What makes a cold start short: weights in a cache, and engine images on nodes, before replicas need them.

While a download runs beside replicas, no accelerator is paid for it. `build.build` gives the controller of downloads
and a mirror of Jobs; it is there only where `RayOptions.cache_claim` names a claim. Rights needed: `get`, `list`,
`watch`, `create` and `delete` on jobs. `build.build_images` gives the controller of image pulls and a mirror of
DaemonSets. Rights needed, in the operator's own namespace: the same on daemonsets.
"""
