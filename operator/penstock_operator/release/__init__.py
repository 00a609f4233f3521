"""What runs before an uninstall: `python -m penstock_operator.release` lets Models go and says what keeps running.

Without it the finalizers of an operator that is gone would keep every Model, and with them their namespaces, for ever.
Rights needed: `get` and `patch` on the operator's Deployment and its scale, `get` on its Lease, `get`, `list` and
`patch` on models, `list` on rayclusters, routes, tenants and, if they are to be counted, persistentvolumeclaims; `list`
and `delete` on daemonsets of the operator's namespace.
"""
