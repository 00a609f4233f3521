"""Weights in a namespace's cache before replicas need them: while a download runs, no accelerator is paid for it.

`build.build` gives one controller and one mirror, of Jobs; it is there only where `RayOptions.cache_claim` names a
claim. Rights needed: `get`, `list`, `watch`, `create` and `delete` on jobs.
"""
