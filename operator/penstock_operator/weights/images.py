"""Engine images on the nodes that will need them: a DaemonSet for each class and image has the kubelets pull them.

A class without a node selector has none: its image would be pulled by every node of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.model import Model
from penstock_kube.client import KubeClient
from penstock_kube.errors import AlreadyExistsError, InvalidError
from penstock_kube.resources import DAEMON_SETS, Key, Object, key_of
from penstock_operator.pool.names import MANAGED, digest, slug
from penstock_operator.pool.pods import CONTAINER_SECURITY
from penstock_operator.runtime.controller import Result
from penstock_operator.runtime.finalizers import is_deleting
from penstock_operator.settings import RayOptions
from penstock_operator.typed import Invalid, Typed
from penstock_operator.world import Mirror

IMAGES_LABEL: Final = "penstock.dev/pulls"
"""Label of the DaemonSets and their pods: the digest of what they pull, and where."""
KEY: Final = Key("", "images")
"""The one key of the controller."""
_WAIT: Final = ["python", "-c", "import signal; signal.pause()"]


def wanted_pulls(
    models: Iterable[Model], classes: Mapping[str, AcceleratorClass], options: RayOptions, namespace: str
) -> dict[str, dict[str, Any]]:
    """Return the DaemonSets that have the images of these Models pulled, by name.

    Args:
        models: All Models.
        classes: All AcceleratorClasses by name.
        options: The platform's engine image.
        namespace: The operator's own, in which they are made: one for all pools, since nodes have one store of images.
    """
    wanted: dict[str, dict[str, Any]] = {}
    for model in models:
        image = model.spec.engine.image or options.image
        for placement in model.placements:
            accelerator = classes.get(placement.accelerator_class)
            if accelerator is not None and accelerator.spec.node_selector:
                body = _daemon_set(accelerator, image, options, namespace)
                wanted[body["metadata"]["name"]] = body
    return wanted


def _daemon_set(accelerator: AcceleratorClass, image: str, options: RayOptions, namespace: str) -> dict[str, Any]:
    selector = dict(accelerator.spec.node_selector)
    tolerations = [dict(toleration) for toleration in accelerator.spec.tolerations]
    mark = digest([image, selector, tolerations])
    container = {
        "name": "pull",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": _WAIT,
        "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {**CONTAINER_SECURITY, "readOnlyRootFilesystem": True},
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "nodeSelector": selector,
        "tolerations": tolerations,
        "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    labels = {**MANAGED, IMAGES_LABEL: mark}
    return {
        "metadata": {
            "namespace": namespace,
            "name": f"penstock-pull-{slug(accelerator.name)}-{mark}",
            "labels": labels,
        },
        "spec": {
            "selector": {"matchLabels": {IMAGES_LABEL: mark}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}},
        },
    }


class ImagesController:
    """Keeps the DaemonSets."""

    def __init__(
        self,
        client: KubeClient,
        models: Typed[Model],
        classes: Typed[AcceleratorClass],
        pulls: Mirror,
        *,
        options: RayOptions,
        namespace: str,
    ) -> None:
        """Make the reconcile.

        Args:
            client: writes DaemonSets.
            models: the Models.
            classes: the AcceleratorClasses.
            pulls: our DaemonSets.
            options: the platform's engine image.
            namespace: the operator's own.
        """
        self._client = client
        self._models = models
        self._classes = classes
        self._pulls = pulls
        self._options = options
        self._namespace = namespace

    async def reconcile(self, _: Key) -> Result:
        """Create what is missing, and delete what no Model needs any more."""
        classes = {item.name: item for item in self._classes.all()}
        wanted = wanted_pulls(self._live(), classes, self._options, self._namespace)
        there: dict[str, Object] = {obj["metadata"]["name"]: obj for obj in self._pulls.all(self._namespace)}
        refusal: InvalidError | None = None
        for name in wanted.keys() - there.keys():
            try:
                await self._client.create(DAEMON_SETS, wanted[name])
            except AlreadyExistsError:
                continue  # the mirror has not seen it yet
            except InvalidError as error:
                refusal = error  # one Model's image is to hold nobody else's up
        for name in there.keys() - wanted.keys():
            if not is_deleting(there[name]):
                await self._client.delete(DAEMON_SETS, *key_of(there[name]), uid=there[name]["metadata"].get("uid"))
        if refusal is not None:
            raise refusal
        return Result()

    def _live(self) -> list[Model]:
        found = (self._models.of(obj) for obj in self._models.mirror.all() if not is_deleting(obj))
        return [model for model in found if not isinstance(model, Invalid)]
