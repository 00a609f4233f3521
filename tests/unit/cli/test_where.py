"""Local platform or cluster: how a command decides, and what it says when there is neither."""

import itertools

import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.cli.where import Where, decide
from penstock_kube.people.plugin import main as plugin

COMMANDS = (("status",), ("why", "tiny"), ("cost",), ("cost", "receipt", "req-1"))


@pytest.fixture(autouse=True)
def nothing_there(monkeypatch, tmp_path):
    """No kubeconfig, no platform, whatever this machine has."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "PENSTOCK_STATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def run(command, *arguments):
    return CliRunner().invoke(command, [str(one) for one in arguments])


def test_flags_then_local_then_kubeconfig_then_what_is_left():
    for flags, state, runs, kubeconfig, remains in itertools.product([True, False], repeat=5):
        where = decide(flags=flags, state=state, runs=runs, kubeconfig=kubeconfig, remains=remains)
        if flags:
            assert where is Where.CLUSTER
        elif state or runs:
            assert where is Where.LOCAL
        elif kubeconfig:
            assert where is Where.CLUSTER
        else:
            assert where is (Where.LOCAL if remains else Where.NOWHERE)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_with_neither_both_ways_are_named(arguments):
    result = run(main, *arguments)
    assert result.exit_code == 2
    assert "penstock up" in result.output
    assert "--kubeconfig" in result.output


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_state_directory_and_a_cluster_exclude_each_other(arguments, tmp_path):
    result = run(main, *arguments, "--state", tmp_path, "-n", "team")
    assert result.exit_code == 2
    assert "choose" in result.output


def test_one_namespace_and_all_exclude_each_other():
    result = run(main, "status", "-n", "team", "-A")
    assert result.exit_code == 2
    assert "exclude each other" in result.output


@pytest.mark.parametrize("arguments", [*COMMANDS, ("plan", "tiny")], ids=" ".join)
def test_a_kubeconfig_that_is_not_there_is_named(arguments, tmp_path):
    result = run(main, *arguments, "--kubeconfig", tmp_path / "absent")
    assert result.exit_code == 2
    assert str(tmp_path / "absent") in result.output


def test_a_context_that_is_not_there_is_named_with_those_that_are(tmp_path):
    path = tmp_path / "config"
    path.write_text(
        "{apiVersion: v1, kind: Config, current-context: a, clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}],"
        " users: [{name: u, user: {}}], contexts: [{name: a, context: {cluster: c, user: u}}]}"
    )
    result = run(main, "status", "--kubeconfig", path, "--context", "b")
    assert result.exit_code == 2
    assert "'b'" in result.output
    assert "it has a" in result.output


def test_a_file_that_is_no_kubeconfig_is_named(tmp_path):
    path = tmp_path / "config"
    path.write_text("just words")
    result = run(main, "status", "--kubeconfig", path)
    assert result.exit_code == 2
    assert str(path) in result.output


def test_the_plugin_looks_for_no_local_platform(tmp_path):
    assert "--state" not in run(plugin, "status", "--help").output
    assert run(plugin, "status", "--state", tmp_path).exit_code == 2
    result = run(plugin, "status")
    assert result.exit_code == 2
    assert "no cluster to talk to" in result.output


def test_the_plugin_has_the_subcommands_that_read():
    assert set(plugin.commands) == {"cost", "plan", "status", "why"}
    assert "--state" not in run(plugin, "cost", "receipt", "--help").output
    assert run(plugin, "cost", "formula", "--gpu-hourly", 3.6, "--tokens-per-second", 1000).output == "1.00\n"
