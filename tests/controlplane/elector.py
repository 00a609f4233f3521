"""A candidate as a process of its own, which a test can freeze: `python -m tests.controlplane.elector KUBECONFIG NAME`.

While it leads it writes its name and a count into the ConfigMap `writes`, as fast as it can, without a precondition.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from penstock_kube.client import KubeClient
from penstock_kube.config import Access
from penstock_kube.lease import LeaderElector, LeaseSettings
from penstock_kube.resources import CONFIG_MAPS
from penstock_operator.runtime.manager import run_until_signalled


async def _main(kubeconfig: str, name: str) -> None:
    settings = LeaseSettings("default", "election", name, duration_s=4, renew_deadline_s=2.5, retry_s=0.4)
    async with KubeClient(Access(kubeconfig), field_manager=name) as client:
        elector = LeaderElector(client, settings)
        fenced = client.fenced(elector)

        async def lead() -> None:
            count = 0
            while True:
                count += 1
                data = {"writer": name, "count": str(count), "pid": str(os.getpid())}
                await fenced.apply(CONFIG_MAPS, {"metadata": {"namespace": "default", "name": "writes"}, "data": data})
                await asyncio.sleep(0.02)

        await elector.run(lead)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(run_until_signalled(lambda: _main(sys.argv[1], sys.argv[2])))
