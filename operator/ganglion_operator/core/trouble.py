"""What is wrong with an agent's pods, in words that its user understands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from ganglion_operator.core.kinds import Body
from ganglion_operator.core.rollout import deleting, parse_time, ready

EXIT_CONFIGURATION = 78
"""sysexits.h EX_CONFIG: the class cannot be imported, or its constructor raised."""
NO_PODS_SECONDS = 30.0
"""How long the cluster may take to make the first pod before the status says so."""
MESSAGE_LIMIT = 1024

_WAITING = {
    "ImagePullBackOff": "ImagePullBackOff",
    "ErrImagePull": "ImagePullBackOff",
    "ErrImageNeverPull": "ImagePullBackOff",
    "RegistryUnavailable": "ImagePullBackOff",
    "InvalidImageName": "InvalidImageName",
    "CreateContainerConfigError": "CreateContainerConfigError",
    "CreateContainerError": "CreateContainerError",
    "RunContainerError": "RunContainerError",
}


class Trouble(NamedTuple):
    """One finding; the highest rank is shown."""

    rank: int
    reason: str
    message: str


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


def _ended(name: str, terminated: Body) -> tuple[str, str]:
    code = terminated.get("exitCode")
    message = str(terminated.get("message") or "").strip()
    if code == EXIT_CONFIGURATION:
        return (
            "ClassNotLoadable" if message.startswith("class") else "ConfigurationError"
        ), message or f"container {name} exited with {code}"
    if terminated.get("reason") == "OOMKilled":
        return "OOMKilled", f"container {name} ran out of memory; raise spec.resources.limits.memory"
    # The end of the text is where a traceback says what happened.
    tail = message.splitlines()[-1] if message else str(terminated.get("reason") or "")
    return "Failing", f"container {name} exited with {code}: {tail}".rstrip(": ")


def _container(status: Body) -> Iterator[Trouble]:
    name = str(status.get("name"))
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason")
    if reason in _WAITING:
        yield Trouble(80, _WAITING[reason], f"container {name}: {waiting.get('message') or reason}")
    for terminated, now in ((state.get("terminated"), True), (last.get("terminated"), False)):
        if not terminated or not terminated.get("exitCode") or status.get("ready"):
            continue
        why, text = _ended(name, terminated)
        if why != "Failing":
            yield Trouble(90, why, text)
        elif reason == "CrashLoopBackOff":
            yield Trouble(70, "CrashLoopBackOff", f"{text} ({status.get('restartCount', 0)} restarts)")
        elif now or status.get("restartCount"):
            yield Trouble(60, "Failing", text)


def _pod(pod: Body) -> Iterator[Trouble]:
    if deleting(pod) or ready(pod):
        return
    status = pod["status"]
    prefix = f"pod {pod['metadata']['name']}: "
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False" and condition.get("reason") == "Unschedulable":
            yield Trouble(50, "Unschedulable", prefix + str(condition.get("message") or "no node fits"))
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(field) or ():
            for found in _container(container):
                # A native sidecar's exit code at the end of a pod is of no interest.
                if found.reason == "Failing" and field == "initContainerStatuses" and status.get("phase") in ("Succeeded", "Failed"):
                    continue
                yield Trouble(found.rank, found.reason, prefix + found.message)
    if status.get("phase") == "Failed" and status.get("reason"):
        yield Trouble(40, str(status["reason"]), prefix + str(status.get("message") or status["reason"]))


def trouble(pods: Iterable[Body]) -> tuple[str, str] | None:
    """(reason, message) of the worst finding; of equals, the first pod's by name, so that the status does not flicker."""
    found = [(t.rank, str(pod["metadata"]["name"]), t) for pod in pods for t in _pod(pod)]
    if not found:
        return None
    found.sort(key=lambda item: (-item[0], item[1]))
    worst = found[0][2]
    return _camel(worst.reason), _clip(worst.message)


def _camel(reason: str) -> str:
    """Reasons come from kubelets too: keep what a condition accepts."""
    kept = "".join(character for character in reason if character.isascii() and character.isalnum())
    return kept[:128] if kept and kept[0].isalpha() else "Failing"


def no_pods(workload: Body, desired: int, pods: Iterable[Body], now: datetime) -> tuple[tuple[str, str] | None, float | None]:
    """Whether the cluster refuses to make pods at all, and seconds until that can be said."""
    if desired == 0 or any(True for _ in pods):
        return None, None
    created = workload["metadata"].get("creationTimestamp")
    if not created:
        return None, None
    left = NO_PODS_SECONDS - (now - parse_time(created)).total_seconds()
    if left > 0:
        return None, left
    name = workload["metadata"]["name"]
    return ("PodsNotCreated", f"the cluster has made none of {desired} pods; the events of workload {name!r} tell why"), None
