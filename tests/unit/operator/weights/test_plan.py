"""Which downloads there are to be, and what each says of the Models that wait for it."""

import datetime as dt

import pytest

from penstock.api.load import parse_resource
from penstock_operator.settings import RayOptions
from penstock_operator.weights.plan import WEIGHTS_LABEL, Progress, is_running, job_of, superfluous, verdict

NOW = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)
OPTIONS = RayOptions(cache_claim="weights")


def model(name="llama", **spec):
    body = {"source": "hf://acme/llama", "accelerator": "nvidia-h100:1", **spec}
    body = {field: value for field, value in body.items() if value is not None}
    head = {"apiVersion": "penstock.dev/v1alpha1", "kind": "Model", "metadata": {"name": name, "namespace": "team"}}
    return parse_resource({**head, "spec": body})


def ended(kind, *, ago_s=1.0, **fields):
    at = (NOW - dt.timedelta(seconds=ago_s)).isoformat()
    condition = {"type": kind, "status": "True", "lastTransitionTime": at, **fields}
    return {**job_of(model(), OPTIONS), "status": {"conditions": [condition]}}


def pod(**status):
    return {"metadata": {"name": "fetch-x"}, "status": status}


def said(condition):
    return condition.type, condition.status, condition.reason


def test_one_job_downloads_for_all_models_of_a_source():
    first, second = job_of(model("a"), OPTIONS), job_of(model("b"), OPTIONS)
    assert first == second
    assert first["metadata"]["namespace"] == "team"
    assert first["metadata"]["annotations"] == {"penstock.dev/source": "hf://acme/llama"}
    (container,) = first["spec"]["template"]["spec"]["containers"]
    assert container["command"][:4] == ["python", "-m", "penstock_engine.fetch", "hf://acme/llama"]
    assert first["metadata"]["labels"][WEIGHTS_LABEL] in first["metadata"]["name"]


@pytest.mark.parametrize(
    "spec",
    [
        {"source": "hf://acme/llama@v2"},
        {"engine": {"image": "acme/vllm:1"}},
        {"sourceSecretRef": {"name": "hub", "key": "token"}},
    ],
)
def test_another_source_image_or_token_is_another_job(spec):
    assert job_of(model(**spec), OPTIONS)["metadata"]["name"] != job_of(model(), OPTIONS)["metadata"]["name"]


def test_a_token_comes_from_its_secret_and_stands_nowhere():
    job = job_of(model(sourceSecretRef={"name": "hub", "key": "token"}), OPTIONS)
    (variable,) = (v for v in job["spec"]["template"]["spec"]["containers"][0]["env"] if v["name"] == "HF_TOKEN")
    assert variable == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}


def test_a_preset_is_downloaded_from_where_the_catalog_says():
    job = job_of(model(source=None, preset="llama-3.1-8b"), OPTIONS)
    assert job["metadata"]["annotations"]["penstock.dev/source"].startswith("hf://")


@pytest.mark.parametrize("source", ["pvc://claim/x", "s3://bucket/x", "file:///x", "tiny://llama"])
def test_what_is_read_where_it_is_has_no_job(source):
    assert job_of(model(source=source), OPTIONS) is None


def test_without_a_claim_there_is_nowhere_to_keep_it():
    assert job_of(model(), RayOptions()) is None
    assert job_of(model(source=None, preset="no-such-preset"), OPTIONS) is None


def test_jobs_go_when_no_model_wants_them_and_failed_ones_after_a_while():
    job = job_of(model(), OPTIONS)
    name = job["metadata"]["name"]
    assert superfluous([job], [name], NOW) == []
    assert superfluous([job], [], NOW) == [job]
    assert superfluous([ended("Failed", ago_s=599)], [name], NOW) == []
    assert len(superfluous([ended("Failed", ago_s=600)], [name], NOW)) == 1
    assert superfluous([ended("Complete", ago_s=9999)], [name], NOW) == []
    going = {**job, "metadata": {**job["metadata"], "deletionTimestamp": NOW.isoformat()}}
    assert superfluous([going], [], NOW) == []


def test_progress_is_told_in_gigabytes():
    job = job_of(model(), OPTIONS)
    found = verdict(job, [], Progress(done_bytes=12_345_678_901, total_bytes=16_061_000_000))
    assert said(found) == ("WeightsReady", "False", "Downloading")
    assert found.message == "12.3 of 16.1 GB"
    assert is_running(job)


def test_a_download_that_does_not_run_says_why():
    job = job_of(model(), OPTIONS)
    assert verdict(None, [], None).message == "a pod starts"
    waits = {"type": "PodScheduled", "status": "False", "message": 'persistentvolumeclaim "weights" not found'}
    assert 'persistentvolumeclaim "weights" not found' in verdict(job, [pod(conditions=[waits])], None).message
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}}
    assert 'secret "hub" not found' in verdict(job, [pod(containerStatuses=[{"state": state}])], None).message


def test_a_download_that_is_there_is_ready():
    assert said(verdict(ended("Complete"), [], None)) == ("WeightsReady", "True", "Downloaded")
    assert not is_running(ended("Complete"))


def test_a_download_that_failed_has_the_last_pods_own_words():
    states = [
        {"terminated": {"finishedAt": "2026-11-24T11:00:00Z", "message": "the hub answered 503"}},
        {"terminated": {"finishedAt": "2026-11-24T11:30:00Z", "message": "gated: accept its terms"}},
    ]
    pods = [pod(containerStatuses=[{"state": state}]) for state in states]
    found = verdict(ended("Failed", message="Job has reached the specified backoff limit"), pods, None)
    assert said(found) == ("WeightsReady", "False", "DownloadFailed")
    assert found.message.startswith("gated: accept its terms; tried once more after 10 min")
    assert "backoff limit" in verdict(ended("Failed", message="reached the backoff limit"), [], None).message
