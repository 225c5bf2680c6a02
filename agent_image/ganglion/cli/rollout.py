"""Waits until the agents of a detached domain are ready, as `kubectl rollout status` waits for pods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ganglion.cli.common import wait_until
from ganglion.cli.errors import EXIT_CONFIGURATION, EXIT_FAILURE, Failure

QUIET_SECONDS = 1.0
"""A domain that is ready so soon prints no progress."""
_LOOK_SECONDS = 0.1


class Rollout:
    """What is still missing of a domain, from snapshots of its supervisor. Pure."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        """Agent → `reason: message` of those that are not ready."""

    def look(self, snapshot: Mapping[str, Any]) -> bool:
        """Judge a snapshot; whether every agent is ready, has finished, or is suspended.

        Raises:
            Failure: an agent cannot start, or has failed for good, or the domain ends.
        """
        from ganglion.local import tables

        if snapshot["ending"]:
            raise Failure(f"domain {snapshot['domain']}: {snapshot['ending']}")
        self.missing = {}
        for item in tables.objects(snapshot, "Agent"):
            name, ready = str(item["metadata"]["name"]), tables.condition(item, "Ready")
            if ready["status"] == "True" or ready["reason"] == "Suspended":
                continue
            self.missing[name] = f"{ready['reason']}: {ready['message']}" if ready["message"] else str(ready["reason"])
        faults = [(name, code) for name in self.missing if (code := _failed(snapshot, name))]
        if faults:
            lines = "\n".join(f"Agent/{name}: {self.missing[name]}" for name, _ in faults)
            raise Failure(f"{lines}\n{_what_next(str(snapshot['domain']))}", max(code for _, code in faults))
        return bool(snapshot["started"]) and not self.missing


def _failed(snapshot: Mapping[str, Any], agent: str) -> int:
    """Exit code that the agent's state calls for: it does not become ready without a change. 0: it still may.

    The reason of its condition would not do: it speaks of the last failure until the next start has succeeded.
    """
    rows = [row for row in snapshot["replicas"] if row["agent"] == agent]
    if any(row["exitCode"] == EXIT_CONFIGURATION and row["phase"] == "Running" and row["state"] != "Running" for row in rows):
        return EXIT_CONFIGURATION
    return EXIT_FAILURE if any(row["phase"] == "Failed" for row in rows) else 0


def _what_next(domain: str) -> str:
    return f"domain {domain} goes on; correct it and run the same command again, or end it: ganglion down"


def wait(domain: str, run: Path, seconds: float) -> None:
    """Wait for the agents, and say every few moments who is missing.

    Args:
        run: run directory of the domain.
        seconds: bound.
    Raises:
        Failure: see `Rollout.look`; or the time is over; or the supervisor has ended.
    """
    from ganglion.local import protocol

    rollout = Rollout()
    told = ""

    def done() -> bool:
        try:
            return rollout.look(protocol.call(run, "status"))
        except protocol.CommandError as error:
            raise Failure(f"domain {domain}: {error}; see its log: ganglion logs AGENT -d {domain}") from error

    def done_or_told() -> bool:
        nonlocal told
        if done():
            return True
        text = f"waiting for {', '.join(f'{name} ({why})' for name, why in rollout.missing.items())}"
        if rollout.missing and text != told:
            told = text
            click.echo(text)
        return False

    if wait_until(done, min(QUIET_SECONDS, seconds), interval=_LOOK_SECONDS):
        return
    if not wait_until(done_or_told, seconds - QUIET_SECONDS, interval=_LOOK_SECONDS):
        lines = "\n".join(f"Agent/{name}: {why}" for name, why in rollout.missing.items())
        raise Failure(f"{lines}\nnot ready within {seconds:g} s (--timeout); {_what_next(domain)}")
