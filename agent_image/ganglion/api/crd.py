"""CustomResourceDefinitions from the models: structural schemas with CEL rules, columns and subresources."""

from __future__ import annotations

import copy
import functools
from typing import Any

from ganglion.api.agent import Agent
from ganglion.api.base import GROUP, MAX_NAME, NAME_PATTERN, VERSION, Resource
from ganglion.api.channel import Channel
from ganglion.api.nameserver import NameServer
from ganglion.api.rules import RULES

KINDS: dict[str, type[Resource]] = {"NameServer": NameServer, "Channel": Channel, "Agent": Agent}
PLURALS = {"NameServer": "nameservers", "Channel": "channels", "Agent": "agents"}
SHORT_NAMES = {"NameServer": "zns", "Channel": "zch", "Agent": "zag"}
CATEGORY = "ganglion"


def _column(name: str, path: str, kind: str = "string", *, priority: int = 0, description: str = "") -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if priority:
        column["priority"] = priority
    if description:
        column["description"] = description
    return column


_READY = _column("Ready", '.status.conditions[?(@.type=="Ready")].status', description="Whether the object works as described.")
_REASON = _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', description="Why it is Ready, or why not.")
_MESSAGE = _column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1)
_OWNER = _column("NameServer", ".spec.nameServerRef.name")
_AGE = _column("Age", ".metadata.creationTimestamp", "date")

COLUMNS: dict[str, list[dict[str, Any]]] = {
    "NameServer": [
        _READY,
        _REASON,
        _column("Members", ".status.members", "integer", description="Replicas with a live lease."),
        _column("Security", ".spec.security", priority=1),
        _column("Endpoint", ".status.endpoint", priority=1),
        _MESSAGE,
        _AGE,
    ],
    "Channel": [
        _READY,
        _REASON,
        _column("Pattern", ".spec.pattern"),
        _column("Delivery", ".status.delivery"),
        _OWNER,
        _column("Accepted", ".status.accepted", "integer", description="Messages accepted from senders."),
        _column("InFlight", ".status.inFlight", "integer", description="Messages not settled yet."),
        _column("Delivered", ".status.delivered", "integer", priority=1),
        _column("DeadLettered", ".status.deadLettered", "integer", priority=1),
        _MESSAGE,
        _AGE,
    ],
    "Agent": [
        _READY,
        _REASON,
        _OWNER,
        _column("Pods", ".status.readyReplicas", "integer", description="Pods that are Ready."),
        _column("Desired", ".spec.replicas", "integer"),
        _column("Run", ".spec.run", priority=1),
        _column("Joined", ".status.joined", "integer", priority=1, description="Replicas with a live lease."),
        _MESSAGE,
        _AGE,
    ],
}

SUBRESOURCES: dict[str, dict[str, Any]] = {
    "NameServer": {"status": {}},
    "Channel": {"status": {}},
    "Agent": {
        "status": {},
        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"},
    },
}


def _structural(node: Any, definitions: dict[str, Any]) -> Any:
    """JSON Schema as pydantic writes it → Kubernetes structural schema: references inlined, nullable unions and titles removed."""
    if isinstance(node, list):
        return [_structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    node = dict(node)
    reference = node.pop("$ref", None)
    if reference is not None:
        node = {**copy.deepcopy(definitions[reference.rsplit("/", 1)[1]]), **node}
    union = node.get("anyOf")
    if union is not None and "x-kubernetes-int-or-string" not in node:
        branches = [branch for branch in union if branch.get("type") != "null"]
        if len(branches) == 1:
            del node["anyOf"]
            node = {**branches[0], **node}
            return _structural(node, definitions)
        if any("x-kubernetes-int-or-string" in branch for branch in branches):
            raise AssertionError("int-or-string must be declared through Quantity")
    if node.get("x-kubernetes-int-or-string"):
        node.pop("type", None)
    node.pop("title", None)
    if node.get("default", ...) is None:
        del node["default"]
    constant = node.pop("const", None)
    if constant is not None:
        node["enum"] = [constant]
    if node.get("x-kubernetes-preserve-unknown-fields"):
        node.pop("additionalProperties", None)
    properties = node.get("properties")
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: _structural(child, definitions) for name, child in (properties or {}).items()}
        elif key in ("default", "enum", "required", "x-kubernetes-list-map-keys"):
            out[key] = value
        elif key == "propertyNames":
            continue  # structural schemas cannot express it; a CEL rule does
        elif key == "patternProperties":
            # What pydantic writes for a map with a key pattern; the pattern itself is a CEL rule.
            out["additionalProperties"] = _structural(next(iter(value.values())), definitions)
        else:
            out[key] = _structural(value, definitions)
    return out


def _list_types(schema: dict[str, Any]) -> None:
    """Every list says how it is merged; those without keys are replaced as a whole."""
    if schema.get("type") == "array":
        schema.setdefault("x-kubernetes-list-type", "atomic")
    for child in (*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")):
        if isinstance(child, dict):
            _list_types(child)


def _add_rules(kind: str, schema: dict[str, Any]) -> None:
    for rule in RULES[kind]:
        target = schema
        for part in rule.path.split("."):
            target = target["properties"][part.removesuffix("[]")]
            if part.endswith("[]"):
                target = target["items"]
        target.setdefault("x-kubernetes-validations", []).append(rule.validation())


@functools.cache
def openapi_schema(kind: str) -> dict[str, Any]:
    """The structural OpenAPI v3 schema of one kind, with its CEL rules.

    Args:
        kind: "NameServer", "Channel" or "Agent".
    Returns:
        a cached value; copy it before changing it.
    """
    raw = KINDS[kind].model_json_schema(by_alias=True, mode="validation")
    definitions = raw.pop("$defs", {})
    schema: dict[str, Any] = _structural(raw, definitions)
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string", "description": f"{GROUP}/{VERSION}"}
    properties["kind"] = {"type": "string", "description": kind}
    properties["metadata"] = {"type": "object", "properties": {"name": {"type": "string", "maxLength": MAX_NAME, "pattern": NAME_PATTERN}}}
    schema["required"] = [name for name in schema.get("required", ()) if name != "metadata"]
    if not schema["required"]:
        del schema["required"]
    _list_types(schema)
    _add_rules(kind, schema)
    return schema


def definition(kind: str) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    plural = PLURALS[kind]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [SHORT_NAMES[kind]],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": openapi_schema(kind)},
                    "subresources": SUBRESOURCES[kind],
                    "additionalPrinterColumns": COLUMNS[kind],
                }
            ],
        },
    }
