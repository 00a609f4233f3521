"""Routes, public names, and what gateways route by.

`build.build` gives two controllers, `route` (status of Routes) and `routing` (ConfigMap `penstock-routing` of each
namespace), and one mirror, of those ConfigMaps. Rights needed: `patch` on routes/status; `get`, `list`, `watch`,
`create`, `patch` and `delete` on configmaps named `penstock-routing`. The name book (`names.NameBook`) is shared with
whoever prepares Models: a Model of which `names.problem(ResourceKey("Model", namespace, name))` says something is not
to be served; `names.on_change` tells of every Model whose verdict changes.

External backends of Routes will be compiled beside Models, in `compile`, and judged in `plan`.
"""
