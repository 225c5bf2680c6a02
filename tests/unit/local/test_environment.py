"""Environments: what a manifest gives an agent, and what it must never see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ganglion.api import Agent, load_object
from ganglion.local.bundle import Bundle, ConfigMap
from ganglion.local.environment import Options, Seat, base, expand, for_agent, for_sidecar, manifest_variables


def agent(**spec: Any) -> Agent:
    body = {"nameServerRef": {"name": "shop"}, "class": "m:C", **spec}
    found = load_object({"apiVersion": "ganglion.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "clerk"}, "spec": body})
    assert isinstance(found, Agent)
    return found


def seat(item: Agent) -> Seat:
    return Seat(item, "clerk-0", "uid-1", Path("/r/1"), Path("/r/w.json"), Path("/r/join-secret"), Path("/code"))


BUNDLE = Bundle(
    config_maps={"settings": ConfigMap("settings", {"COLOUR": b"red", "size": b"9"})},
    secrets={"login": {"password": "hush"}},
)


def test_sources_of_variables_and_their_precedence() -> None:
    item = agent(
        envFrom=[{"configMapRef": {"name": "settings"}, "prefix": "S_"}, {"secretRef": {"name": "login"}}],
        env=[
            {"name": "S_COLOUR", "value": "blue"},
            {"name": "SIZE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "size"}}},
            {"name": "PASS", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "BOTH", "value": "$(ME)/$(SIZE)"},
        ],
    )
    assert manifest_variables(seat(item), BUNDLE) == {
        "S_COLOUR": "blue",
        "S_size": "9",
        "password": "hush",
        "SIZE": "9",
        "PASS": "hush",
        "ME": "clerk-0",
        "BOTH": "clerk-0/9",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a$(X)b", "a1b"), ("$$(X)", "$(X)"), ("$(NOPE)", "$(NOPE)"), ("$(X", "$(X"), ("100$", "100$"), ("$X", "$X"), ("", "")],
)
def test_expansion_is_that_of_kubernetes(text: str, expected: str) -> None:
    assert expand(text, {"X": "1"}) == expected


def test_an_agent_behind_a_sidecar_sees_no_secret() -> None:
    env = for_agent(seat(agent()), Options(), Bundle())
    assert not {"GANGLION_TOKEN_FILE", "GANGLION_REPLICA_UID", "GANGLION_PORT_BASE"} & set(env)
    assert env["GANGLION_CODE_DIR"] == "/code"
    assert for_sidecar(seat(agent()), Options())["GANGLION_TOKEN_FILE"] == "/r/join-secret"


def test_an_agent_in_process_joins_by_itself() -> None:
    env = for_agent(seat(agent(dataPlane="InProcess")), Options(), Bundle())
    assert (env["GANGLION_TOKEN_FILE"], env["GANGLION_REPLICA_UID"], env["GANGLION_PORT_BASE"]) == ("/r/join-secret", "uid-1", "0")


def test_a_config_map_cannot_override_what_the_runtime_needs() -> None:
    bundle = Bundle(config_maps={"settings": ConfigMap("settings", {"GANGLION_RUN_DIR": b"/elsewhere"})})
    assert for_agent(seat(agent(envFrom=[{"configMapRef": {"name": "settings"}}])), Options(), bundle)["GANGLION_RUN_DIR"] == "/r/1"


def test_a_manifest_may_set_the_log_level() -> None:
    item = agent(env=[{"name": "GANGLION_LOG_LEVEL", "value": "DEBUG"}])
    assert for_agent(seat(item), Options(log_level="INFO"), Bundle())["GANGLION_LOG_LEVEL"] == "DEBUG"


def test_variables_of_another_domain_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANGLION_TOKEN_FILE", "/other")
    assert "GANGLION_TOKEN_FILE" not in base(Options(), "INFO")
