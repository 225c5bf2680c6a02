"""Rules between fields, once for both worlds: the CEL text goes into the CRDs, the Python check serves manifests on a laptop.

A test sends every bad manifest to both and compares the verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ganglion.api.channel import ACKNOWLEDGED, RECEIVING, ROLES
from ganglion.api.podrules import container_rules, env_rules, mounts_rules, pod_rules, resources_rules
from ganglion.api.rule import Rule, has

DEAD_LETTER_PREFIX = "dead-letter-"
"""Aliases that the planner adds for dead letters begin so."""

MAX_INLINE = 262000
"""Characters of up to four bytes: inline files fit in a ConfigMap, which holds 1 MiB."""


def _immutable(path: str) -> Rule:
    return Rule(path, "self == oldSelf", f"`{path.rsplit('.', 1)[1]}` is immutable; delete the object and create it again", None)


_NAME_SERVER = (
    Rule(
        "spec",
        # Without defaults, too: the schema's own default of `spec` is judged before they are filled in.
        "!has(self.adHoc) || self.adHoc == 'Forbidden' || !has(self.security) || self.security == 'Curve'",
        "`adHoc: Allowed` must go with `security: Curve`; what such programs send each other is trusted",
        lambda s: s["adHoc"] == "Forbidden" or s["security"] == "Curve",
        field="adHoc",
    ),
    Rule(
        "spec",
        "!has(self.templates) || size(self.templates) == 0 || (has(self.adHoc) && self.adHoc == 'Allowed')",
        "`templates` must go with `adHoc: Allowed`; the copies are agents that no manifest declares",
        lambda s: not s["templates"] or s["adHoc"] == "Allowed",
        field="templates",
    ),
    *pod_rules("spec.agentDefaults"),
    *resources_rules("spec.resources"),
)

_CHANNEL = (
    _immutable("spec.nameServerRef"),
    _immutable("spec.pattern"),
    Rule(
        "spec",
        "!has(self.bind) || (self.pattern == 'PushPull' && self.bind in ['Push', 'Pull']) || (self.pattern == 'PubSub' && self.bind in ['Pub', 'Sub'])"
        " || (self.pattern == 'RequestReply' && self.bind in ['Rep', 'Req']) || (self.pattern == 'Pair' && self.bind == 'Binder')"
        " || (self.pattern == 'DealerRouter' && self.bind in ['Router', 'Dealer']) || (self.pattern == 'SyncPub' && self.bind == 'SyncPub')",
        "`bind` must be a role of the pattern: Push or Pull, Pub or Sub, Rep or Req, Router or Dealer; of a Pair, Binder; of a SyncPub, SyncPub",
        lambda s: not has(s, "bind") or (s["bind"] in ROLES[s["pattern"]] and s["bind"] not in ("Connector", "SyncSub")),
        field="bind",
    ),
    Rule(
        "spec",
        "!has(self.delivery) || self.delivery == 'BestEffort' || self.pattern in ['PushPull', 'Pair', 'DealerRouter']",
        "`delivery: AtLeastOnce` must go with `pattern: PushPull`, `Pair` or `DealerRouter`",
        lambda s: s.get("delivery") in (None, "BestEffort") or s["pattern"] in ACKNOWLEDGED,
        field="delivery",
    ),
    Rule(
        "spec",
        "!has(self.delivery) || self.delivery == 'AtLeastOnce' || !(self.pattern in ['Pair', 'DealerRouter'])",
        "`delivery: BestEffort` must not go with `pattern: Pair` or `DealerRouter`; these are acknowledged",
        lambda s: s.get("delivery") in (None, "AtLeastOnce") or s["pattern"] not in ("Pair", "DealerRouter"),
        field="delivery",
    ),
    Rule(
        "spec",
        "!has(self.deadLetter) || (self.pattern in ['PushPull', 'DealerRouter'] && (!has(self.delivery) || self.delivery == 'AtLeastOnce'))",
        "`deadLetter` must go with an acknowledged channel: `pattern: PushPull` or `DealerRouter`, and `delivery: AtLeastOnce`",
        lambda s: not has(s, "deadLetter") or (s["pattern"] in ("PushPull", "DealerRouter") and s.get("delivery") in (None, "AtLeastOnce")),
        field="deadLetter",
    ),
    Rule(
        "spec",
        "!has(self.barrier) || self.pattern in ['PushPull', 'PubSub']",
        "`barrier` must go with `pattern: PushPull` or `pattern: PubSub`; elsewhere a message waits for its receiver, or a receiver asks for what it missed",
        lambda s: not has(s, "barrier") or s["pattern"] in ("PushPull", "PubSub"),
        field="barrier",
    ),
    Rule(
        "spec",
        "self.overflow == 'Block' || !(self.pattern in ['RequestReply', 'SyncPub'])",
        "`overflow: DropNewest` must go with `pattern: PushPull`, `PubSub`, `Pair` or `DealerRouter`",
        lambda s: s["overflow"] == "Block" or s["pattern"] not in ("RequestReply", "SyncPub"),
        field="overflow",
    ),
    Rule(
        "spec",
        "has(self.messageType) == (self.codec == 'Protobuf')",
        "`messageType` must be set with `codec: Protobuf`, and only there",
        lambda s: has(s, "messageType") == (s["codec"] == "Protobuf"),
        field="messageType",
    ),
    Rule(
        "spec",
        "has(self.replyType) == (self.codec == 'Protobuf' && self.pattern == 'RequestReply')",
        "`replyType` must be set with `codec: Protobuf` and `pattern: RequestReply`, and only there",
        lambda s: has(s, "replyType") == (s["codec"] == "Protobuf" and s["pattern"] == "RequestReply"),
        field="replyType",
    ),
)

_ONE_CHANNEL = (
    Rule(
        "spec.channels[]",
        f"self.alias != 'control' && !self.alias.startsWith('{DEAD_LETTER_PREFIX}')",
        f"`alias` must not be `control` or begin with `{DEAD_LETTER_PREFIX}`; the runtime uses those",
        lambda c: c["alias"] != "control" and not c["alias"].startswith(DEAD_LETTER_PREFIX),
        field="alias",
    ),
    Rule(
        "spec.channels[]",
        "!has(self.handler) || !has(self.topicHandlers)",
        "at most one of `handler` and `topicHandlers` may be set",
        lambda c: not (has(c, "handler") and has(c, "topicHandlers")),
    ),
    Rule(
        "spec.channels[]",
        "!has(self.topics) || !has(self.topicHandlers)",
        "at most one of `topics` and `topicHandlers` may be set; the handlers' topics are subscribed",
        lambda c: not (has(c, "topics") and has(c, "topicHandlers")),
    ),
    Rule(
        "spec.channels[]",
        "self.role in ['Sub', 'SyncSub'] || (!has(self.topics) && !has(self.topicHandlers))",
        "`topics` and `topicHandlers` must go with `role: Sub` or `role: SyncSub`",
        lambda c: c["role"] in ("Sub", "SyncSub") or (not has(c, "topics") and not has(c, "topicHandlers")),
    ),
    Rule(
        "spec.channels[]",
        "!has(self.handler) || self.role in ['Pull', 'Sub', 'Rep', 'Binder', 'Connector', 'Router', 'Dealer', 'SyncPub', 'SyncSub']",
        "`handler` must go with a receiving role: Pull, Sub, Rep, Binder, Connector, Router, Dealer, SyncPub or SyncSub",
        lambda c: not has(c, "handler") or c["role"] in RECEIVING,
        field="handler",
    ),
)

_AGENT = (
    _immutable("spec.nameServerRef"),
    _immutable("spec.run"),
    Rule(
        "spec",
        "has(self.class) != has(self.container)",
        "exactly one of `class` and `container` must be set",
        lambda s: has(s, "class") != has(s, "container"),
    ),
    Rule(
        "spec",
        "!has(self.code) || has(self.class)",
        "`code` must go with `class`",
        lambda s: not has(s, "code") or has(s, "class"),
        field="code",
    ),
    Rule(
        "spec",
        "!has(self.attributes) || has(self.class)",
        "`attributes` must go with `class`; a program of its own takes `container.args` or `env`",
        lambda s: not has(s, "attributes") or has(s, "class"),
        field="attributes",
    ),
    Rule(
        "spec",
        "!has(self.image) || has(self.class)",
        "`image` must go with `class`; set `container.image`",
        lambda s: not has(s, "image") or has(s, "class"),
        field="image",
    ),
    Rule(
        "spec.code",
        "has(self.configMapRef) != has(self.inline)",
        "exactly one of `configMapRef` and `inline` must be set",
        lambda c: has(c, "configMapRef") != has(c, "inline"),
    ),
    Rule(
        "spec.code.inline",
        "self.all(name, name.size() >= 1 && name.size() <= 253 && name.matches('^[-._a-zA-Z0-9]+$'))",
        "file names must consist of 1 to 253 letters, digits, dots, dashes and underscores",
        None,  # the model's key type says the same
    ),
    Rule(
        "spec.code.inline",
        f"self.map(name, self[name].size()).sum() <= {MAX_INLINE}",
        f"inline files must have at most {MAX_INLINE} characters together; use a ConfigMap or an image",
        lambda files: sum(map(len, files.values())) <= MAX_INLINE,
    ),
    Rule(
        "spec",
        "self.dataPlane == 'Sidecar' || has(self.class)",
        "`dataPlane: InProcess` must go with `class`",
        lambda s: s["dataPlane"] == "Sidecar" or has(s, "class"),
        field="dataPlane",
    ),
    Rule(
        "spec",
        "!has(self.logLevel) || has(self.class)",
        "`logLevel` must go with `class`; a program of its own takes `container.args` or `env`",
        lambda s: not has(s, "logLevel") or has(s, "class"),
        field="logLevel",
    ),
    Rule(
        "spec",
        "size(self.timers) == 0 || has(self.class)",
        "`timers` must go with `class`",
        lambda s: not s["timers"] or has(s, "class"),
        field="timers",
    ),
    Rule(
        "spec",
        "!has(self.minAvailable) || self.run == 'Always'",
        "`minAvailable` must go with `run: Always`",
        lambda s: not has(s, "minAvailable") or s["run"] == "Always",
        field="minAvailable",
    ),
    Rule(
        "spec",
        "!has(self.container) || self.channels.all(c, !has(c.handler) && !has(c.topicHandlers) && (!has(c.speaks) || c.speaks == 'Plain'))",
        "channels of a `container` agent must not have `handler`, `topicHandlers` or `speaks: Sdk`",
        lambda s: (
            not has(s, "container")
            or all(not has(c, "handler") and not has(c, "topicHandlers") and c.get("speaks") != "Sdk" for c in s["channels"])
        ),
        field="channels",
    ),
    Rule(
        "spec",
        "!has(self.class) || self.channels.all(c, !has(c.speaks) || c.speaks == 'Sdk')",
        "channels of a `class` agent must not have `speaks: Plain`; use `container` for plain ZeroMQ programs",
        lambda s: not has(s, "class") or all(c.get("speaks") != "Plain" for c in s["channels"]),
        field="channels",
    ),
    Rule(
        "spec",
        "!has(self.container) || self.channels.all(c, c.role != 'Router')",
        "channels of a `container` agent must not have `role: Router`; plain ZeroMQ sockets cannot name a Dealer: use `class`, or be a Dealer",
        lambda s: not has(s, "container") or all(c["role"] != "Router" for c in s["channels"]),
        field="channels",
    ),
    Rule(
        "spec",
        "!has(self.container) || self.channels.all(c, !(c.role in ['SyncPub', 'SyncSub']))",
        "channels of a `container` agent must not have the roles SyncPub and SyncSub, which need the SDK; use a PubSub and a RequestReply",
        lambda s: not has(s, "container") or all(c["role"] not in ("SyncPub", "SyncSub") for c in s["channels"]),
        field="channels",
    ),
    *_ONE_CHANNEL,
    *pod_rules("spec"),
    *container_rules("spec"),
    *env_rules("spec.env[]"),
    *env_rules("spec.extraContainers[].env[]"),
    *mounts_rules("spec.volumeMounts[]"),
    *mounts_rules("spec.extraContainers[].volumeMounts[]"),
    *resources_rules("spec.extraContainers[].resources"),
)

RULES: dict[str, tuple[Rule, ...]] = {"NameServer": _NAME_SERVER, "Channel": _CHANNEL, "Agent": _AGENT}


def _targets(value: Any, parts: list[str], path: str) -> Iterator[tuple[str, Any]]:
    if value is None:
        return
    if not parts:
        yield path, value
        return
    name, *rest = parts
    field = name.removesuffix("[]")
    child = value.get(field) if isinstance(value, Mapping) else None
    here = f"{path}.{field}" if path else field
    if name.endswith("[]"):
        for index, item in enumerate(child or ()):
            yield from _targets(item, rest, f"{here}[{index}]")
    else:
        yield from _targets(child, rest, here)


def violations(kind: str, document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field path, message) of each rule that the object breaks.

    Args:
        kind: "NameServer", "Channel" or "Agent".
        document: structurally valid, with defaults applied and nulls removed, as the API server would store it.
    """
    for rule in RULES[kind]:
        if rule.check is None:
            continue
        for path, value in _targets(document, rule.path.split("."), ""):
            if not rule.check(value):
                yield (f"{path}.{rule.field}" if rule.field else path), rule.message
