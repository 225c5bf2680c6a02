"""Every reason of every condition, from the smallest domain that shows it; and that each heals."""

from __future__ import annotations

from typing import Any

import pytest

from ganglion.api import Agent, Channel, NameServer, load_object
from ganglion.api.rules import DEAD_LETTER_PREFIX
from ganglion.planner import DomainView, NameServerAddress, Verdict, declared_roles, plan_agent, plan_channel
from tests.support.manifests import agent, channel, container, link, name_server, with_metadata

ADDRESS = NameServerAddress("tcp://demo.default.svc.cluster.local.:7500", "k" * 40)
GONE = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def view(*documents: dict[str, Any], keys: bool = True, code: dict[str, str] | None = None) -> DomainView:
    """A domain of parsed manifests; every NameServer has an address unless `keys` is false."""
    parsed: dict[str, dict[str, Any]] = {"NameServer": {}, "Channel": {}, "Agent": {}}
    models: dict[str, Any] = {"NameServer": NameServer, "Channel": Channel, "Agent": Agent}
    for document in documents:
        if "deletionTimestamp" not in document["metadata"]:
            load_object(document)
        parsed[document["kind"]][document["metadata"]["name"]] = models[document["kind"]].parse(document)
    addresses = dict.fromkeys(parsed["NameServer"], ADDRESS) if keys else {}
    return DomainView(parsed["NameServer"], parsed["Channel"], parsed["Agent"], addresses, code or {})


def of_agent(domain: DomainView, kind: str, name: str = "worker") -> Verdict:
    return next(verdict for verdict in plan_agent(domain.agents[name], domain).verdicts if verdict.type == kind)


def of_channel(domain: DomainView, kind: str, name: str = "tasks") -> Verdict:
    return next(verdict for verdict in plan_channel(domain.channels[name], domain).verdicts if verdict.type == kind)


WORKER = agent(channels=[link()])
SENDER = agent("sender", channels=[link(role="Push")])
HEALTHY = (name_server(), channel(), WORKER, SENDER)

AGENT_CASES: dict[str, tuple[tuple[dict[str, Any], ...], str, str, str]] = {
    "all is well": (HEALTHY, "ChannelsResolved", "Resolved", ""),
    "no name server": ((channel(), WORKER), "NameServerResolved", "NotFound", "NameServer 'demo' does not exist"),
    "name server ends": ((with_metadata(name_server(), **GONE), channel(), WORKER), "NameServerResolved", "Deleting", "being deleted"),
    "no channel": ((name_server(), WORKER), "ChannelsResolved", "NotFound", "spec.channels[0].channelRef.name: Channel 'tasks'"),
    "channel ends": ((name_server(), with_metadata(channel(), **GONE), WORKER), "ChannelsResolved", "Deleting", "being deleted"),
    "second channel missing": (
        (name_server(), channel(), agent(channels=[link(), link("b", "Push")])),
        "ChannelsResolved",
        "NotFound",
        "spec.channels[1]",
    ),
    "other name server": (
        (name_server(), name_server("other"), channel(nameServerRef={"name": "other"}), WORKER),
        "ChannelsResolved",
        "OtherNameServer",
        "belongs to NameServer 'other', this agent to 'demo'",
    ),
    "role that the pattern lacks": (
        (name_server(), channel(pattern="PubSub"), WORKER),
        "ChannelsResolved",
        "RoleNotInPattern",
        "spec.channels[0].role: found Pull, but Channel 'tasks' has pattern PubSub; must be Pub or Sub",
    ),
    "codec that runs code": (
        (name_server(), channel(codec="Pickle"), WORKER),
        "ChannelsResolved",
        "CodecForbidden",
        "set spec.remoteCode: Trusted",
    ),
    "two binders": (
        (name_server(), channel(bind="Pull", maxBinders=1), agent(replicas=2, channels=[link()])),
        "ChannelsResolved",
        "TooManyBinders",
        "found 2 replicas",
    ),
    "third in a pair": (
        (name_server(), channel(pattern="Pair"), agent(channels=[link(role="Binder")]), *(agent(f"c{n}", channels=[link(role="Connector")]) for n in "ab")),
        "ChannelsResolved",
        "TooManyPeers",
        "found 2 that take the role Connector",
    ),
    "service account": (
        (name_server(), agent(serviceAccountName="robot")),
        "Accepted",
        "ServiceAccountNotAllowed",
        "'robot' is not in spec.allowedServiceAccounts of NameServer 'demo'",
    ),
    "no code": ((name_server(), agent(code={"configMapRef": {"name": "code"}})), "CodeResolved", "NotFound", "lacks the label ganglion.dev/code"),
    "attributes too large": (
        (name_server(), agent(attributes={"a": "x" * 200_000})),
        "Accepted",
        "WiringTooLarge",
        "must take at most 196608",
    ),
    "too many data ports": (
        (
            name_server(),
            channel("letters"),
            *(channel(f"c{n}", deadLetter={"name": "letters"}) for n in range(33)),
            agent(channels=[link(f"c{n}", "Push") for n in range(33)]),
        ),
        "Accepted",
        "TooManyChannels",
        "found 66 with the dead-letter channels, those with two directions counted twice; must be at most 64",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("documents", "kind", "reason", "text"), AGENT_CASES.values(), ids=AGENT_CASES)
def test_agent_verdict(documents: tuple[dict[str, Any], ...], kind: str, reason: str, text: str) -> None:
    domain = view(*documents)
    verdict = of_agent(domain, kind)
    assert (verdict.reason, verdict.ok) == (reason, reason == "Resolved")
    assert text in verdict.message
    plan = plan_agent(domain.agents["worker"], domain)
    assert (plan.wiring is None) == (plan.intent is None) == (not verdict.ok)


def test_agent_waits_for_keys() -> None:
    assert of_agent(view(*HEALTHY, keys=False), "NameServerResolved").reason == "KeysPending"
    assert of_agent(view(*HEALTHY), "NameServerResolved").ok


@pytest.mark.parametrize("field", ["attributes", "affinity"])
def test_deep_values_are_a_verdict_not_a_crash(field: str) -> None:
    deep: list[Any] = []
    for _ in range(9000):
        deep = [deep]
    body = agent()
    body["spec"][field] = {"a": deep}
    domain = DomainView(
        {"demo": NameServer.parse(name_server())}, {}, {"worker": Agent.parse(body)}, {"demo": ADDRESS}
    )  # what an API server accepts
    verdict = of_agent(domain, "Accepted")
    assert (verdict.reason, verdict.message) == ("TooDeep", f"spec.{field}: nested deeper than 64 levels; flatten it")


CHANNEL_CASES: dict[str, tuple[tuple[dict[str, Any], ...], str, str, str]] = {
    "no name server": ((channel(),), "NameServerResolved", "NotFound", "create it"),
    "name server ends": ((with_metadata(name_server(), **GONE), channel()), "NameServerResolved", "Deleting", "being deleted"),
    "nobody": ((name_server(), channel()), "RolesFilled", "NoPush", "no agent takes the role Push or Pull yet"),
    "no receiver": ((name_server(), channel(), SENDER), "RolesFilled", "NoPull", "no agent takes the role Pull yet"),
    "suspended receivers": (
        (name_server(), channel(), SENDER, agent(suspend=True, channels=[link()])),
        "RolesFilled",
        "NoPull",
        "no agent takes the role Pull yet",
    ),
    "receivers of another name server": (
        (name_server(), channel(), SENDER, agent(nameServerRef={"name": "other"}, channels=[link()])),
        "RolesFilled",
        "NoPull",
        "role Pull",
    ),
    "filled": (HEALTHY, "RolesFilled", "Filled", "1 Push, 1 Pull"),
    "codec that runs code": ((name_server(), channel(codec="Dill")), "Accepted", "CodecForbidden", "spec.codec: Dill can run code"),
    "codec where code is signed": (
        (name_server(remoteCode="Signed"), channel(codec="Dill")),
        "Accepted",
        "CodecForbidden",
        "spec.codec: Dill can run code",
    ),
    "trusted codec": ((name_server(remoteCode="Trusted"), channel(codec="Dill")), "Accepted", "Valid", ""),
    "two binders of two agents": (
        (name_server(), channel(maxBinders=1), SENDER, agent("sender-b", channels=[link(role="Push")])),
        "Accepted",
        "TooManyBinders",
        "spec.maxBinders: found 2 replicas that take the binding role Push; at most 1 may",
    ),
    "one binder, many connectors": ((name_server(), channel(maxBinders=1), SENDER, agent(replicas=9, channels=[link()])), "Accepted", "Valid", ""),
    "half a SyncPub": ((name_server(), channel(pattern="SyncPub"), agent(channels=[link(role="SyncSub")])), "RolesFilled", "NoSyncPub", "the role SyncPub yet"),
    "publisher without subscribers": ((name_server(), channel(pattern="SyncPub"), agent(channels=[link(role="SyncPub")])), "RolesFilled", "NoSyncSub", "the role SyncSub yet"),
    "half a pair": ((name_server(), channel(pattern="Pair"), agent(channels=[link(role="Connector")])), "RolesFilled", "NoBinder", "the role Binder yet"),
    "a pair": (
        (name_server(), channel(pattern="Pair"), agent(channels=[link(role="Connector")]), agent("other", channels=[link(role="Binder")])),
        "RolesFilled",
        "Filled",
        "1 Binder, 1 Connector",
    ),
    "second replica in a pair": (
        (name_server(), channel(pattern="Pair"), agent(replicas=2, channels=[link(role="Binder")])),
        "Accepted",
        "TooManyPeers",
        "spec.pattern: a Pair has one replica in each role, found 2 that take the role Binder: lower replicas",
    ),
    "no dead-letter channel": ((name_server(), channel(deadLetter={"name": "letters"})), "DeadLetterResolved", "NotFound", "'letters' does not exist"),
    "dead letters to itself": ((name_server(), channel(deadLetter={"name": "tasks"})), "DeadLetterResolved", "NotUsable", "another PushPull channel"),
    "dead letters as publications": (
        (name_server(), channel(deadLetter={"name": "letters"}), channel("letters", pattern="PubSub")),
        "DeadLetterResolved",
        "NotUsable",
        "another PushPull channel",
    ),
    "dead letters of another name server": (
        (name_server(), channel(deadLetter={"name": "letters"}), channel("letters", nameServerRef={"name": "other"})),
        "DeadLetterResolved",
        "NotUsable",
        "same NameServer",
    ),
    "dead letters that are refused": (
        (name_server(), channel(deadLetter={"name": "letters"}), channel("letters", codec="Pickle")),
        "DeadLetterResolved",
        "NotUsable",
        "can run code",
    ),
    "dead-letter channel ends": (
        (name_server(), channel(deadLetter={"name": "letters"}), with_metadata(channel("letters"), **GONE)),
        "DeadLetterResolved",
        "Deleting",
        "being deleted",
    ),
    "dead letters": ((name_server(), channel(deadLetter={"name": "letters"}), channel("letters")), "DeadLetterResolved", "Resolved", ""),
}  # fmt: skip


@pytest.mark.parametrize(("documents", "kind", "reason", "text"), CHANNEL_CASES.values(), ids=CHANNEL_CASES)
def test_channel_verdict(documents: tuple[dict[str, Any], ...], kind: str, reason: str, text: str) -> None:
    verdict = of_channel(view(*documents), kind)
    assert (verdict.reason, verdict.ok) == (reason, reason in ("Resolved", "Filled", "Valid"))
    assert text in verdict.message


def _stage(name: str, source: str, target: str) -> dict[str, Any]:
    return agent(name, channels=[link("input", channel=source), link("output", "Push", channel=target)])


def test_ack_cycle_names_its_channels_and_is_broken_by_one() -> None:
    ring = [_stage("s1", "a", "b"), _stage("s2", "b", "c"), _stage("s3", "c", "a"), _stage("exit", "c", "d")]
    channels = [channel(name) for name in "abcd"]
    domain = view(name_server(), *channels, *ring)
    assert of_channel(domain, "Acyclic", "b").message.startswith("causal acknowledgements wait for each other along b → c → a → b;")
    assert [v.type for v in plan_channel(domain.channels["d"], domain).verdicts].count("Acyclic") == 0
    broken = view(name_server(), channel("a", ack="Handler"), *channels[1:], *ring)
    for name in "abcd":
        assert "Acyclic" not in [v.type for v in plan_channel(broken.channels[name], broken).verdicts]


def test_ack_cycle_of_one_channel() -> None:
    domain = view(name_server(), channel("a"), _stage("echo", "a", "a"))
    assert "along a → a;" in of_channel(domain, "Acyclic", "a").message


def test_ack_cycle_through_a_pair() -> None:
    answering = agent("left", channels=[link(role="Binder", channel="talk"), link("out", "Push", channel="a")])
    asking = agent("right", channels=[link("in", channel="a"), link("talk", "Connector", channel="talk")])
    domain = view(name_server(), channel("talk", pattern="Pair"), channel("a"), answering, asking)
    assert "along a → talk → a;" in of_channel(domain, "Acyclic", "a").message
    other_way = [agent("left", channels=[link("in", channel="a"), link(role="Binder", channel="talk")])]
    other_way.append(agent("right", channels=[link("talk", "Connector", channel="talk"), link("out", "Push", channel="a")]))
    domain = view(name_server(), channel("talk", pattern="Pair"), channel("a"), *other_way)
    assert "Acyclic" not in [v.type for name in ("a", "talk") for v in plan_channel(domain.channels[name], domain).verdicts]


@pytest.mark.parametrize("ack", ["Causal", "Handler"])
def test_a_pair_is_a_channel_each_way_under_one_alias(ack: str) -> None:
    ends = (
        agent("left", channels=[link("talk", "Binder", channel="tasks", handler="heard")]),
        container("right", channels=[link("talk", "Connector", channel="tasks")]),
    )
    domain = view(name_server(), channel(pattern="Pair", ack=ack), *ends)
    left, right = (plan_agent(domain.agents[name], domain).wiring for name in ("left", "right"))
    assert left is not None
    assert right is not None
    legs = [
        (
            entry.alias,
            entry.channel,
            entry.role,
            entry.peer_role,
            entry.bind,
            entry.carrier,
            entry.ack,
            entry.speaks,
            entry.inward,
            entry.handler,
        )
        for entry in (*left.channels, *right.channels)
    ]
    assert legs == [
        ("talk", "tasks", "Push", "Pull", True, "Endpoint", "Handler", "Sdk", "talk.in", None),
        ("talk.in", "tasks/back", "Pull", "Push", True, "Endpoint", ack, "Sdk", None, "heard"),
        ("talk", "tasks/back", "Push", "Pull", False, "Endpoint", ack, "Plain", "talk.in", None),
        ("talk.in", "tasks", "Pull", "Push", False, "Endpoint", "Handler", "Plain", None, None),
    ]
    assert {entry.pattern for entry in left.channels} == {"PushPull"}
    assert {entry.declared for entry in left.channels} == {"tasks"}
    assert declared_roles(domain.agents["left"], domain) == {"tasks": {"Push"}, "tasks/back": {"Pull"}}
    assert declared_roles(domain.agents["right"], domain) == {"tasks": {"Pull"}, "tasks/back": {"Push"}}
    plan = plan_channel(domain.channels["tasks"], domain)
    assert (plan.senders, plan.receivers) == (2, 2)


def test_dealers_and_routers_are_wired_as_pairs_are_and_routers_say_for_whom() -> None:
    ends = (
        agent("router", replicas=2, channels=[link("talk", "Router", channel="tasks", handler="heard")]),
        container("dealer", replicas=3, channels=[link("talk", "Dealer", channel="tasks")]),
        agent("reader", channels=[link("letters")]),
    )
    domain = view(name_server(), channel(pattern="DealerRouter", bind="Dealer", deadLetter={"name": "letters"}), channel("letters"), *ends)
    router, dealer = (plan_agent(domain.agents[name], domain).wiring for name in ("router", "dealer"))
    assert router is not None
    assert dealer is not None
    legs = [
        (entry.alias, entry.channel, entry.role, entry.bind, entry.ack, entry.addressed, entry.dead_letter)
        for entry in (*router.channels, *dealer.channels)
    ]
    letter = f"{DEAD_LETTER_PREFIX}talk"
    assert legs == [
        ("talk", "tasks", "Push", False, "Handler", True, letter),
        (letter, "letters", "Push", True, "Causal", False, None),
        ("talk.in", "tasks/back", "Pull", False, "Causal", False, None),
        ("talk", "tasks/back", "Push", True, "Causal", False, letter),
        (letter, "letters", "Push", True, "Causal", False, None),
        ("talk.in", "tasks", "Pull", True, "Handler", False, None),
    ]
    assert declared_roles(domain.agents["router"], domain) == {"tasks": {"Push"}, "tasks/back": {"Pull"}, "letters": {"Push"}}
    assert declared_roles(domain.agents["dealer"], domain) == {"tasks": {"Pull"}, "tasks/back": {"Push"}, "letters": {"Push"}}
    plan = plan_channel(domain.channels["tasks"], domain)
    assert (plan.senders, plan.receivers) == (5, 5)
    assert of_channel(domain, "RolesFilled", "tasks").message == "2 Router, 3 Dealer"
    assert of_channel(domain, "RolesFilled", "letters").message == "5 Push, 1 Pull"


def test_a_sync_pub_is_publications_and_requests_under_one_alias() -> None:
    ends = (
        agent("board", channels=[link("feed", "SyncPub", channel="tasks", handler="answer")]),
        agent("view", replicas=3, channels=[link("feed", "SyncSub", channel="tasks", topics=["a", "b"], handler="heard")]),
    )
    domain = view(name_server(), channel(pattern="SyncPub", codec="Protobuf", messageType="shop.Score"), *ends)
    board, viewer = (plan_agent(domain.agents[name], domain).wiring for name in ("board", "view"))
    assert board is not None
    assert viewer is not None
    legs = [
        (
            entry.alias,
            entry.channel,
            entry.pattern,
            entry.role,
            entry.peer_role,
            entry.bind,
            entry.carrier,
            entry.inward,
            entry.handler,
            entry.topics,
            entry.reply_type,
        )
        for entry in (*board.channels, *viewer.channels)
    ]
    assert legs == [
        ("feed", "tasks", "PubSub", "Pub", "Sub", True, "Proxy", "feed.in", None, ("",), None),
        ("feed.in", "tasks/back", "RequestReply", "Rep", "Req", True, "Endpoint", None, "answer", ("",), "shop.Score"),
        ("feed", "tasks/back", "RequestReply", "Req", "Rep", False, "Endpoint", "feed.in", None, ("",), "shop.Score"),
        ("feed.in", "tasks", "PubSub", "Sub", "Pub", False, "Proxy", None, "heard", ("a", "b"), None),
    ]
    assert {entry.frames for entry in (*board.channels, *viewer.channels)} == {"Ganglion"}
    assert declared_roles(domain.agents["board"], domain) == {"tasks": {"Pub"}, "tasks/back": {"Rep"}}
    assert declared_roles(domain.agents["view"], domain) == {"tasks": {"Sub"}, "tasks/back": {"Req"}}
    plan = plan_channel(domain.channels["tasks"], domain)
    assert (plan.senders, plan.receivers) == (4, 4)
    assert "Acyclic" not in [verdict.type for verdict in plan.verdicts]


def test_long_pipelines_do_not_recurse() -> None:
    length = 3000
    stages = [_stage(f"s{n}", f"c{n}", f"c{(n + 1) % length}") for n in range(length)]
    domain = DomainView(
        {"demo": NameServer.parse(name_server())},
        {f"c{n}": Channel.parse(channel(f"c{n}")) for n in range(length)},
        {stage["metadata"]["name"]: Agent.parse(stage) for stage in stages},
    )
    assert of_channel(domain, "Acyclic", "c7").reason == "AckCycle"


def test_dead_letters_fill_the_sending_role_and_are_authorised() -> None:
    reader = agent("reader", channels=[link("letters")])
    domain = view(name_server(), channel(deadLetter={"name": "letters"}), channel("letters"), SENDER, WORKER, reader)
    assert of_channel(domain, "RolesFilled", "letters").message == "1 Push, 1 Pull"
    assert declared_roles(domain.agents["sender"], domain) == {"tasks": {"Push"}, "letters": {"Push"}}
    assert declared_roles(domain.agents["worker"], domain) == {"tasks": {"Pull"}}
    wiring = plan_agent(domain.agents["sender"], domain).wiring
    assert wiring is not None
    letters = wiring.channel("dead-letter-tasks")
    assert wiring.channel("tasks").dead_letter == "dead-letter-tasks"
    assert (letters.channel, letters.role, letters.bind, letters.speaks, letters.dead_letter) == ("letters", "Push", True, "Sdk", None)


def test_dead_letter_channel_that_cannot_be_used_is_left_out() -> None:
    domain = view(name_server(), channel(deadLetter={"name": "letters"}), SENDER)
    wiring = plan_agent(domain.agents["sender"], domain).wiring
    assert wiring is not None
    assert [entry.alias for entry in wiring.channels] == ["tasks"]
    assert wiring.channel("tasks").dead_letter is None
    assert declared_roles(domain.agents["sender"], domain) == {"tasks": {"Push"}}


@pytest.mark.parametrize(
    ("spec", "carrier", "frames"),
    [
        ({}, "Endpoint", "Ganglion"),
        ({"delivery": "BestEffort"}, "Proxy", "Bare"),
        ({"pattern": "PubSub"}, "Proxy", "Bare"),
        ({"pattern": "RequestReply"}, "Endpoint", "Ganglion"),
    ],
)
def test_plain_legs_make_proxied_channels_bare(spec: dict[str, Any], carrier: str, frames: str) -> None:
    sending, receiving = {"PubSub": ("Pub", "Sub"), "RequestReply": ("Req", "Rep")}.get(spec.get("pattern", ""), ("Push", "Pull"))
    sdk = view(name_server(), channel(**spec), agent(channels=[link(role=receiving)]), agent("other", channels=[link(role=sending)]))
    plain = view(name_server(), channel(**spec), agent(channels=[link(role=receiving)]), container("other", channels=[link(role=sending)]))
    assert (plan_channel(sdk.channels["tasks"], sdk).carrier, plan_channel(sdk.channels["tasks"], sdk).frames) == (carrier, "Ganglion")
    for name in ("worker", "other"):
        wiring = plan_agent(plain.agents[name], plain).wiring
        assert wiring is not None
        assert (wiring.channel("tasks").carrier, wiring.channel("tasks").frames) == (carrier, frames)
        assert wiring.channel("tasks").speaks == ("Plain" if name == "other" else "Sdk")


HEALS: dict[str, tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]] = {
    "name server appears": ((channel(), WORKER), HEALTHY),
    "channel appears": ((name_server(), WORKER), HEALTHY),
    "role is corrected": ((name_server(), channel(), agent(channels=[link(role="Sub")])), HEALTHY),
    "codec becomes trusted": (
        (name_server(), channel(codec="Pickle"), WORKER),
        (name_server(remoteCode="Trusted"), channel(codec="Pickle"), WORKER),
    ),
    "second replica of a pair leaves": (
        (name_server(), channel(pattern="Pair"), agent(replicas=2, channels=[link(role="Binder")])),
        (name_server(), channel(pattern="Pair"), agent(replicas=1, channels=[link(role="Binder")])),
    ),
    "second binder leaves": (
        (name_server(), channel(bind="Pull", maxBinders=1), agent(replicas=2, channels=[link()])),
        (name_server(), channel(bind="Pull", maxBinders=1), agent(replicas=1, channels=[link()])),
    ),
}


@pytest.mark.parametrize(("before", "after"), HEALS.values(), ids=HEALS)
def test_correction_heals(before: tuple[dict[str, Any], ...], after: tuple[dict[str, Any], ...]) -> None:
    broken, mended = view(*before), view(*after)
    assert plan_agent(broken.agents["worker"], broken).wiring is None
    plan = plan_agent(mended.agents["worker"], mended)
    assert plan.wiring is not None
    assert all(verdict.ok for verdict in plan.verdicts)


def test_code_heals_when_the_configmap_appears() -> None:
    documents = (name_server(), agent(code={"configMapRef": {"name": "code"}}))
    assert plan_agent(view(*documents).agents["worker"], view(*documents)).wiring is None
    domain = view(*documents, code={"code": "hash"})
    assert plan_agent(domain.agents["worker"], domain).wiring is not None
