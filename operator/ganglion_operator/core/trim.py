"""What the store keeps of an object: enough to decide with, small enough for thousands.

Specs of workloads are kept as compressed JSON text: as nested dicts a thousand of them would cost tens of megabytes.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from typing import Any

import msgspec

from ganglion.api.names import ANNOTATION_WIRING
from ganglion_operator.core.kinds import Body, Kind

_METADATA = (
    "name", "namespace", "uid", "resourceVersion", "generation", "labels", "annotations", "ownerReferences",
    "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
)  # fmt: skip
_DROPPED_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration", ANNOTATION_WIRING)
_TERMINATED = ("exitCode", "reason", "message", "signal")


SHARED_LENGTH = 64


def _shared(value: Any) -> Any:
    """The same value with its field names and short strings kept once for all objects: thousands of them say the same."""
    if isinstance(value, dict):
        return {sys.intern(key): _shared(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_shared(child) for child in value]
    return sys.intern(value) if type(value) is str and len(value) <= SHARED_LENGTH else value


class Trimmed(dict[str, Any]):
    """A body that has been trimmed."""


def _metadata(raw: Body) -> Body:
    metadata = {key: raw[key] for key in _METADATA if raw.get(key) is not None}
    annotations = metadata.get("annotations")
    if annotations and any(key in annotations for key in _DROPPED_ANNOTATIONS):
        metadata["annotations"] = {key: value for key, value in annotations.items() if key not in _DROPPED_ANNOTATIONS}
    return metadata


def _state(state: Body | None) -> Body:
    out: Body = {}
    for name, detail in (state or {}).items():
        if name == "terminated":
            out[name] = {key: detail[key] for key in _TERMINATED if key in detail}
        elif name == "waiting":
            out[name] = {key: detail[key] for key in ("reason", "message") if key in detail}
        else:
            out[name] = {}
    return out


def _container(status: Body) -> Body:
    return {
        "name": status.get("name", ""),
        "ready": status.get("ready", False),
        "restartCount": status.get("restartCount", 0),
        "state": _state(status.get("state")),
        "lastState": _state(status.get("lastState")),
    }


def _pod(raw: Body) -> Body:
    spec, status = raw.get("spec") or {}, raw.get("status") or {}
    kept: Body = {key: status[key] for key in ("phase", "reason", "message") if key in status}
    kept["conditions"] = [
        {key: condition[key] for key in ("type", "status", "reason", "message") if key in condition}
        for condition in status.get("conditions") or ()
        if condition.get("type") in ("Ready", "PodScheduled")
    ]
    for field in ("initContainerStatuses", "containerStatuses"):
        kept[field] = [_container(entry) for entry in status.get(field) or ()]
    return {"spec": {"nodeName": spec.get("nodeName")}, "status": kept}


def content_hash(data: Any) -> str:
    """Hash of a ConfigMap's `data` and `binaryData`, or of any other JSON value."""
    return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()[:32]


def _spec_text(raw: Body, known: Body | None) -> bytes:
    """The spec as compressed JSON; that of `known` when the API server has counted no change of the spec since then."""
    if known is not None and "specText" in known:
        metadata, before = raw["metadata"], known["metadata"]
        if metadata.get("generation") is not None and all(metadata.get(name) == before.get(name) for name in ("uid", "generation")):
            found: bytes = known["specText"]
            return found
    # Level 1: most of the gain in the least time.
    return zlib.compress(msgspec.json.encode(raw.get("spec") or {}), 1)


def trim(kind: Kind, raw: Body, known: Body | None = None) -> Body:
    """The part of `raw` that decisions are made of.

    A ConfigMap's content becomes `contentHash`; a workload's spec becomes `specText` (see `spec_of`); a Secret keeps its public part only.

    Args:
        known: an earlier picture of the object, trimmed.
    """
    if isinstance(raw, Trimmed):
        return raw
    body: Body = {"metadata": _metadata(raw.get("metadata") or {})}
    match kind.kind:
        case "NameServer" | "Channel" | "Agent":
            body |= {"apiVersion": kind.api_version, "kind": kind.kind, "spec": raw.get("spec") or {}, "status": raw.get("status") or {}}
        case "Pod":
            body |= _pod(raw)
        case "ConfigMap":
            body["contentHash"] = content_hash([raw.get("data") or {}, raw.get("binaryData") or {}])
        case "Secret":
            body |= {"data": {key: value for key, value in (raw.get("data") or {}).items() if key == "public"}}
        case "StatefulSet" | "Job" | "Service" | "PodDisruptionBudget":
            body |= {"specText": _spec_text(raw, known), "status": raw.get("status") or {}}
        case "Role":
            body["rules"] = raw.get("rules") or []
        case "RoleBinding":
            body |= {"roleRef": raw.get("roleRef") or {}, "subjects": raw.get("subjects") or []}
        case _:
            body |= {key: value for key, value in raw.items() if key not in ("metadata", "apiVersion", "kind")}
    return Trimmed(_shared(body))


def spec_of(body: Body) -> Body:
    """Spec of a trimmed workload."""
    text = body.get("specText")
    loaded: Body = msgspec.json.decode(zlib.decompress(text)) if text else {}
    return loaded
