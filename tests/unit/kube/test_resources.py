"""Paths of objects."""

import pytest

from penstock_kube.resources import ACCELERATOR_CLASSES, CONFIG_MAPS, MODELS, Key, key_of


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (CONFIG_MAPS.path(), "/api/v1/configmaps"),
        (CONFIG_MAPS.path("ns", "a"), "/api/v1/namespaces/ns/configmaps/a"),
        (MODELS.path("ns"), "/apis/penstock.dev/v1alpha1/namespaces/ns/models"),
        (MODELS.path("ns", "a", "status"), "/apis/penstock.dev/v1alpha1/namespaces/ns/models/a/status"),
        (ACCELERATOR_CLASSES.path("", "l4"), "/apis/penstock.dev/v1alpha1/acceleratorclasses/l4"),
        (CONFIG_MAPS.path("ns", "../x"), "/api/v1/namespaces/ns/configmaps/..%2Fx"),
    ],
)
def test_a_path_is_where_the_api_server_has_it(path, expected):
    assert path == expected


def test_an_object_without_its_namespace_is_refused():
    with pytest.raises(ValueError, match="needs a namespace"):
        MODELS.path("", "a")


def test_a_cluster_scoped_object_with_a_namespace_is_refused():
    with pytest.raises(ValueError, match="has no namespace"):
        ACCELERATOR_CLASSES.path("ns", "l4")


def test_keys_read_as_people_write_them():
    assert str(key_of({"metadata": {"namespace": "ns", "name": "a"}})) == "ns/a"
    assert str(Key("", "l4")) == "l4"
