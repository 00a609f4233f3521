"""What the API server refuses of one Model holds no other Model's download or image up."""

import datetime as dt

import pytest

from penstock.api.accelerator_class import AcceleratorClass
from penstock.api.model import Model
from penstock_kube.errors import InvalidError
from penstock_kube.resources import ACCELERATOR_CLASSES, DAEMON_SETS, JOBS, MODELS, PODS, Key
from penstock_operator.settings import RayOptions
from penstock_operator.typed import Typed
from penstock_operator.weights.controller import WeightsController
from penstock_operator.weights.images import KEY, ImagesController
from penstock_operator.weights.plan import RETRY_AFTER_S
from tests.unit.operator.objects import HandMirror, stored

pytestmark = pytest.mark.anyio

OPTIONS = RayOptions(cache_claim="weights")


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Kube:
    """An API server that takes no image with a space before it."""

    def __init__(self):
        self.images = []

    async def create(self, kind, obj):
        image = obj["spec"]["template"]["spec"]["containers"][0]["image"]
        if image.startswith(" "):
            raise InvalidError(422, "Invalid", "image must not have leading or trailing whitespace")
        self.images.append(image)
        return obj


class Clock:
    def now(self):
        return dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)


@pytest.fixture
def kube():
    return Kube()


@pytest.fixture
def models():
    """Ten Models, of which every other one's image is refused."""
    mirror = HandMirror(MODELS)
    for index in range(10):
        image = f"{' ' * (index % 2)}acme/vllm:{index}"
        spec = {"source": "hf://acme/llama", "accelerator": "nvidia-h100:1", "engine": {"image": image}}
        mirror.put(stored("Model", "team", f"m{index}", spec))
    return Typed(Model, mirror)


TAKEN = [f"acme/vllm:{index}" for index in range(0, 10, 2)]


async def test_an_image_that_is_refused_holds_no_other_pull_up(kube, models):
    classes = HandMirror(ACCELERATOR_CLASSES)
    spec = {"vendor": "nvidia", "memory": "80Gi", "nodeSelector": {"gpu": "h100"}}
    obj = stored("AcceleratorClass", "", "nvidia-h100", spec)
    del obj["metadata"]["namespace"]
    classes.put(obj)
    typed = Typed(AcceleratorClass, classes)
    pulls = HandMirror(DAEMON_SETS)
    images = ImagesController(kube, models, typed, pulls, options=OPTIONS, namespace="penstock")
    with pytest.raises(InvalidError):
        await images.reconcile(KEY)
    assert sorted(kube.images) == TAKEN


async def test_a_download_that_is_refused_is_told_and_holds_no_other_up(kube, models):
    jobs, pods = HandMirror(JOBS), HandMirror(PODS)
    weights = WeightsController(kube, models, jobs, pods, options=OPTIONS, clock=Clock())
    await weights.reconcile(Key("", "team"))
    assert sorted(kube.images) == TAKEN
    (said,) = weights.conditions(Key("team", "m1"))
    assert (said.type, said.status, said.reason) == ("WeightsReady", "False", "DownloadFailed")
    assert "must not have leading or trailing whitespace" in said.message
    (said,) = weights.conditions(Key("team", "m0"))
    assert said.reason == "Downloading"
    for obj in models.mirror.all("team"):
        if obj["metadata"]["name"] != "m1":
            models.mirror.remove("team", obj["metadata"]["name"])
    result = await weights.reconcile(Key("", "team"))
    assert result.requeue_after_s == RETRY_AFTER_S
    await weights.close()
