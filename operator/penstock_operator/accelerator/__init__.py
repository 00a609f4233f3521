"""AcceleratorClasses: the catalog's are brought in, and each says which nodes have its accelerators.

`build.build` gives two controllers, `accelerator` (status) and `catalog` (once a leader), and one mirror, of Nodes.
Both need rights on the whole cluster: `get`, `list` and `watch` on nodes; `create` and `patch` on acceleratorclasses,
`patch` on acceleratorclasses/status. With `PENSTOCK_OPERATOR_WATCH_NAMESPACES` set it gives none: classes are then
read only, and whoever runs the cluster creates them.
"""
