from pathlib import Path

import pytest

from penstock.api import parse_source


@pytest.mark.parametrize(
    "uri",
    [
        "hf://meta-llama/Llama-3.1-8B-Instruct",
        "hf://meta-llama/Llama-3.1-8B-Instruct@main",
        "pvc://claim/models/llama",
        "s3://bucket/prefix",
        "gs://bucket/prefix",
        "oci://registry.example/models/llama:1",
        "file:///models/llama",
        "file://./models/llama",
        "tiny://llama",
    ],
)
def test_a_source_of_a_known_scheme_reads_back_as_written(uri):
    assert str(parse_source(uri)) == uri


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("/models/llama", "write file:///models/llama"),
        ("./llama", "write file://./llama"),
        ("~/llama", "absolute path"),
        ("meta-llama/Llama-3.1-8B", "write hf://meta-llama/Llama-3.1-8B"),
        ("llama", "write one of hf://"),
        ("s4://bucket/x", "did you mean s3://"),
        ("https://example.com/x", "use one of"),
        ("hf://llama", "hf://ORGANISATION/NAME"),
        ("hf://a/b@", "hf://ORGANISATION/NAME"),
        ("s3:///x", "s3://BUCKET"),
        ("file://", "file:///ABSOLUTE"),
    ],
)
def test_what_is_no_source_is_refused_with_the_remedy(text, remedy):
    with pytest.raises(ValueError, match=remedy.replace("(", r"\(")):
        parse_source(text)


def test_a_relative_folder_is_found_beside_its_manifest():
    assert parse_source("file://./x/../y").beside(Path("/m")).location == "/m/y"
    assert parse_source("file:///y").beside(Path("/m")).location == "/y"
