"""Rules of the pod knobs: what Kubernetes would refuse later, when the pod is made, is refused with the manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ganglion.api.base import QUALIFIED_NAME
from ganglion.api.quantity import quantity
from ganglion.api.rule import Rule, has

_SOURCES = ("configMapKeyRef", "secretKeyRef", "fieldRef")
_VOLUMES = ("configMap", "secret", "emptyDir", "persistentVolumeClaim")
RESERVED_CONTAINERS = ("agent", "runtime")
RESERVED_ENV = "GANGLION_"
OPEN_ENV = ("GANGLION_LOG_", "GANGLION_DEFAULT_", "GANGLION_SIGNING_KEY_FILE", "GANGLION_TRUSTED_KEYS_FILE")
"""Beginnings of names that configure the user's own program."""
RESERVED_VOLUME = "ganglion-"
RESERVED_PATHS = ("/run/ganglion", "/etc/ganglion")


def _one_of(fields: tuple[str, ...]) -> str:
    return f"[{', '.join(f'has(self.{field})' for field in fields)}].filter(b, b).size() == 1"


def _count(value: Mapping[str, Any], fields: tuple[str, ...]) -> int:
    return sum(has(value, field) for field in fields)


def _keys(path: str, what: str) -> Rule:
    return Rule(
        path,
        f"self.all(k, k.size() <= 317 && k.matches('{QUALIFIED_NAME}'))",
        f"{what} must be a name of at most 63 letters, digits, dashes, dots and underscores, optionally after a DNS prefix and a slash",
        lambda keys: all(len(k) <= 317 and re.fullmatch(QUALIFIED_NAME.strip("^$"), k) is not None for k in keys),
    )


def resources_rules(path: str) -> tuple[Rule, ...]:
    """Rules of a `resources` block at `path`."""
    return (
        *(_keys(f"{path}.{field}", "each resource") for field in ("limits", "requests")),
        Rule(
            path,
            "!has(self.limits) || !has(self.requests) || self.requests.all(k, !(k in self.limits)"
            " || quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
            "each of `requests` must be at most its limit",
            lambda r: all(
                quantity(amount) <= quantity(r["limits"][name])
                for name, amount in r.get("requests", {}).items()
                if name in r.get("limits", {})
            ),
            field="requests",
        ),
    )


def pod_rules(path: str) -> tuple[Rule, ...]:
    """Rules of the fields that Agents and `agentDefaults` share."""
    return (
        *resources_rules(f"{path}.resources"),
        _keys(f"{path}.nodeSelector", "each label"),
        Rule(
            f"{path}.tolerations[]",
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "`key` must be set, or `operator` must be Exists",
            lambda t: has(t, "key") or t.get("operator") == "Exists",
        ),
        Rule(
            f"{path}.tolerations[]",
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            "`value` must not be set with `operator: Exists`",
            lambda t: t.get("operator") != "Exists" or t.get("value") in (None, ""),
            field="value",
        ),
        Rule(
            f"{path}.tolerations[]",
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "`tolerationSeconds` must go with `effect: NoExecute`",
            lambda t: not has(t, "tolerationSeconds") or t.get("effect") == "NoExecute",
            field="tolerationSeconds",
        ),
    )


def env_rules(path: str) -> tuple[Rule, ...]:
    """Rules of one environment variable at `path`."""
    return (
        Rule(
            path,
            "!has(self.value) || !has(self.valueFrom)",
            "at most one of `value` and `valueFrom` may be set",
            lambda e: not (has(e, "value") and has(e, "valueFrom")),
        ),
        Rule(
            path,
            f"!self.name.startsWith('{RESERVED_ENV}') || {list(OPEN_ENV)}.exists(p, self.name.startsWith(p))",
            f"`name` must not begin with {RESERVED_ENV} (except {OPEN_ENV[0]}*, {OPEN_ENV[1]}*, {OPEN_ENV[2]} and {OPEN_ENV[3]});"
            " the runtime sets those",
            lambda e: not e["name"].startswith(RESERVED_ENV) or e["name"].startswith(OPEN_ENV),
            field="name",
        ),
        Rule(
            f"{path}.valueFrom",
            _one_of(_SOURCES),
            f"exactly one of {', '.join(f'`{s}`' for s in _SOURCES)} must be set",
            lambda v: _count(v, _SOURCES) == 1,
        ),
    )


def mounts_rules(path: str) -> tuple[Rule, ...]:
    """Rules of one volume mount at `path`."""
    return (
        Rule(
            path,
            "!has(self.subPath) || (!self.subPath.startsWith('/') && !self.subPath.split('/').exists(part, part == '..'))",
            "`subPath` must be relative and must not contain `..`",
            lambda m: not has(m, "subPath") or (not m["subPath"].startswith("/") and ".." not in m["subPath"].split("/")),
            field="subPath",
        ),
    )


def _declared(mounts: list[Mapping[str, Any]] | None, volumes: list[Mapping[str, Any]] | None) -> bool:
    names = {volume["name"] for volume in volumes or ()}
    return all(mount["name"] in names for mount in mounts or ())


def container_rules(path: str) -> tuple[Rule, ...]:
    """Rules of volumes, mounts and further containers of an Agent's spec at `path`."""
    return (
        Rule(
            f"{path}.envFrom[]",
            "has(self.configMapRef) != has(self.secretRef)",
            "exactly one of `configMapRef` and `secretRef` must be set",
            lambda e: has(e, "configMapRef") != has(e, "secretRef"),
        ),
        Rule(
            f"{path}.volumes[]",
            _one_of(_VOLUMES),
            f"exactly one of {', '.join(f'`{v}`' for v in _VOLUMES)} must be set",
            lambda v: _count(v, _VOLUMES) == 1,
        ),
        Rule(
            f"{path}.volumes[]",
            f"!self.name.startsWith('{RESERVED_VOLUME}')",
            f"`name` must not begin with `{RESERVED_VOLUME}`; the operator's volumes do",
            lambda v: not v["name"].startswith(RESERVED_VOLUME),
            field="name",
        ),
        Rule(
            f"{path}.volumeMounts[]",
            f"{list(RESERVED_PATHS)}.all(p, self.mountPath != p && !self.mountPath.startsWith(p + '/'))",
            f"`mountPath` must not be in {' or '.join(RESERVED_PATHS)}; sockets, wiring and code are there",
            lambda m: all(m["mountPath"] != p and not m["mountPath"].startswith(p + "/") for p in RESERVED_PATHS),
            field="mountPath",
        ),
        Rule(
            f"{path}.extraContainers[]",
            f"!(self.name in {list(RESERVED_CONTAINERS)})",
            f"`name` must not be {' or '.join(f'`{n}`' for n in RESERVED_CONTAINERS)}",
            lambda c: c["name"] not in RESERVED_CONTAINERS,
            field="name",
        ),
        Rule(
            path,
            "!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            "each of `volumeMounts` must name one of `volumes`",
            lambda s: _declared(s.get("volumeMounts"), s.get("volumes")),
            field="volumeMounts",
        ),
        Rule(
            path,
            "!has(self.extraContainers) || self.extraContainers.all(c, !has(c.volumeMounts) ||"
            " c.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name)))",
            "each of `extraContainers[].volumeMounts` must name one of `volumes`",
            lambda s: all(_declared(c.get("volumeMounts"), s.get("volumes")) for c in s.get("extraContainers") or ()),
            field="extraContainers",
        ),
    )
