"""Ray Serve's REST API played for many namespaces at once: see `penstock_loadtest.controlplane`.

```python
with serve_api() as serve:  # or `async with ServeApi() as serve:` in a test's own loop
    operator_environment["PENSTOCK_OPERATOR_RAY__DASHBOARD_URL"] = serve.url
    serve.behaviour.start_s = 0.5  # STARTING -> RUNNING
    serve.behaviour.refused["bad--*"] = "no"  # PUT with such an application: 400
    serve.behaviour.failing["bad--*"] = "OSError: no such model"  # DEPLOY_FAILED after three starts
    serve.hang("team-a")
    serve.cut_off("team-a")
    serve.mend("team-a")
    serve.engines.loads["llama--cpu--1234"] = Load(kv_usage=0.95, running=8, waiting=4)
```
"""

from penstock_loadtest.controlplane.engines import Engines, Load, own_address
from penstock_loadtest.controlplane.serve_api import ServeApi, loop_in_thread, serve_api
from penstock_loadtest.controlplane.simulated_serve import Behaviour, RefusedError, SimulatedServe

__all__ = [
    "Behaviour",
    "Engines",
    "Load",
    "RefusedError",
    "ServeApi",
    "SimulatedServe",
    "loop_in_thread",
    "own_address",
    "serve_api",
]
