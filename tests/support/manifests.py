"""Manifests for tests of the API: small good ones, and a table of bad ones with the field that must be named."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

API = "ganglion.dev/v1alpha1"


def name_server(name: str = "demo", **spec: Any) -> dict[str, Any]:
    """A NameServer manifest."""
    return {"apiVersion": API, "kind": "NameServer", "metadata": {"name": name}, "spec": spec}


def channel(name: str = "tasks", **spec: Any) -> dict[str, Any]:
    """A PushPull Channel of the NameServer `demo`, unless `spec` says otherwise."""
    return {
        "apiVersion": API,
        "kind": "Channel",
        "metadata": {"name": name},
        "spec": {"nameServerRef": {"name": "demo"}, "pattern": "PushPull", **spec},
    }


def agent(name: str = "worker", **spec: Any) -> dict[str, Any]:
    """A class Agent of the NameServer `demo`, unless `spec` says otherwise (`class_` for `class`, None removes a field)."""
    body = {"nameServerRef": {"name": "demo"}, "class": "workers:Worker", **spec}
    if "class_" in body:
        body["class"] = body.pop("class_")
    return {
        "apiVersion": API,
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {key: value for key, value in body.items() if value is not None},
    }


def container(name: str = "plain", **spec: Any) -> dict[str, Any]:
    """A container Agent of the NameServer `demo`."""
    return agent(name, class_=None, **{"container": {"image": "busybox"}, **spec})


def link(alias: str = "tasks", role: str = "Pull", **more: Any) -> dict[str, Any]:
    """An entry of an Agent's channels."""
    return {"alias": alias, "channelRef": {"name": more.pop("channel", alias)}, "role": role, **more}


def with_metadata(document: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A copy with more metadata."""
    changed = copy.deepcopy(document)
    changed["metadata"].update(metadata)
    return changed


@dataclass(frozen=True)
class Bad:
    """A manifest that must be refused at `field` by `load_object` and by the API server."""

    id: str
    document: dict[str, Any]
    field: str


def _volume(**source: Any) -> dict[str, Any]:
    return {"name": "data", **source}


_LONG = "x" * 53

BAD: tuple[Bad, ...] = (
    # names
    Bad("name with capitals", agent("Worker"), "metadata.name"),
    Bad("name begins with a digit", agent("1worker"), "metadata.name"),
    Bad("name ends with a dash", agent("worker-"), "metadata.name"),
    Bad("name with a dot", channel("a.b"), "metadata.name"),
    Bad("name in another script", name_server("größe"), "metadata.name"),
    Bad("name too long for pods", agent(_LONG), "metadata.name"),
    Bad("name absurdly long", name_server("x" * 300), "metadata.name"),
    Bad("label value with blanks", with_metadata(agent(), labels={"app": "a b"}), "metadata.labels"),
    Bad("label key with blanks", with_metadata(agent(), labels={"a b": "c"}), "metadata.labels"),
    Bad("annotation key with blanks", with_metadata(agent(), annotations={"a b": "c"}), "metadata.annotations"),
    Bad("annotations too large", with_metadata(agent(), annotations={"a": "x" * 300_000}), "metadata.annotations"),
    Bad("unknown metadata", with_metadata(agent(), nmae="x"), "metadata.nmae"),
    # presence
    Bad("no spec", {key: value for key, value in agent().items() if key != "spec"}, "spec"),
    Bad("spec is null", {**channel(), "spec": None}, "spec"),
    Bad("spec is a list", {**agent(), "spec": []}, "spec"),
    Bad("no name server", agent(nameServerRef=None), "spec.nameServerRef"),
    Bad("empty name server reference", agent(nameServerRef={}), "spec.nameServerRef.name"),
    Bad("name server reference is a string", agent(nameServerRef="demo"), "spec.nameServerRef"),
    Bad("reference to a name that DNS refuses", agent(nameServerRef={"name": "De mo"}), "spec.nameServerRef.name"),
    Bad("empty reference", agent(nameServerRef={"name": ""}), "spec.nameServerRef.name"),
    Bad("unknown field at the top", {**agent(), "specs": {}}, "specs"),
    Bad("unknown field", agent(replica=3), "spec.replica"),
    Bad("unknown field in a list", agent(channels=[link(aliass="x")]), "spec.channels[0].aliass"),
    Bad("free PodSpec is not offered", agent(hostNetwork=True), "spec.hostNetwork"),
    Bad("hostPath is not offered", agent(volumes=[_volume(hostPath={"path": "/"})]), "spec.volumes[0].hostPath"),
    # channels
    Bad("unknown pattern", channel(pattern="PushPul"), "spec.pattern"),
    Bad("no pattern", channel(pattern=None), "spec.pattern"),
    Bad("unknown codec", channel(codec="Yaml"), "spec.codec"),
    Bad("Protobuf of nothing", channel(codec="Protobuf"), "spec.messageType"),
    Bad("message type of another codec", channel(messageType="shop.Order"), "spec.messageType"),
    Bad("message type that is a module", channel(codec="Protobuf", messageType="shop_pb2:Order"), "spec.messageType"),
    Bad("message type absurdly long", channel(codec="Protobuf", messageType="x" * 300), "spec.messageType"),
    Bad("replies of nothing", channel(codec="Protobuf", pattern="RequestReply", messageType="shop.Order"), "spec.replyType"),
    Bad("replies to nobody", channel(codec="Protobuf", messageType="shop.Order", replyType="shop.Receipt"), "spec.replyType"),
    Bad("reply type of another codec", channel(pattern="RequestReply", replyType="shop.Receipt"), "spec.replyType"),
    Bad("codec in lower case", channel(codec="json"), "spec.codec"),
    Bad("bind role that the pattern lacks", channel(bind="Pub"), "spec.bind"),
    Bad("unknown bind role", channel(bind="Server"), "spec.bind"),
    Bad("pair whose connector binds", channel(pattern="Pair", bind="Connector"), "spec.bind"),
    Bad("pair that is not acknowledged", channel(pattern="Pair", delivery="BestEffort"), "spec.delivery"),
    Bad("dead letters of a pair", channel(pattern="Pair", deadLetter={"name": "letters"}), "spec.deadLetter"),
    Bad("barrier of a pair", channel(pattern="Pair", barrier={"peers": 1}), "spec.barrier"),
    Bad("dealers of publications", channel(pattern="PubSub", bind="Dealer"), "spec.bind"),
    Bad("dealers that are not acknowledged", channel(pattern="DealerRouter", delivery="BestEffort"), "spec.delivery"),
    Bad("barrier of dealers", channel(pattern="DealerRouter", barrier={"peers": 1}), "spec.barrier"),
    Bad("router without the SDK", container(channels=[link(), link("talk", "Router")]), "spec.channels"),
    Bad("subscriber of a SyncPub that binds", channel(pattern="SyncPub", bind="SyncSub"), "spec.bind"),
    Bad("SyncPub that is acknowledged", channel(pattern="SyncPub", delivery="AtLeastOnce"), "spec.delivery"),
    Bad("barrier of a SyncPub", channel(pattern="SyncPub", barrier={"peers": 1}), "spec.barrier"),
    Bad("SyncPub that drops", channel(pattern="SyncPub", overflow="DropNewest"), "spec.overflow"),
    Bad("reply type of a SyncPub", channel(pattern="SyncPub", codec="Protobuf", messageType="a.B", replyType="a.C"), "spec.replyType"),
    Bad("topics of a SyncPub", agent(channels=[link("feed", "SyncPub", topics=["a"])]), "spec.channels[0]"),
    Bad("plain program that is a SyncSub", container(channels=[link("feed", "SyncSub", handler=None)]), "spec.channels"),
    Bad("plain program that is a SyncPub", container(channels=[link("feed", "SyncPub", handler=None)]), "spec.channels"),
    Bad("acknowledged publication", channel(pattern="PubSub", delivery="AtLeastOnce"), "spec.delivery"),
    Bad("unknown delivery", channel(delivery="Durable"), "spec.delivery"),
    Bad("dead letters of a publication", channel(pattern="PubSub", deadLetter={"name": "letters"}), "spec.deadLetter"),
    Bad("dead letters without acknowledgement", channel(delivery="BestEffort", deadLetter={"name": "letters"}), "spec.deadLetter"),
    Bad("ad-hoc agents in the clear", name_server(adHoc="Allowed", security="None"), "spec.adHoc"),
    Bad("templates that nobody may use", name_server(templates=[{"name": "worker"}]), "spec.templates"),
    Bad("no copies", name_server(adHoc="Allowed", templates=[{"name": "worker", "maxCopies": 0}]), "spec.templates[0].maxCopies"),
    Bad("too many copies", name_server(adHoc="Allowed", templates=[{"name": "worker", "maxCopies": 101}]), "spec.templates[0].maxCopies"),
    Bad("barrier of requests", channel(pattern="RequestReply", barrier={"peers": 1}), "spec.barrier"),
    Bad("barrier without peers", channel(barrier={}), "spec.barrier.peers"),
    Bad("barrier of nobody", channel(barrier={"peers": 0}), "spec.barrier.peers"),
    Bad("dropped requests", channel(pattern="RequestReply", overflow="DropNewest"), "spec.overflow"),
    Bad("no high-water mark", channel(highWaterMark=0), "spec.highWaterMark"),
    Bad("absurd high-water mark", channel(highWaterMark=10**12), "spec.highWaterMark"),
    Bad("negative message size", channel(maxMessageBytes=-1), "spec.maxMessageBytes"),
    Bad("absurd message size", channel(maxMessageBytes=2**63), "spec.maxMessageBytes"),
    Bad("message size as text", channel(maxMessageBytes="8Mi"), "spec.maxMessageBytes"),
    Bad("absurd linger", channel(lingerSeconds=10**9), "spec.lingerSeconds"),
    Bad("no binders", channel(maxBinders=0), "spec.maxBinders"),
    # name servers
    Bad("unknown gate for remote code", name_server(remoteCode="Sealed"), "spec.remoteCode"),
    Bad("unknown security", name_server(security="TLS"), "spec.security"),
    Bad("shutdown too short", name_server(shutdown={"timeoutSeconds": 1}), "spec.shutdown.timeoutSeconds"),
    Bad("absurd shutdown", name_server(shutdown={"timeoutSeconds": 10**9}), "spec.shutdown.timeoutSeconds"),
    Bad("duration as text", name_server(shutdown={"timeoutSeconds": "60s"}), "spec.shutdown.timeoutSeconds"),
    Bad("service account twice", name_server(allowedServiceAccounts=["a", "a"]), "spec.allowedServiceAccounts[1]"),
    Bad("default label that nobody can have", name_server(agentDefaults={"nodeSelector": {"a b": "c"}}), "spec.agentDefaults.nodeSelector"),
    Bad(
        "default resource amount",
        name_server(agentDefaults={"resources": {"limits": {"cpu": "lots"}}}),
        "spec.agentDefaults.resources.limits.cpu",
    ),
    # agents
    Bad("negative replicas", agent(replicas=-1), "spec.replicas"),
    Bad("absurd replicas", agent(replicas=10**30), "spec.replicas"),
    Bad("half a replica", agent(minAvailable=1.5), "spec.minAvailable"),
    Bad("replicas as text", agent(minAvailable="2"), "spec.minAvailable"),
    Bad("truth as text", agent(suspend="yes"), "spec.suspend"),
    Bad("class and container", agent(container={"image": "busybox"}), "spec"),
    Bad("neither class nor container", agent(class_=None), "spec"),
    Bad("class without a module", agent(class_="Worker"), "spec.class"),
    Bad("class with blanks", agent(class_="workers: Worker"), "spec.class"),
    Bad("class in another script", agent(class_="wörker:Wörker"), "spec.class"),
    Bad("huge class", agent(class_="a" * 600 + ":B"), "spec.class"),
    Bad("code from nowhere", agent(code={}), "spec.code"),
    Bad("code from two places", agent(code={"configMapRef": {"name": "c"}, "inline": {"a.py": ""}}), "spec.code"),
    Bad("no inline file", agent(code={"inline": {}}), "spec.code.inline"),
    Bad("inline file in a folder", agent(code={"inline": {"a/b.py": ""}}), "spec.code.inline"),
    Bad("too much inline code", agent(code={"inline": {f"{n}.py": "x" * 100_000 for n in range(4)}}), "spec.code.inline"),
    Bad("code of a container", container(code={"configMapRef": {"name": "c"}}), "spec.code"),
    Bad("image beside a container", container(image="busybox"), "spec.image"),
    Bad("attributes of a container", container(attributes={"a": 1}), "spec.attributes"),
    Bad("attributes are a list", agent(attributes=[1]), "spec.attributes"),
    Bad("timers of a container", container(timers=[{"name": "t", "method": "tick", "periodMilliseconds": 10}]), "spec.timers"),
    Bad("log level of a container", container(logLevel="Debug"), "spec.logLevel"),
    Bad("log level as the standard library spells it", agent(logLevel="DEBUG"), "spec.logLevel"),
    Bad("container in process", container(dataPlane="InProcess"), "spec.dataPlane"),
    Bad("container that speaks Sdk", container(channels=[link(speaks="Sdk")]), "spec.channels"),
    Bad("class that speaks Plain", agent(channels=[link(speaks="Plain")]), "spec.channels"),
    Bad("image with blanks", agent(image="my image"), "spec.image"),
    Bad("empty image", agent(image=""), "spec.image"),
    Bad("container without an image", container(container={}), "spec.container.image"),
    Bad("alias twice", agent(channels=[link(), link(role="Push")]), "spec.channels[1]"),
    Bad("alias with a slash", agent(channels=[link("../x", channel="tasks")]), "spec.channels[0].alias"),
    Bad("empty alias", agent(channels=[link("", channel="tasks")]), "spec.channels[0].alias"),
    Bad("alias of the runtime", agent(channels=[link("control")]), "spec.channels[0].alias"),
    Bad("alias of the planner", agent(channels=[link("dead-letter-tasks")]), "spec.channels[0].alias"),
    Bad("unknown role", agent(channels=[link(role="Pusher")]), "spec.channels[0].role"),
    Bad("null in a list", agent(channels=[None]), "spec.channels[0]"),
    Bad("handler of a sender", agent(channels=[link(role="Push", handler="work")]), "spec.channels[0].handler"),
    Bad("handler that is no identifier", agent(channels=[link(handler="do work")]), "spec.channels[0].handler"),
    Bad("topics of a puller", agent(channels=[link(topics=["a"])]), "spec.channels[0]"),
    Bad("topic twice", agent(channels=[link(role="Sub", topics=["a", "a"])]), "spec.channels[0].topics[1]"),
    Bad("huge topic", agent(channels=[link(role="Sub", topics=["a" * 300])]), "spec.channels[0].topics[0]"),
    Bad(
        "handler and topic handlers",
        agent(channels=[link(role="Sub", handler="h", topicHandlers=[{"topic": "a", "handler": "h"}])]),
        "spec.channels[0]",
    ),
    Bad(
        "topics and topic handlers",
        agent(channels=[link(role="Sub", topics=["a"], topicHandlers=[{"topic": "a", "handler": "h"}])]),
        "spec.channels[0]",
    ),
    Bad("too many channels", agent(channels=[link(f"c{n}") for n in range(65)]), "spec.channels"),
    Bad("timer without a period", agent(timers=[{"name": "t", "method": "tick"}]), "spec.timers[0].periodMilliseconds"),
    Bad(
        "timer that never rests",
        agent(timers=[{"name": "t", "method": "tick", "periodMilliseconds": 0}]),
        "spec.timers[0].periodMilliseconds",
    ),
    Bad("unknown error policy", agent(onError="Ignore"), "spec.onError"),
    Bad("absurd grace", agent(terminationGracePeriodSeconds=10**6), "spec.terminationGracePeriodSeconds"),
    Bad("disruption budget of a job", agent(run="Once", minAvailable=1), "spec.minAvailable"),
    # pod knobs
    Bad("resource amount", agent(resources={"limits": {"memory": "64 megabytes"}}), "spec.resources.limits.memory"),
    Bad("negative resource amount", agent(resources={"requests": {"cpu": -1}}), "spec.resources.requests.cpu"),
    Bad("fraction as a number", agent(resources={"requests": {"cpu": 1.5}}), "spec.resources.requests.cpu"),
    Bad("resource that is no name", agent(resources={"limits": {"c p u": 1}}), "spec.resources.limits"),
    Bad("request above the limit", agent(resources={"requests": {"cpu": 2}, "limits": {"cpu": "500m"}}), "spec.resources.requests"),
    Bad("variable twice", agent(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]), "spec.env[1]"),
    Bad("variable as a number", agent(env=[{"name": "A", "value": 1}]), "spec.env[0].value"),
    Bad("variable of the runtime", agent(env=[{"name": "GANGLION_WIRING", "value": "x"}]), "spec.env[0].name"),
    Bad(
        "variable with two values",
        agent(env=[{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        "spec.env[0]",
    ),
    Bad("variable from nowhere", agent(env=[{"name": "A", "valueFrom": {}}]), "spec.env[0].valueFrom"),
    Bad(
        "variable from a field that is not there",
        agent(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.foo"}}}]),
        "spec.env[0].valueFrom.fieldRef.fieldPath",
    ),
    Bad("NUL in a variable", agent(env=[{"name": "A", "value": "a\0b"}]), "spec.env[0].value"),
    Bad("variables from nowhere", agent(envFrom=[{}]), "spec.envFrom[0]"),
    Bad("volume without a source", agent(volumes=[_volume()]), "spec.volumes[0]"),
    Bad("volume with two sources", agent(volumes=[_volume(emptyDir={}, secret={"secretName": "s"})]), "spec.volumes[0]"),
    Bad("volume of the operator", agent(volumes=[{"name": "ganglion-token", "emptyDir": {}}]), "spec.volumes[0].name"),
    Bad(
        "mount over the sockets",
        agent(volumes=[_volume(emptyDir={})], volumeMounts=[{"name": "data", "mountPath": "/run/ganglion/"}]),
        "spec.volumeMounts[0].mountPath",
    ),
    Bad("mount of nothing", agent(volumeMounts=[{"name": "data", "mountPath": "/data"}]), "spec.volumeMounts"),
    Bad(
        "relative mount",
        agent(volumes=[_volume(emptyDir={})], volumeMounts=[{"name": "data", "mountPath": "data"}]),
        "spec.volumeMounts[0].mountPath",
    ),
    Bad(
        "mount that climbs",
        agent(volumes=[_volume(emptyDir={})], volumeMounts=[{"name": "data", "mountPath": "/data", "subPath": "a/../../b"}]),
        "spec.volumeMounts[0].subPath",
    ),
    Bad("container named like ours", agent(extraContainers=[{"name": "runtime", "image": "busybox"}]), "spec.extraContainers[0].name"),
    Bad("toleration of everything but", agent(tolerations=[{"value": "x"}]), "spec.tolerations[0]"),
    Bad(
        "toleration with a value too many",
        agent(tolerations=[{"key": "a", "operator": "Exists", "value": "x"}]),
        "spec.tolerations[0].value",
    ),
    Bad(
        "toleration that ends without an effect",
        agent(tolerations=[{"key": "a", "operator": "Exists", "tolerationSeconds": 1}]),
        "spec.tolerations[0].tolerationSeconds",
    ),
    Bad(
        "mount of nothing beside the agent",
        agent(extraContainers=[{"name": "log", "image": "a", "volumeMounts": [{"name": "data", "mountPath": "/a"}]}]),
        "spec.extraContainers",
    ),
    Bad("root user", agent(securityContext={"runAsUser": 0}), "spec.securityContext.runAsUser"),
    Bad("privileged", agent(securityContext={"privileged": True}), "spec.securityContext.privileged"),
)

GOOD: dict[str, dict[str, Any]] = {
    "the least name server": {"apiVersion": API, "kind": "NameServer", "metadata": {"name": "demo"}},
    "the least channel": channel(),
    "the least agent": agent(),
    "the longest name": agent("x" * 52),
    "nulls are absent": agent(channels=[link(handler=None)], env=[{"name": "A", "value": None}]) | {"status": None},
    "null takes the default": channel(codec=None, highWaterMark=None, deadLetter=None),
    "null in a mapping": agent(nodeSelector={"zone": None}),
    "nulls in attributes stay": agent(attributes={"a": None, "b": [None, {"c": None}]}),
    "unicode": agent(attributes={"größe": "✓ 𝄞"}, env=[{"name": "A", "value": "ß\n"}]),
    "empty things": agent(attributes={}, channels=[], timers=[], env=[], args=None, volumes=[]),
    "whole numbers with a point": agent(minAvailable=1.0),
    "quantities": agent(resources={"limits": {"cpu": "1500m", "memory": "64Mi", "example.com/gpu": 1}, "requests": {"cpu": 1, "memory": "1e6"}}),
    "a container": container(channels=[link(), link("out", "Push", speaks="Plain")], container={"image": "a", "command": ["/bin/a"], "args": [""]}),
    "everything of a channel": channel(
        bind="Pull", maxBinders=1, codec="Raw", delivery="AtLeastOnce", ack="Handler", highWaterMark=1, maxMessageBytes=1, lingerSeconds=0,
        overflow="DropNewest", barrier={"peers": 2, "timeoutSeconds": 5}, deadLetter={"name": "letters"},
    ),
    "everything of a pair": channel(pattern="Pair", bind="Binder", delivery="AtLeastOnce", ack="Handler", overflow="DropNewest", codec="Json"),
    "everything of dealers and routers": channel(
        pattern="DealerRouter", bind="Dealer", maxBinders=3, delivery="AtLeastOnce", overflow="DropNewest", deadLetter={"name": "letters"},
    ),
    "handlers of dealers and routers": agent(channels=[link("left", "Router", handler="work"), link("right", "Dealer", handler="work")]),
    "a dealer of its own": container(channels=[link("talk", "Dealer")]),
    "handlers of a pair": agent(channels=[link("left", "Binder", handler="work"), link("right", "Connector", handler="work")]),
    "everything of a SyncPub": channel(pattern="SyncPub", bind="SyncPub", maxBinders=2, delivery="BestEffort", codec="Protobuf", messageType="a.B"),
    "handlers of a SyncPub": agent(
        channels=[
            link("feed", "SyncPub", handler="answer"), link("one", "SyncSub", handler="heard", topics=["a"]),
            link("two", "SyncSub", topicHandlers=[{"topic": "a", "handler": "heard"}]),
        ]
    ),
    "messages of a type": channel(codec="Protobuf", messageType="shop.orders.Order_1"),
    "requests and replies of types": channel(pattern="RequestReply", codec="Protobuf", messageType="Order", replyType="shop.Receipt"),
    "signed code": name_server(remoteCode="Signed"),
    "everything of a name server": name_server(
        security="None", shutdown={"timeoutSeconds": 10}, deletionPolicy="Orphan", remoteCode="Trusted", allowedServiceAccounts=["a.b"],
        agentDefaults={"image": "a:b", "imagePullPolicy": "Never", "imagePullSecrets": [{"name": "s"}], "tolerations": [{"operator": "Exists"}]},
        resources={"limits": {"cpu": 1}},
    ),
    "everything of an agent": agent(
        replicas=0, run="Always", code={"inline": {"workers.py": "class Worker: ..."}}, attributes={"a": [1, 2.5, {"b": True}]},
        channels=[link("news", "Sub", topicHandlers=[{"topic": "", "handler": "on_any"}, {"topic": "a", "handler": "on_a"}]), link(handler="work", speaks="Sdk")],
        timers=[{"name": "tick", "method": "tick", "periodMilliseconds": 1, "initialDelayMilliseconds": 0}],
        dataPlane="InProcess", onError="Stop", logLevel="Critical", suspend=True, minAvailable=0, backoffLimit=0, terminationGracePeriodSeconds=5, serviceAccountName="robot",
        env=[{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}, {"name": "GANGLION_LOG_LEVEL", "value": "DEBUG"},
             {"name": "GANGLION_TRUSTED_KEYS_FILE", "value": "/keys/trusted.pem"}, {"name": "GANGLION_SIGNING_KEY_FILE", "value": "/keys/signing.pem"},
             {"name": "GANGLION_DEFAULT_SERIALIZER", "value": "json"}],
        envFrom=[{"prefix": "X_", "secretRef": {"name": "s"}}],
        volumes=[_volume(emptyDir={"medium": "Memory", "sizeLimit": "64Mi"}), {"name": "keys", "secret": {"secretName": "s", "items": [{"key": "a", "path": "b/c"}]}}],
        volumeMounts=[{"name": "data", "mountPath": "/data", "subPath": "a/b", "readOnly": True}],
        extraContainers=[{"name": "log", "image": "busybox", "volumeMounts": [{"name": "data", "mountPath": "/data"}], "resources": {"limits": {"cpu": 1}}}],
        image="example.com/a@sha256:0", nodeSelector={"example.com/zone": "a"}, affinity={"nodeAffinity": {}},
        tolerations=[{"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 1}],
        topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        securityContext={"runAsUser": 1, "runAsGroup": 1, "supplementalGroups": [2]},
    ),
}  # fmt: skip
