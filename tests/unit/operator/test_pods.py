"""The pod of an agent and of a name server."""

from __future__ import annotations

from typing import Any

import pytest

from ganglion.api import Agent, Channel, NameServer
from ganglion.planner import DomainView, NameServerAddress, plan_agent
from ganglion_operator.core.nameserver import endpoint, service
from ganglion_operator.core.pods import agent_pod, nameserver_pod
from ganglion_operator.core.settings import PodSettings
from tests.support.objects import agent, channel, name_server

SETTINGS = PodSettings(agent_image="agent:1", pull_secrets=("central",))


def rendered(spec: dict[str, Any] | None = None, server_spec: dict[str, Any] | None = None) -> dict[str, Any]:
    """Spec of the pod of an agent."""
    server, model = NameServer.parse(name_server(spec=server_spec)), Agent.parse(agent(spec=spec))
    if model.spec.container is not None:
        body = agent(spec=spec)
        del body["spec"]["class"]
        for entry in body["spec"]["channels"]:
            entry.pop("handler", None)
        model = Agent.parse(body)
    view = DomainView(
        {"zoo": server},
        {"tasks": Channel.parse(channel())},
        {"worker": model},
        {"zoo": NameServerAddress("tcp://x:1", "k" * 40)},
        {"files": "h"},
    )
    plan = plan_agent(model, view)
    assert plan.wiring is not None, plan.verdicts
    assert plan.intent is not None
    template = agent_pod(
        model, server, plan.wiring, SETTINGS, intent=plan.intent, runtime_image="runtime:1", code_map="files" if model.spec.code else None
    )
    pod: dict[str, Any] = template["spec"]
    pod["drain"] = plan.wiring.agent.drain_timeout_seconds
    return pod


def env(container: dict[str, Any]) -> dict[str, Any]:
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names))
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


def test_only_the_sidecar_has_the_token() -> None:
    pod = rendered({"extraContainers": [{"name": "helper", "image": "h"}]})
    holders = [
        c["name"] for c in pod["initContainers"] + pod["containers"] if any(m["name"] == "ganglion-token" for m in c["volumeMounts"])
    ]
    assert holders == ["runtime"]
    assert "GANGLION_TOKEN_FILE" not in env(pod["containers"][0])
    helper = pod["containers"][1]
    assert [m["name"] for m in helper["volumeMounts"]] == ["ganglion-tmp"]


def test_a_user_cannot_mount_what_is_not_theirs() -> None:
    mounts = [{"name": "ganglion-token", "mountPath": "/steal"}, {"name": "data", "mountPath": "/data"}]
    pod = rendered({"volumes": [{"name": "data", "emptyDir": {}}], "volumeMounts": mounts})
    assert "/steal" not in str(pod["containers"])
    assert "/data" in str(pod["containers"])


def test_files_of_a_secret_are_for_the_pods_group_alone() -> None:
    """Kubernetes' default lets everybody read them, and a private key that everybody may read is refused."""
    pod = rendered({"volumes": [{"name": "keys", "secret": {"secretName": "k", "items": [{"key": "a", "path": "b"}]}}]})
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "keys")
    assert volume["secret"] == {"secretName": "k", "items": [{"key": "a", "path": "b"}], "defaultMode": 0o440}
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_containers_meet_pod_security_restricted() -> None:
    pod = rendered({"extraContainers": [{"name": "helper", "image": "h"}], "securityContext": {"runAsUser": 1234}})
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "hostNetwork" not in pod
    for container in pod["initContainers"] + pod["containers"]:
        context = container["securityContext"]
        assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert pod["containers"][0]["securityContext"]["runAsUser"] == 1234
    assert pod["initContainers"][0]["securityContext"]["runAsUser"] == 65532


def test_own_fields_win_as_a_whole_over_the_name_servers_defaults() -> None:
    defaults = {"image": "default:1", "nodeSelector": {"a": "1", "b": "2"}, "resources": {"limits": {"memory": "1Gi"}}}
    pod = rendered({"nodeSelector": {"a": "3"}}, {"agentDefaults": defaults})
    assert pod["nodeSelector"] == {"a": "3"}
    assert pod["containers"][0]["image"] == "default:1"
    assert pod["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}
    assert pod["initContainers"][0]["image"] == "runtime:1"
    assert pod["imagePullSecrets"] == [{"name": "central"}]


def test_log_variables_are_the_users_and_named_once() -> None:
    pod = rendered({"env": [{"name": "GANGLION_LOG_LEVEL", "value": "DEBUG"}, {"name": "A", "value": "1"}]})
    found = env(pod["containers"][0])
    assert (found["GANGLION_LOG_LEVEL"], found["A"]) == ("DEBUG", "1")
    assert env(pod["initContainers"][0])["GANGLION_LOG_LEVEL"] == "INFO"


def test_a_container_agent_keeps_its_entry_point_and_gets_the_sockets() -> None:
    container = rendered({"container": {"image": "prog:1", "args": ["-v"]}})["containers"][0]
    assert (container["image"], container["args"], "command" in container) == ("prog:1", ["-v"], False)
    assert env(container)["GANGLION_RUN_DIR"] == "/run/ganglion"


def test_in_process_agents_know_where_to_listen() -> None:
    assert "GANGLION_PORT_BASE" not in env(rendered()["containers"][0])
    found = env(rendered({"dataPlane": "InProcess"})["containers"][0])
    assert found["GANGLION_PORT_BASE"] == "7600"
    assert found["GANGLION_ADVERTISE_HOST"] == {"fieldRef": {"fieldPath": "status.podIP"}}


def test_code_is_mounted_and_named() -> None:
    pod = rendered({"code": {"configMapRef": {"name": "files"}}})
    assert env(pod["containers"][0])["GANGLION_CODE_DIR"] == "/etc/ganglion/code"
    assert {"name": "ganglion-code", "configMap": {"name": "files"}} in pod["volumes"]


@pytest.mark.parametrize(("grace", "timeout", "pod_grace", "drain"), [(30, 60, 60, 25), (600, 60, 60, 25), (30, 10, 10, 1), (5, 60, 35, 1)])
def test_a_pod_has_the_time_of_the_flow_and_then_its_own(grace: int, timeout: int, pod_grace: int, drain: int) -> None:
    pod = rendered({"terminationGracePeriodSeconds": grace}, {"shutdown": {"timeoutSeconds": timeout}})
    assert (pod["terminationGracePeriodSeconds"], pod["drain"]) == (pod_grace, drain)
    [sidecar] = pod["initContainers"]
    assert sidecar["lifecycle"]["preStop"]["exec"]["command"] == ["ganglion", "drain", f"--timeout={pod_grace}"]


@pytest.mark.parametrize(("grace", "timeout", "pod_grace"), [(30, 60, 30), (600, 60, 30), (30, 10, 5), (5, 60, 5)])
def test_a_program_of_others_is_killed_after_the_time_that_it_has_alone(grace: int, timeout: int, pod_grace: int) -> None:
    spec = {"terminationGracePeriodSeconds": grace, "container": {"image": "x"}}
    assert rendered(spec, {"shutdown": {"timeoutSeconds": timeout}})["terminationGracePeriodSeconds"] == pod_grace


@pytest.mark.parametrize(
    ("own", "added"),
    [
        ([], 2),
        ([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}], 1),
        ([{"operator": "Exists"}], 0),
        ([{"key": "gpu", "operator": "Exists"}], 2),
    ],
)
def test_pods_leave_dead_nodes_unless_the_user_says_otherwise(own: list[dict[str, str]], added: int) -> None:
    tolerations = rendered({"tolerations": own})["tolerations"]
    assert tolerations[: len(own)] == own
    assert [t["tolerationSeconds"] for t in tolerations[len(own) :]] == [30] * added


def test_a_spread_without_selector_is_about_the_agents_own_pods() -> None:
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    own = {"labelSelector": {"matchLabels": {"mine": "yes"}}}
    found = rendered({"topologySpreadConstraints": [constraint, {**constraint, **own}]})["topologySpreadConstraints"]
    assert [c["labelSelector"]["matchLabels"] for c in found] == [{"ganglion.dev/agent": "worker"}, {"mine": "yes"}]


def test_a_user_may_bring_their_own_tmp() -> None:
    pod = rendered({"volumes": [{"name": "big", "emptyDir": {}}], "volumeMounts": [{"name": "big", "mountPath": "/tmp/"}]})
    assert [m["name"] for m in pod["containers"][0]["volumeMounts"] if m["mountPath"].rstrip("/") == "/tmp"] == ["big"]


def test_the_name_servers_pod() -> None:
    server = NameServer.parse(name_server(spec={"shutdown": {"timeoutSeconds": 90}}))
    pod = nameserver_pod(server, "zoo-key-1", "https://issuer", SETTINGS)["spec"]
    found = env(pod["containers"][0])
    assert (found["GANGLION_TOKEN_ISSUER"], found["GANGLION_SHUTDOWN_TIMEOUT_SECONDS"]) == ("https://issuer", "90")
    assert pod["terminationGracePeriodSeconds"] == 90
    assert pod["serviceAccountName"] == "zoo-nameserver"
    assert "GANGLION_KEY_DIR" in found
    bare = nameserver_pod(server, None, "https://issuer", SETTINGS)["spec"]
    assert "GANGLION_KEY_DIR" not in env(bare["containers"][0])
    assert endpoint(server, "cluster.local") == "tcp://zoo.default.svc.cluster.local.:7500"


@pytest.mark.parametrize("remote_code", ["Forbidden", "Signed", "Trusted"])
def test_a_domain_with_ad_hoc_agents_serves_their_directory(remote_code: str) -> None:
    server = NameServer.parse(name_server(spec={"adHoc": "Allowed", "remoteCode": remote_code}))
    [container] = nameserver_pod(server, "key", "https://issuer", SETTINGS)["spec"]["containers"]
    assert env(container)["GANGLION_AD_HOC_ADDRESS"] == "tcp://0.0.0.0:7502"
    assert env(container)["GANGLION_REMOTE_CODE"] == remote_code
    # For forwarded ports alone: no other pod reaches it.
    assert env(container)["GANGLION_AD_HOC_RELAY"] == "127.0.0.1:7503"
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"join": 7500, "health": 7501, "ad-hoc": 7502}
    assert {port["name"]: port["targetPort"] for port in service(server)["spec"]["ports"]} == {"join": 7500, "ad-hoc": 7502}


def test_without_leave_there_is_no_directory() -> None:
    server = NameServer.parse(name_server())
    [container] = nameserver_pod(server, "key", "https://issuer", SETTINGS)["spec"]["containers"]
    assert "GANGLION_AD_HOC_ADDRESS" not in env(container)
    assert [port["name"] for port in container["ports"]] == ["join", "health"]
    assert [port["name"] for port in service(server)["spec"]["ports"]] == ["join"]


def test_programs_know_their_domain_and_no_secret() -> None:
    variables = env(rendered(server_spec={"adHoc": "Allowed"})["containers"][0])
    assert variables["GANGLION_DOMAIN"] == "default/zoo"
    assert not [name for name in variables if "SECRET" in name or "TOKEN" in name]
