"""Names and ends: nobody hangs, no name stays taken, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ganglion import Agent, CommunicationError, NameServer, NamingError, NSProxy, Proxy, run_agent, run_nameserver
from ganglion.imperative import calls
from ganglion.imperative.settings import config
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for


def block(agent: Any) -> None:
    agent.bind("PUSH", alias="nobody")
    agent.send("nobody", 1)


def pid_of(agent: Any) -> int:
    return os.getpid()


def end(agent: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_name_is_free_after_shutdown(stage: Stage) -> None:
    stage.agent("a").shutdown()
    wait_for(lambda: stage.ns.agents() == [], what="the name to be free")
    assert stage.agent("a").ping() == "pong"


def test_a_name_is_taken_once(stage: Stage) -> None:
    stage.agent("a")
    with pytest.raises(RuntimeError, match="already registered"):
        stage.agent("a")
    assert stage.ns.agents() == ["a"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_name_of_a_killed_process_is_free_at_once(number: int) -> None:
    ns = run_nameserver()
    agent = run_agent("a")
    pid = agent.execute_as_method(pid_of)
    os.kill(pid, number)
    wait_for(lambda: ns.agents() == [], timeout=5, what="the name to be free")
    again = run_agent("a")
    # Who had a proxy to the former life reaches the next one.
    assert agent.execute_as_method(pid_of) == again.execute_as_method(pid_of) != pid
    ns.shutdown()


def test_sigterm_reaches_an_agent_that_blocks() -> None:
    ns = run_nameserver()
    agent = run_agent("a")
    pid = agent.execute_as_method(pid_of)
    agent.after(0, block)
    wait_for(lambda: agent.unsafe.has_socket("nobody"), what="the agent to block")
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: ns.agents() == [], timeout=9, what="the name to be free")
    ns.shutdown()


def test_a_call_of_a_dying_agent_is_an_error_at_once() -> None:
    ns = run_nameserver()
    agent = run_agent("a")
    agent.set_method(end)
    began = time.monotonic()
    with pytest.raises(CommunicationError, match="lost"):
        agent.end()
    assert time.monotonic() - began < 10
    ns.shutdown()


def test_shutdown_forces_what_blocks() -> None:
    ns = run_nameserver()
    agent = run_agent("a")
    agent.after(0, block)
    wait_for(lambda: agent.unsafe.has_socket("nobody"), what="the agent to block")
    began = time.monotonic()
    ns.shutdown(timeout=4)
    assert time.monotonic() - began < 4
    with pytest.raises(TimeoutError):
        NSProxy(ns.addr(), timeout=0.2)


def test_kill_wakes_a_blocked_agent(stage: Stage) -> None:
    agent = stage.agent("a")
    agent.after(0, block)
    wait_for(lambda: agent.unsafe.has_socket("nobody"), what="the agent to block")
    agent.kill()
    wait_for(lambda: stage.ns.agents() == [], timeout=5, what="the name to be free")


def test_agents_survive_their_name_server() -> None:
    ns = run_nameserver()
    address = ns.addr()
    agent = run_agent("a")
    ns.daemon_shutdown()

    def again() -> NSProxy | None:
        try:
            return run_nameserver(address)
        except RuntimeError:
            return None

    second = wait_for(again, timeout=10, what="the address to be free")
    assert second is not None
    wait_for(lambda: second.agents() == ["a"], timeout=10, what="the agent to come back")
    assert agent.ping() == "pong"
    second.shutdown()


def test_a_stopped_agent_stays(stage: Stage) -> None:
    agent = stage.agent("a", attributes={"x": 1})
    assert agent.stop() == "OK"
    assert not agent.is_running()
    assert agent.get_attr("x") == 1
    with pytest.raises(RuntimeError, match="must be running"):
        agent.set_attr(x=2)
    assert stage.ns.agents() == ["a"]


def test_an_unknown_name(stage: Stage) -> None:
    with pytest.raises(NamingError):
        Proxy("nobody", stage.ns.addr(), timeout=0.2)


def test_what_fails_at_the_start_is_told(stage: Stage) -> None:
    class Bad(Agent):
        def on_init(self) -> None:
            raise LookupError("no luck today")

    with pytest.raises(RuntimeError, match="no luck today"):
        stage.agent("a", base=Bad)
    assert stage.ns.agents() == []


def test_an_exception_is_no_end(stage: Stage) -> None:
    agent = stage.agent("a")
    agent.after(0, "raise_exception")
    with pytest.raises(RuntimeError, match="User raised"):
        agent.raise_exception()
    assert agent.is_running()


def test_an_exception_ends_who_wants_it(stage: Stage) -> None:
    agent = stage.agent("a", on_error="Stop")
    agent.after(0, "raise_exception")
    wait_for(lambda: stage.ns.agents() == [], timeout=10, what="the agent to end")


def test_hooks_in_their_order(stage: Stage) -> None:
    class Hooks(Agent):
        def on_init(self) -> None:
            self.seen: list[Any] = [("on_init", self.get_attr("x"), self.is_running())]
            self.each(0.01, self.tick, alias="t")

        def before_loop(self) -> None:
            self.seen.append(("before_loop", self.is_running()))
            # A socket that receives before the loop begins is opened once.
            self.bind("PULL", alias="in", handler="hear")

        def hear(self, message: str) -> None:
            self.seen.append(message)

        def tick(self) -> None:
            self.seen.append("tick")
            if len(self.seen) > 4:
                self.stop_timer("t")

        def idle(self) -> None:
            self.seen.append("idle")

    agent = stage.agent("a", base=Hooks, attributes={"x": 1})
    wait_for(lambda: "idle" in agent.unsafe.get_attr("seen"), what="idle")
    assert agent.unsafe.get_attr("seen")[:3] == [("on_init", 1, False), ("before_loop", True), "tick"]
    assert agent.list_timers() == []
    agent.connect(agent.addr("in"), alias="out")
    agent.send("out", "heard")
    wait_for(lambda: "heard" in agent.unsafe.get_attr("seen"), what="the message")


def test_a_killed_process_leaves_no_ipc_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="gi-", dir="/tmp") as folder:
        monkeypatch.setitem(config, "IPC_DIR", Path(folder))
        ns = run_nameserver()
        agent, other = run_agent("a"), run_agent("b")
        addresses = [one.bind("PULL", alias="in", handler=lambda _agent, _message: None) for one in (agent, other)]
        os.kill(agent.execute_as_method(pid_of), signal.SIGKILL)
        wait_for(lambda: not addresses[0].address.exists(), timeout=10, what="the file to be removed")
        assert [str(item) for item in Path(folder).iterdir()] == [str(addresses[1].address)]
        ns.shutdown()
        assert list(Path(folder).iterdir()) == []


PROGRAM = """
from ganglion import run_nameserver
from ganglion.imperative.host import host

if __name__ == "__main__":
    run_nameserver()
    print(host()._folder.path, host()._spawner._process.pid, flush=True)
    input()
"""


@pytest.mark.parametrize("whom", ["program", "everybody"])
def test_the_folder_of_a_killed_program_is_removed(tmp_path: Path, whom: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)

    def start(stack: ExitStack, base: str) -> tuple[subprocess.Popen[str], Path, int]:
        environment = {**os.environ, "TMPDIR": base, "XDG_RUNTIME_DIR": ""}
        command = [sys.executable, str(tmp_path / "program.py")]
        started = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment),
        )
        stack.callback(started.kill)
        assert started.stdout is not None
        folder, zygote = started.stdout.readline().split()
        return started, Path(folder), int(zygote)

    with tempfile.TemporaryDirectory(prefix="gi-", dir="/tmp") as base, ExitStack() as stack:
        other, kept, _ = start(stack, base)
        killed, left, zygote = start(stack, base)
        if whom == "everybody":
            os.kill(zygote, signal.SIGSTOP)
        killed.kill()
        killed.wait()
        if whom == "everybody":
            os.kill(zygote, signal.SIGKILL)
            assert left.exists()
            start(stack, base)
        wait_for(lambda: not left.exists(), timeout=10, what="the folder of who was killed to be removed")
        assert (kept / "reports.sock").exists()
        assert other.poll() is None


def test_the_connections_of_a_thread_end_with_it() -> None:
    ns = run_nameserver()
    run_agent("a")
    errors: list[BaseException] = []

    def talk() -> None:
        try:
            Proxy("a", ns.addr()).execute_as_function(lambda: 1 / 0)
        except ZeroDivisionError as error:
            # Its traceback refers to all that the call has used.
            errors.append(error)

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    ns.ping()
    before = descriptors()
    for _ in range(3):
        thread = threading.Thread(target=talk)
        thread.start()
        thread.join()
    assert len(errors) == 3
    wait_for(lambda: descriptors() <= before, timeout=10, what="the descriptors to be closed")
    ns.shutdown()


def test_connections_to_who_has_gone_are_closed() -> None:
    ns = run_nameserver()
    agents = [run_agent(f"a{number}") for number in range(3)]
    for agent in agents:
        assert (agent.ping(), agent.unsafe.ping()) == ("pong", "pong")
        agent.kill()
    wait_for(lambda: ns.agents() == [], what="their ends")

    def endpoints() -> list[str]:
        # A call to somebody new looks after the old.
        ns.release()
        ns.ping()
        return list(calls._connections()._open)

    wait_for(lambda: endpoints() == [f"tcp://{ns.addr()}"], timeout=10, what="only the name server's connection to be left")
    ns.shutdown()


_ENDS_DURING_A_CALL = """
import threading
from pathlib import Path
from ganglion import Agent, run_agent, run_nameserver

class Slow(Agent):
    def wait(self, path):
        Path(path).write_text("")  # a pipe, which the program reads
        threading.Event().wait(30)

if __name__ == "__main__":
    run_nameserver()
    slow = run_agent("slow", base=Slow)
    threading.Thread(target=slow.wait, args=({path!r},), daemon=True).start()
    Path({path!r}).read_text()
    raise SystemError("the program fails")
"""


def test_a_program_may_end_while_its_threads_call(tmp_path: Path) -> None:
    path = tmp_path / "waits"
    os.mkfifo(path)
    script = tmp_path / "program.py"
    script.write_text(_ENDS_DURING_A_CALL.format(path=str(path)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "SystemError: the program fails" in done.stderr
    # libzmq ends the process when a socket is closed while another thread receives from it; or it has gone for that thread.
    assert "Assertion failed" not in done.stderr
    assert "ZMQError" not in done.stderr


@pytest.mark.parametrize("how", ["held", "stopped"])
def test_shutdown_ends_who_cannot_even_hear_it(how: str) -> None:
    ns = run_nameserver()
    agent = run_agent("a")
    pid = agent.execute_as_method(pid_of)
    if how == "held":
        # In C, and without giving the interpreter to anybody else.
        agent.set_method(hold=lambda _agent: sum(range(10**14)))
        agent.oneway.after(0, "hold")
    else:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    ns.shutdown(timeout=4)
    # Who is not there any more after three quarters of it; the name server has two seconds of its own.
    assert time.monotonic() - began < 6
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), what="the process to be gone")


class OwnPing(NameServer):
    """Calls of its own methods wait for a thread."""

    def ping(self) -> str:
        return "own"


@pytest.mark.parametrize("base", [NameServer, OwnPing])
@pytest.mark.parametrize("backend", ["process", "thread"])
def test_nobody_finds_a_name_server_that_was_shut_down(backend: Any, base: type[NameServer]) -> None:
    for _ in range(10):
        ns = run_nameserver(backend=backend, base=base)
        ns.shutdown()
        with pytest.raises(CommunicationError):
            calls.call(f"tcp://{ns.addr()}", "agents", timeout=5)
