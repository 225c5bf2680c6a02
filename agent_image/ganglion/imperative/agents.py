"""`run_agent` and `run_nameserver`."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import os
import threading
from typing import Any, Literal

from ganglion.codecs.errors import EncodeError
from ganglion.errors import GanglionError
from ganglion.imperative.addresses import address_to_host_port, unique_identifier
from ganglion.imperative.errors import AgentStartError, format_exception
from ganglion.imperative.frames import decode_record
from ganglion.imperative.host import Child, host
from ganglion.imperative.hosts import numeric_host
from ganglion.imperative.life import Life, Spec, methods_of
from ganglion.imperative.nameserver import NameServer, NameServerProcess
from ganglion.imperative.nsproxy import NSProxy
from ganglion.imperative.proxy import Proxy, proxy_of
from ganglion.imperative.serializers import serializer_name
from ganglion.imperative.settings import NAMESERVER_VARIABLES, config, default_host, nameserver_address
from ganglion.imperative.values import dumps, loads
from ganglion.sdk.agent import Agent

Backend = Literal["process", "thread", "pod"]
LOCATE_SECONDS = 10.0
"""To find the name server; longer than for a proxy, because many agents may start at once."""


def _check_backend(backend: str, *known: str) -> None:
    if backend not in known:
        raise ValueError(f"backend: found {backend!r}; must be {' or '.join(known)}")


def run_nameserver(addr: Any = None, base: type[NameServer] = NameServer, *, backend: Literal["process", "thread"] = "process") -> NSProxy:
    """Start a name server.

    Args:
        addr: port, `host:port` or SocketAddress; None: a random port between 10000 and 20000. No host: 127.0.0.1, in a pod its address.
        base: a class derived from NameServer.
        backend: a process of its own, or a thread of this one.
    Returns:
        A proxy to it. Its address is left in `GANGLION_NAMESERVER_ADDRESS` for later calls that name none.
    Raises:
        AgentStartError: the address is in use, or not this host's.
    """
    _check_backend(backend, "process", "thread")
    text = f":{addr}" if isinstance(addr, int) else addr
    name, port = address_to_host_port(text)
    where = name or default_host()
    # Here, so that a name that is not known is told before a process is made.
    numeric_host(where)
    if backend == "thread":
        address = _nameserver_thread(base, where, port)
    else:
        child = host().spawn("nameserver", dumps((base, where, port)))
        address = str(child.wait()["address"])
    for variable in NAMESERVER_VARIABLES:
        os.environ[variable] = address
    return NSProxy(address, timeout=LOCATE_SECONDS)


def _nameserver_thread(base: type[NameServer], where: str, port: int | None) -> str:
    try:
        running = NameServerProcess(base, where, port)
    except Exception as error:
        raise AgentStartError(f"An error occurred while creating the daemon!\n===============\n{format_exception(error)}") from error
    child = Child()

    def serve() -> None:
        try:
            running.serve()
        finally:
            running.close()
            host().release(child)
            child.finish(0)

    host().adopt(child)
    threading.Thread(target=serve, name="nameserver", daemon=True).start()
    return str(running.address)


def run_agent(
    name: str = "",
    nsaddr: Any = None,
    addr: Any = None,
    base: type[Agent] = Agent,
    serializer: str | None = None,
    transport: str | None = None,
    safe: bool | None = None,
    attributes: dict[str, Any] | None = None,
    *,
    backend: Backend | None = None,
    template: str | None = None,
    on_error: Literal["Continue", "Stop"] = "Continue",
) -> Proxy:
    """Start an agent and wait until it runs.

    Args:
        name: unique at its name server; random when empty.
        nsaddr: of the name server; None: the one that run_nameserver has left in the environment.
        addr: `host` or `host:port` where the agent listens for calls, and host of its tcp sockets; None: 127.0.0.1, in a pod its address.
        base: a class derived from Agent.
        serializer, transport: defaults of its sockets.
        safe: whether calls through the proxy run in the agent's main loop unless they say otherwise; None: as configured.
        attributes: set before on_init.
        backend: a process of its own; a thread of this one, where a debugger finds it; or a pod: in a program that runs under
            `ganglion connect` it makes an Agent object. None: as configured (GANGLION_DEFAULT_BACKEND), else a process.
        template: name of an Agent that `NameServer.spec.templates` lists: the agent gets a pod (on a laptop: processes) of its own, a copy of
            that Agent's, and has its class and attributes; those given here win. Not with `base`, `addr` or another backend than a pod.
        on_error: what an exception of a handler, timer or call does beside being logged: the agent goes on, or it ends. Restart is for Agents
            of manifests: their channels are made anew, but not the sockets that other programs have made here.
    Returns:
        A proxy to it.
    Raises:
        AgentStartError: it could not be made: the name is taken, on_init raised, ...; the text has the traceback.
        EncodeError: an attribute, or the class, cannot travel to another process.
        TimeoutError: no name server answers.
        TemplateRefused: the NameServer does not allow this copy.
        AgentNameTaken: with `template`: the name is taken.
        NotSupported, CodecForbidden: a pod cannot be had here; the text says why.
    """
    if template is not None:
        _check_template(template, base, addr, backend)
    backend = backend or config["BACKEND"]
    _check_backend(backend, "process", "thread", "pod")
    if on_error not in ("Continue", "Stop"):
        raise ValueError(f"on_error: found {on_error!r}; must be Continue or Stop (Restart is for Agents of manifests: spec.onError)")
    if not (isinstance(base, type) and issubclass(base, Agent)):
        raise TypeError(f"base: found {base!r}; must be a class derived from ganglion.Agent")
    ns = NSProxy(nameserver_address(nsaddr), timeout=LOCATE_SECONDS)
    where, port = address_to_host_port(addr)
    spec = Spec(
        name=name or unique_identifier().decode(),
        nameserver=str(ns.addr()),
        base=base,
        host=where or default_host(),
        port=port,
        serializer=serializer_name(serializer) if serializer else None,
        transport=transport,
        attributes=attributes or {},
        stop_on_error=on_error == "Stop",
    )
    if template is not None:
        from ganglion.imperative.templates import start_copy

        return proxy_of(start_copy(spec, template, ns), ns.addr(), safe=safe)
    if backend == "pod":
        from ganglion.imperative.pod import start_in_pod

        return proxy_of(start_in_pod(spec, ns), ns.addr(), safe=safe)
    child = _thread(spec) if backend == "thread" else host().spawn("agent", _by_value(spec))
    report = child.wait()
    record = decode_record(base64.b64decode(report["record"]))
    child.life = record.life

    def forget() -> None:
        # It may have been killed: the name is free now, not after the lease.
        with contextlib.suppress(GanglionError, OSError):
            NSProxy(ns.addr(), timeout=0.0).remove(record.name, record.life)

    child.on_end = forget
    if child.ended.is_set():
        forget()
    return proxy_of(record, ns.addr(), safe=safe, methods=methods_of(base).difference(report["hidden"]))


def _check_template(template: str, base: type[Agent], addr: Any, backend: str | None) -> None:
    if not isinstance(template, str) or not template:
        raise TypeError(f"template: found {template!r}; must be the name of an Agent")
    if base is not Agent:
        raise ValueError(f"base: found {base!r}; must not go with template, whose Agent has the class")
    if addr is not None:
        raise ValueError(f"addr: found {addr!r}; must not go with template: the agent listens at the address of its pod")
    if backend not in (None, "pod"):
        raise ValueError(f"backend: found {backend!r}; must be pod with template")


def _by_value(spec: Spec) -> bytes:
    try:
        return dumps(spec)
    except EncodeError:
        for name, value in spec.attributes.items():
            try:
                dumps(value)
            except EncodeError as error:
                text = str(error).removeprefix(f"codec {error.codec}: ")
                raise EncodeError(error.codec, f"attributes[{name!r}]: {text}") from error
        raise


def _thread(spec: Spec) -> Child:
    child = Child()

    def run() -> None:
        code = 1
        try:
            # Agents of several processes share no attributes; nor do these.
            life = Life(dataclasses.replace(spec, attributes=loads(dumps(spec.attributes))), in_process=False)
            if child.given_up:
                life.kill()
            report = life.started()
            code = life.run(lambda: child.tell(report))
        except BaseException as error:  # noqa: BLE001 - the caller of run_agent raises it
            child.tell({"failed": format_exception(error)})
        finally:
            host().release(child)
            child.finish(code)

    host().adopt(child)
    threading.Thread(target=run, name=f"agent-{spec.name}", daemon=True).start()
    return child
