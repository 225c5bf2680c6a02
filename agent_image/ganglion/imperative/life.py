"""The life of one agent: made, registered, run, ended. In a process of its own, or in a thread of somebody else's."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq

from ganglion.imperative import frames
from ganglion.imperative.addresses import unique_identifier
from ganglion.imperative.control import Control, be_patient
from ganglion.imperative.core import Core
from ganglion.imperative.errors import AgentNameTaken, CommunicationError
from ganglion.imperative.frames import Record
from ganglion.imperative.hosts import bind_tcp, numeric_host, tcp_endpoint
from ganglion.imperative.ports import Call, CallPort, Pool, encode_result, execute
from ganglion.imperative.secret import ZAP_DOMAIN, domain_keys
from ganglion.imperative.settings import config
from ganglion.imperative.trust import default_serializer
from ganglion.imperative.values import PLAIN
from ganglion.runtime import stacks
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.sockets import make_socket
from ganglion.sdk.agent import Agent
from ganglion.wire.departures import Departure

log = logging.getLogger(__name__)

JOIN_SECONDS = 20.0
"""Bound of the name server's answer; generous, because many may start at once on a small machine."""
LEAVE_SECONDS = 2.0
GRACE_SECONDS = 5.0
"""After a signal a handler that blocks has this long."""
KILL_SECONDS = 0.5
"""After a kill the main thread has this long to close its sockets; then the process ends without it."""
IDLE_SECONDS = 1.0
TASK_SECONDS = 1.0
_UNSAFE = frozenset({"ping", "is_running"})
"""Cannot block: answered by the control thread itself."""
STACKS = "ganglion.stacks"
"""Method of a call that asks for the stacks of all threads; no user's method can have this name."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What run_agent asks for."""

    name: str
    nameserver: str
    base: type[Agent]
    host: str = "127.0.0.1"
    port: int | None = None
    serializer: str | None = None
    transport: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    stop_on_error: bool = False
    life: bytes = b""
    """Identity of this life, 16 bytes; empty: a random one."""


class Life:
    """See the module. Make and run it in the thread that is to be the agent's main thread.

    Args:
        spec: what to run.
        in_process: the process is the agent's alone: signals are its, and a kill may end it.
    Raises:
        KeyError: an attribute exists already.
        OSError, zmq.ZMQError: the address cannot be bound.
        Exception: what the agent's constructor or on_init raised.
    """

    def __init__(self, spec: Spec, *, in_process: bool) -> None:
        self.spec = spec
        self.name = spec.name or unique_identifier().decode()
        self.life = spec.life or os.urandom(16)
        self._in_process = in_process
        self._killed = False
        self._kill_by = 0.0
        self._force_at = 0.0
        self._ending = False
        self._ended = threading.Event()
        self._main = threading.get_ident()
        self.loop = DataLoop()
        self.loop.set_exception_handler(self._loop_failed)
        self._pool = Pool(self.name)
        host = spec.host
        self.control = Control(
            self.name,
            self.life,
            host,
            spec.port,
            on_call=self._unsafe_call,
            on_say=self._told,
            on_tick=self._tick,
            on_departure=self._departed,
        )
        self.control.start()
        try:
            self._port = self._make_port(host)
            self.agent = spec.base()
            self.core = Core(
                self.agent,
                name=self.name,
                host=spec.host,
                loop=self.loop,
                context=self.control.data,
                transport=spec.transport,
                serializer=spec.serializer or default_serializer(),
                stop_on_error=spec.stop_on_error,
                on_end=self.end,
                on_change=self._changed,
                on_watch=self._watch,
            )
            self._set_attributes()
            self._run_hook(self.agent.on_init)
            self._register()
        except BaseException:
            self._dispose()
            raise

    def _make_port(self, host: str) -> CallPort:
        socket = make_socket(
            self.control.data,
            zmq.ROUTER,
            curve=domain_keys(),
            zap_domain=ZAP_DOMAIN,
            max_message_bytes=config["MAX_MESSAGE_BYTES"],
        )
        be_patient(socket)
        try:
            self._safe_endpoint = tcp_endpoint(host, bind_tcp(socket, numeric_host(host), None))
            return CallPort(socket, self.life, self._safe_call)
        except BaseException:
            socket.close(0)
            raise

    def _set_attributes(self) -> None:
        for name, value in self.spec.attributes.items():
            if hasattr(self.agent, name):
                raise KeyError(f'Agent already has "{name}" attribute!')
            setattr(self.agent, name, value)

    def _run_hook(self, hook: Callable[[], Any]) -> None:
        result = hook()
        if inspect.isawaitable(result):
            self.loop.run_until_complete(_await(result))

    def record(self) -> Record:
        """What the directory knows of this agent."""
        return Record(
            name=self.name,
            life=self.life,
            control=self.control.endpoint,
            safe=self._safe_endpoint,
            pid=os.getpid(),
            running=self.core.looping,
        )

    def started(self) -> dict[str, Any]:
        """What is reported of a start that succeeded: the record, and attributes that hide what its class has under their names."""
        hidden = [name for name in vars(self.agent) if hasattr(type(self.agent), name)]
        return {"record": base64.b64encode(frames.encode_record(self.record())).decode("ascii"), "hidden": hidden}

    def _register(self) -> None:
        joined = self.control.join(f"tcp://{self.spec.nameserver}", self.record(), JOIN_SECONDS)
        if joined is None:
            raise CommunicationError(f"the name server at {self.spec.nameserver} did not answer within {JOIN_SECONDS:g} s")
        if not joined:
            raise AgentNameTaken(f"name already registered: an agent {self.name!r} lives; choose another name or shut that one down")

    # -- running

    def run(self, on_running: Callable[[], None]) -> int:
        """Run until the agent ends; returns the exit code. Registered already.

        Args:
            on_running: called when calls are taken from now on.
        """
        code = 0
        try:
            if self._in_process:
                # Not the loop's own handlers: these also run while a handler blocks.
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, self._signalled)
                stacks.install(stacks_file(self.life), (self.loop,))
            self.core.looping = True
            self._changed()
            on_running()
            self.loop.add_direct_reader(self._port.socket.fileno(), self._drain_calls)
            self.loop.call_soon(self._begin)
            self.loop.run_forever()
            if not self._killed:
                code = self._finish()
        finally:
            self._dispose()
        return code

    def _begin(self) -> None:
        # Calls that came before the loop wait in the port; they must find an agent that has gone through before_loop.
        try:
            result = self.agent.before_loop()
        except Exception as error:  # noqa: BLE001 - user code
            self.core.failed("before_loop", error)
            self.end(False)
            return
        if inspect.isawaitable(result):
            self.core.spawn(result, "before_loop").add_done_callback(lambda _: self._open())
        else:
            self._open()

    def _open(self) -> None:
        if self._ending or not self.core.looping:
            return
        self.core.open_all()
        self._drain_calls()
        self.loop.call_later(IDLE_SECONDS, self._idle, self.core.handled)

    def _idle(self, before: int) -> None:
        if self._ending:
            return
        if self.core.looping and self.core.handled == before:
            try:
                result = self.agent.idle()
                if inspect.isawaitable(result):
                    self.core.spawn(result, "idle")
            except Exception as error:  # noqa: BLE001 - user code
                self.core.failed("idle", error)
        self.loop.call_later(IDLE_SECONDS, self._idle, self.core.handled)

    def _changed(self) -> None:
        self.control.update(self.record())

    def _loop_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.core.failed(str(context.get("message", "loop")), error)

    # -- calls

    def _drain_calls(self) -> None:
        if self._port.drain():
            self.loop.call_soon(self._drain_calls)

    def _safe_call(self, call: Call) -> None:
        if not self.core.looping:
            self._port.answer(call, frames.NOT_RUNNING, b"")
            return
        self.core.handled += 1
        try:
            value = getattr(self.agent, call.method)(*call.arguments, **call.named)
        except Exception as error:  # noqa: BLE001 - the caller's, and logged
            self._call_failed(call, error)
            return
        # To ask an abstract class costs more than to pickle a number.
        if value.__class__ not in PLAIN and inspect.isawaitable(value):
            task = self.loop.create_task(_await(value))
            self.core.tasks.add(task)
            task.add_done_callback(lambda done: self._call_done(call, done))
        else:
            self._port.answer(call, *encode_result(value))

    def _call_failed(self, call: Call, error: BaseException) -> None:
        self._port.fail(call, error, safe=True)
        self.core.failed(f"call of {call.method}", error)

    def _call_done(self, call: Call, task: asyncio.Task[Any]) -> None:
        self.core.tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._call_failed(call, error)
        else:
            self._port.answer(call, *encode_result(task.result()))
        # To answer may have taken the edge of the descriptor: a call that has come meanwhile would not be told of.
        self.loop.call_soon(self._drain_calls)

    def _unsafe_call(self, call: Call) -> None:
        """Control thread."""
        if call.method == "kill":
            self.control.calls.reply(call, None)
            self.kill()
        elif call.method == STACKS:
            self.control.calls.reply(call, stacks.describe((self.loop,)))
        elif call.method in _UNSAFE:
            self.control.calls.answer(call, *execute(self.agent, call))
        else:
            target = self if call.method == "member" and not hasattr(self.agent, "member") else self.agent
            if not self._pool.run(lambda: self.control.answer(call, *execute(target, call))):
                self.control.calls.fail(call, RuntimeError("too many calls wait"), safe=False)

    def member(self, name: str) -> tuple[bool, Any]:
        """(is a method, value otherwise) of a name; AttributeError when there is none."""
        value = getattr(self.agent, name)
        return (True, None) if inspect.isroutine(value) else (False, value)

    # -- ending

    def end(self, at_once: bool = False) -> None:
        """End after the handler that runs now, or at once. Any thread."""
        if at_once:
            self.kill()
            return
        with contextlib.suppress(RuntimeError):
            # RuntimeError: the loop has ended already.
            self.loop.call_soon_threadsafe(self._stop)

    def _signalled(self, _number: int, _frame: object) -> None:
        self._kill_by = self._kill_by or time.monotonic() + GRACE_SECONDS
        self.end(False)

    def _stop(self) -> None:
        self._ending = True
        self.core.pause()
        self.loop.stop()

    def kill(self) -> None:
        """End now: waits are interrupted; a main thread that does not come back is left behind, or the process ended. Any thread."""
        if self._killed:
            return
        self._killed = True
        self._force_at = time.monotonic() + KILL_SECONDS
        if hasattr(self, "core"):
            self.core.interrupt()
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._stop)

    def _told(self, word: str) -> None:
        """Control thread: the name server ends."""
        if word == "kill":
            self.kill()
        elif word == "shutdown":
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._shut_down)

    def _watch(self, name: str, on: bool) -> None:
        (self.control.watch if on else self.control.unwatch)(name)

    def _departed(self, departure: Departure) -> None:
        """Control thread."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.core.watched.ended, departure)

    def _shut_down(self) -> None:
        # A derived class may have a shutdown of its own.
        try:
            self.agent.shutdown()
        except Exception as error:  # noqa: BLE001 - user code
            self.core.failed("shutdown", error)
            self._stop()

    def _tick(self, now: float) -> None:
        """Control thread: a main thread that does not end when it should."""
        if self._kill_by and now >= self._kill_by:
            self._kill_by = 0.0
            self.kill()
        if self._force_at and now >= self._force_at and not self._ended.is_set():
            self._force_at = 0.0
            threading.Thread(target=self._force, name=f"{self.name}-kill", daemon=True).start()

    def _force(self) -> None:
        self.control.leave(LEAVE_SECONDS, killed=True)
        if self._in_process:
            os._exit(1)
        self._ended.set()

    def _finish(self) -> int:
        """Main thread: the agent ends in order."""
        try:
            self._run_hook(self.agent.on_exit)
        except Exception as error:  # noqa: BLE001 - user code
            self.core.failed("on_exit", error)
            return 1
        finally:
            if self.core.tasks:
                with contextlib.suppress(Exception):
                    self.loop.run_until_complete(asyncio.wait(self.core.tasks, timeout=TASK_SECONDS))
        return 0

    def _dispose(self) -> None:
        with contextlib.suppress(Exception):
            if hasattr(self, "core"):
                self.core.close_all(0 if self._killed else None)
                self.core.finish()
        if hasattr(self, "_port"):
            self.loop.remove_direct_reader(self._port.socket.fileno())
            self._port.close()
        pending = asyncio.all_tasks(self.loop)
        for task in pending:
            task.cancel()
        if pending:
            self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self.loop.close()
        # Registered until here: who waits for the name to be free finds the sockets closed.
        self.control.leave(LEAVE_SECONDS, killed=self._killed)
        self._ended.set()
        self._pool.close(0.2)
        self.control.close()


def methods_of(base: type[Agent]) -> frozenset[str]:
    """Names that a proxy may take for methods of an agent of this class without asking it."""
    if base.__getattribute__ is not object.__getattribute__:
        return frozenset()
    found = ((name, inspect.getattr_static(base, name)) for name in dir(base) if name[0] != "_")
    # No other descriptors: what they give may be anything.
    return frozenset(
        name for name, one in found if inspect.isfunction(one.__func__ if isinstance(one, (staticmethod, classmethod)) else one)
    )


def stacks_file(life: bytes) -> str:
    """Name under which `runtime.stacks` finds the process of this life."""
    return f"{stacks.NAME}-{life.hex()}"


async def _await(value: Any) -> Any:
    return await value
