"""Rows of the live table and of `ganglion get`, from a supervisor's snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Snapshot = Mapping[str, Any]


class Table(NamedTuple):
    """Column titles and rows of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def condition(item: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition of an object; an Unknown one while there is none."""
    for found in item.get("status", {}).get("conditions", ()):
        if found["type"] == kind:
            return dict(found)
    return {"type": kind, "status": "Unknown", "reason": "Pending", "message": ""}


def objects(snapshot: Snapshot, kind: str) -> list[Mapping[str, Any]]:
    """Objects of one kind, by name."""
    return sorted((item for item in snapshot["objects"] if item["kind"] == kind), key=lambda item: str(item["metadata"]["name"]))


def _restarts(snapshot: Snapshot, agent: str) -> int:
    return sum(int(row["restarts"]) for row in snapshot["replicas"] if row["agent"] == agent)


def name_servers(snapshot: Snapshot, *, wide: bool = False) -> Table:
    """NameServers."""
    columns = ["NAME", "READY", "REASON", "MEMBERS", *(["ENDPOINT", "RESTARTS", "PID"] if wide else [])]
    rows = []
    for item in objects(snapshot, "NameServer"):
        ready, status, process = condition(item, "Ready"), item.get("status", {}), snapshot["nameServer"]
        row = [item["metadata"]["name"], ready["status"], ready["reason"], str(status.get("members", 0))]
        if wide:
            row += [status.get("endpoint") or "", str(process["restarts"]), str(process["pid"] or "")]
        rows.append(row)
    return Table(columns, rows)


def channels(snapshot: Snapshot, *, wide: bool = False) -> Table:
    """Channels and their traffic, in messages."""
    columns = ["NAME", "READY", "REASON", "PATTERN", "ACCEPTED", "ACKED", "IN-FLIGHT", "DELIVERED", "DEAD"]
    columns += ["DROPPED", "UNACCOUNTED", "DELIVERY", "BIND", "SENDERS", "RECEIVERS"] if wide else []
    rows = []
    for item in objects(snapshot, "Channel"):
        ready, status = condition(item, "Ready"), item.get("status", {})
        row = [item["metadata"]["name"], ready["status"], ready["reason"], item["spec"]["pattern"]]
        row += [str(status.get(field, 0)) for field in ("accepted", "acked", "inFlight", "delivered", "deadLettered")]
        if wide:
            row += [str(status.get(field, 0)) for field in ("dropped", "unaccounted")]
            row += [str(status.get(field) or "") for field in ("delivery", "bind", "senders", "receivers")]
        rows.append(row)
    return Table(columns, rows)


def agents(snapshot: Snapshot, *, wide: bool = False) -> Table:
    """Agents; with `wide` what the reason says."""
    columns = ["NAME", "READY", "REASON", "REPLICAS", "RUN", "DONE", "RESTARTS", *(["PLANE", "CLASS", "MESSAGE"] if wide else [])]
    rows = []
    for item in objects(snapshot, "Agent"):
        ready, status, spec = condition(item, "Ready"), item.get("status", {}), item["spec"]
        name, once = item["metadata"]["name"], spec.get("run") == "Once"
        row = [
            name,
            ready["status"],
            ready["reason"],
            f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}",
            spec.get("run", "Always"),
        ]
        row += [f"{status.get('succeeded', 0)}/{spec.get('replicas', 1)}" if once else "", str(_restarts(snapshot, name))]
        if wide:
            program = spec.get("class") or " ".join((spec.get("container") or {}).get("command") or ())
            row += [spec.get("dataPlane", "Sidecar"), program, str(ready["message"])]
        rows.append(row)
    return Table(columns, rows)


def replicas(snapshot: Snapshot) -> Table:
    """Processes."""
    columns = ["REPLICA", "PHASE", "READY", "STATE", "RESTARTS", "PID", "SIDECAR", "MESSAGE"]
    rows = [
        [
            row["name"],
            row["phase"],
            str(bool(row["ready"])),
            row["state"],
            str(row["restarts"]),
            str(row["pid"] or ""),
            str(row["sidecarPid"] or ""),
            row["message"] or "",
        ]
        for row in snapshot["replicas"]
    ]
    return Table(columns, rows)


def as_text(table: Table) -> str:
    """Aligned columns, as kubectl prints them."""
    widths = [max(len(row[index]) for row in (table.columns, *table.rows)) for index in range(len(table.columns))]
    lines = (
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (table.columns, *table.rows)
    )
    return "\n".join(lines)
