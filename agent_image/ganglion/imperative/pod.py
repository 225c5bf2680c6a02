"""Agents in pods of their own: `run_agent(backend="pod")` makes an Agent object, whose pod runs `serve`."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import re
import select
import subprocess
import time
from typing import Any

from ganglion.codecs.errors import CodecForbidden, EncodeError
from ganglion.imperative.errors import AgentStartError
from ganglion.imperative.frames import Record
from ganglion.imperative.host import host
from ganglion.imperative.life import Spec
from ganglion.imperative.membership import domain, membership
from ganglion.imperative.trust import remote_code
from ganglion.imperative.values import dumps, loads
from ganglion.sdk.agent import Agent
from ganglion.sdk.errors import NotSupported

VARIABLE = "GANGLION_CONNECTED"
"""`context namespace/nameserver`, set by `ganglion connect`; the context may be empty: kubectl's own choice."""
LABEL = "ganglion.dev/made-by"
START_SECONDS = 180.0
"""Until the agent is registered: the pod's image may have to be pulled."""
KUBECTL_SECONDS = 60.0
LOOK_SECONDS = 0.25
ASK_SECONDS = 2.0
"""Between two looks at the Agent's conditions."""
MAX_SPEC_BYTES = 512 * 1024


def start_in_pod(spec: Spec, directory: Any) -> Record:
    """Make an Agent object and wait until its agent is registered.

    Args:
        spec: of the agent; host, port and name server are the pod's own.
        directory: proxy to the domain's.
    Returns:
        What the directory knows of it.
    Raises:
        NotSupported: this program is not connected to a cluster.
        CodecForbidden: the domain forbids that classes travel.
        EncodeError: class or attributes are too large to be part of an object of Kubernetes, or cannot travel.
        AgentStartError: kubectl refused, or the agent did not start.
    """
    if domain():
        raise NotSupported(
            "backend='pod': found in a pod, which has no rights to make others; name an Agent that NameServer.spec.templates lists"
            " (`template=...`), declare an Agent, or use `ganglion connect` outside"
        )
    context, _, where = os.environ.get(VARIABLE, "").rpartition(" ")
    namespace, _, nameserver = where.partition("/")
    if not nameserver:
        raise NotSupported("backend='pod': this program is not connected to a cluster; start it with `ganglion connect NAMESERVER -- …`")
    if remote_code() != "Trusted":
        raise CodecForbidden(
            "cloudpickle", "backend='pod': the class travels as code; set NameServer.spec.remoteCode to Trusted, or declare an Agent"
        )
    body = base64.b64encode(dumps(spec)).decode("ascii")
    if len(body) > MAX_SPEC_BYTES:
        raise EncodeError(
            "cloudpickle", f"class and attributes: found {len(body)} bytes, at most {MAX_SPEC_BYTES} fit into an Agent object"
        )
    kubectl = ("kubectl", *(("--context", context) if context else ()), "--namespace", namespace)
    manifest = {
        "apiVersion": "ganglion.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"generateName": _prefix(spec.name), "labels": {LABEL: "run-agent"}},
        "spec": {
            "nameServerRef": {"name": nameserver},
            "run": "Once",
            "backoffLimit": 0,
            "class": "ganglion.imperative.pod:serve",
            "attributes": {"spec": body},
        },
    }
    made = _kubectl((*kubectl, "create", "-f", "-", "-o", "name"), json.dumps(manifest)).strip()
    try:
        return _registered(spec.name, directory, kubectl, made)
    except BaseException:
        _kubectl((*kubectl, "delete", made, "--wait=false", "--ignore-not-found"))
        raise


def _prefix(name: str) -> str:
    """What the object's name begins with: five more characters follow, and it is to fit into a label of DNS."""
    text = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:40].rstrip("-")
    return f"{text if text[:1].isalpha() else f'agent-{text}'.rstrip('-')}-"


def _kubectl(command: tuple[str, ...], text: str = "") -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=KUBECTL_SECONDS, check=False)
    except FileNotFoundError:
        raise AgentStartError("kubectl: not found on the PATH") from None
    except subprocess.TimeoutExpired:
        raise AgentStartError(f"{' '.join(command)}: no answer within {KUBECTL_SECONDS:g} s") from None
    if done.returncode:
        raise AgentStartError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _registered(name: str, directory: Any, kubectl: tuple[str, ...], made: str) -> Record:
    deadline = time.monotonic() + START_SECONDS
    ask_at = time.monotonic() + ASK_SECONDS
    problem = "it has said nothing"
    while time.monotonic() < deadline:
        record: Record | None = directory.lookup(name)
        if record is not None and record.running:
            return record
        if time.monotonic() >= ask_at:
            ask_at = time.monotonic() + ASK_SECONDS
            status = json.loads(_kubectl((*kubectl, "get", made, "-o", "json"))).get("status") or {}
            ready: dict[str, str] = next((one for one in status.get("conditions", ()) if one["type"] == "Ready"), {})
            problem = f"{ready.get('reason', 'Unknown')}: {ready.get('message', '')}"
            if ready.get("reason") in ("Failed", "Completed"):
                raise AgentStartError(f"{made}: {problem}")
        select.select([], [], [], LOOK_SECONDS)
    raise AgentStartError(f"{made}: agent {name!r} was not registered after {START_SECONDS:g} s; {problem}")


async def serve(agent: Agent) -> None:
    """The pod's own agent: runs the one that was asked for, and has completed when that one has ended.

    Raises:
        AgentStartError: it could not be made.
        CodecForbidden: the domain forbids that classes travel.
    """
    mine = membership()
    assert mine is not None
    if mine.remote_code != "Trusted":
        raise CodecForbidden(
            "cloudpickle", f"NameServer {mine.domain}: spec.remoteCode is {mine.remote_code}, and the class travels as code"
        )
    asked: Spec = loads(base64.b64decode(agent.get_attr("spec")))
    spec = dataclasses.replace(asked, nameserver=mine.nameserver, host=mine.host, port=None)
    loop = asyncio.get_running_loop()
    child = await loop.run_in_executor(None, lambda: host().spawn("agent", dumps(spec)))
    await loop.run_in_executor(None, child.wait)
    await loop.run_in_executor(None, child.ended.wait)
