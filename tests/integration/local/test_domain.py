"""`ganglion up` with real name server, sidecars and agents: results to the last number, whoever is killed; ends that leave nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.local.domain import ENDLESS_CODE, Desk, agent, channel, desk, endless, pipeline, reported, server, squares, write
from tests.support.wait import wait_for

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path / "home") as found:
        yield found


def delivered(user: Desk, name: str = "results") -> int:
    return int(user.status("Channel", name).get("delivered", 0))


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_a_pipeline_runs_to_its_end(user: Desk, tmp_path: Path, plane: str) -> None:
    report = tmp_path / "report.json"
    process = user.up(write(tmp_path / "app", pipeline(report, count=2000, plane=plane)))
    assert process.wait(90) == 0, user.output()
    assert reported(report) == {"squares": squares(2000), "duplicates": 0}
    output = user.output()
    assert "worker-0 | worker on_exit" in output
    assert "worker-1 | worker on_exit" in output
    user.assert_nothing_left(user.run)


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_kills_lose_nothing(user: Desk, tmp_path: Path, plane: str) -> None:
    report, stop = tmp_path / "report.json", tmp_path / "stop"
    process = user.up(write(tmp_path / "app", pipeline(report, stop=stop, effort=20_000, plane=plane)))
    wait_for(lambda: delivered(user) > 0, timeout=60, what="the first results")
    run = user.run
    first = user.replicas()
    victims = ["worker-0", "worker-1"] * 2
    if plane == "Sidecar":
        victims += ["worker-0/sidecar", "sink-0/sidecar", "ventilator-0/sidecar"]
    victims += ["nameserver", "worker-0"]
    for victim in victims:
        kill_and_await(user, process, victim)
    rows = user.replicas()
    assert rows["worker-0"]["restarts"] >= 3
    assert {name: row["uid"] for name, row in rows.items()} == {name: row["uid"] for name, row in first.items()}
    wait_for(lambda: user.replicas()["worker-0"]["start"] or 0, what="the name server's word of worker-0")
    assert user.replicas()["worker-0"]["start"] >= 2
    stop.touch()
    assert process.wait(120) == 0, user.output()
    found = reported(report)
    assert found["squares"] == squares(int(stop.with_name("stop.sent").read_text()))
    user.assert_nothing_left(run)


def kill_and_await(user: Desk, process: subprocess.Popen[str], victim: str, name: str = "results") -> None:
    """Kill one process mid-run; return when it is back and the channel `name` has made progress."""
    mark = delivered(user, name)
    pid = wait_for(lambda: pid_of(user, victim), what=f"a process id of {victim}")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid_of(user, victim) not in (None, pid), what=f"the restart of {victim}")
    # Spread over the run: the next kill comes when some more was done. A new name server counts from what its members report.
    wait_for(lambda: delivered(user, name) > mark + 50, timeout=60, what=f"progress after the kill of {victim}")
    assert process.poll() is None


def pid_of(user: Desk, victim: str) -> int | None:
    snapshot = user.snapshot()
    if snapshot is None:
        return None
    if victim == "nameserver":
        found = snapshot["nameServer"]["pid"]
    else:
        name, _, part = victim.partition("/")
        rows = {row["name"]: row for row in snapshot["replicas"]}
        found = rows[name]["sidecarPid" if part else "pid"]
    return None if found is None else int(found)


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_ctrl_c_is_the_ordered_shutdown(user: Desk, tmp_path: Path, plane: str) -> None:
    process = user.up(write(tmp_path / "app", endless(plane=plane)))
    wait_for(lambda: user.ready("source-0", "worker-0", "worker-1") and delivered(user, "work") > 0, what="a running domain")
    run = user.run
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    output = user.output()
    assert "worker-0 | worker on_exit" in output
    assert "worker-1 | worker on_exit" in output
    assert "killed" not in output
    user.assert_nothing_left(run)


def test_a_second_ctrl_c_ends_everything_at_once(user: Desk, tmp_path: Path) -> None:
    process = user.up(write(tmp_path / "app", endless(workers=1)))
    wait_for(lambda: user.ready("source-0", "worker-0"), what="a running domain")
    run = user.run
    # A frozen agent holds up the ordered shutdown for long.
    os.kill(user.replicas()["worker-0"]["pid"], signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: "once more ends everything" in user.output(), what="the first Ctrl-C")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    user.assert_nothing_left(run)


@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_a_frozen_agent_is_killed_within_the_bound(user: Desk, tmp_path: Path, plane: str) -> None:
    objects = [server(shutdown={"timeoutSeconds": 10}), *endless(workers=2, plane=plane)[1:]]
    process = user.up(write(tmp_path / "app", objects))
    wait_for(lambda: user.ready("source-0", "worker-0", "worker-1"), what="a running domain")
    run = user.run
    os.kill(user.replicas()["worker-0"]["pid"], signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    output = user.output()
    [told] = [line for line in output.splitlines() if "killed because they did not end in time" in line]
    assert "worker-0" in told
    assert "worker-1" not in told
    assert "worker-1 | worker on_exit" in output
    assert re.search(r"waiting for .*worker-0 \(process \d+ did not answer .*; ended by force in \d+ s at the latest", output)
    user.assert_nothing_left(run)


def test_down_tells_whose_handler_hangs_and_fails_when_it_must_be_forced(user: Desk, tmp_path: Path) -> None:
    code = f"{ENDLESS_CODE}\n\nclass Hung(Agent):\n    def hang(self, number):\n        threading.Event().wait()\n"
    objects = [server(shutdown={"timeoutSeconds": 10}), *endless(workers=1)[1:]]
    objects[-1]["spec"]["class"] = "agents:Hung"
    objects[-1]["spec"]["channels"][0]["handler"] = "hang"
    folder = write(tmp_path / "app", objects, f"import threading\n{code}")
    assert user.command("up", "-f", str(folder), "--detach").returncode == 0
    done = user.command("down")
    assert done.returncode == 1
    # On a busy machine it may not tell in time where it is, nor come to end itself before it is killed.
    doing = r"(in hang, agents.py line \d+|process \d+ did not answer .*)"
    assert re.search(rf"waiting for .*worker-0 \({doing}\).*; ended by force in \d+ s at the latest", done.stdout)
    assert "worker-0" in done.stderr


def test_a_killed_supervisor_leaves_nobody_and_up_works_again(user: Desk, tmp_path: Path) -> None:
    folder = write(tmp_path / "app", endless(workers=1))
    process = user.up(folder)
    wait_for(lambda: user.ready("source-0", "worker-0"), what="a running domain")
    run = user.run
    assert run is not None
    process.kill()
    process.wait(10)
    wait_for(lambda: not user.processes(), what="end of the orphans")
    again = user.up(folder)
    wait_for(lambda: user.run != run and user.ready("source-0", "worker-0"), what="the second domain")
    assert not run.exists()
    second = user.run
    again.send_signal(signal.SIGINT)
    assert again.wait(30) == 130
    user.assert_nothing_left(second)


def test_detach_get_scale_apply_logs_delete_down(user: Desk, tmp_path: Path) -> None:
    folder = write(tmp_path / "app", endless(workers=1))
    done = user.command("up", "-f", str(folder), "--detach")
    assert (done.returncode, done.stderr) == (0, "")
    assert user.ready("source-0", "worker-0")
    run = user.run

    done = user.command("scale", "worker", "--replicas", "3")
    assert (done.returncode, done.stdout) == (0, "agent/worker scaled from 1 to 3\n")
    wait_for(lambda: user.ready("source-0", "worker-0", "worker-1", "worker-2"), what="three workers")
    before = user.replicas()["worker-0"]

    objects = endless(workers=2)
    objects[-1]["spec"]["attributes"] = {"colour": "red"}
    objects.append(agent("extra", "agents:Drop", [("work", "Pull", "drop")]))
    write(folder, objects)
    done = user.command("up", "-f", str(folder))
    assert done.returncode == 0, done.stderr
    assert "agent/worker configured" in done.stdout
    assert "agent/extra created" in done.stdout
    assert "agent/source unchanged" in done.stdout
    wait_for(lambda: user.ready("source-0", "worker-0", "worker-1", "extra-0"), timeout=60, what="the new domain")
    after = user.replicas()["worker-0"]
    assert after["uid"] != before["uid"]
    # While no other worker is ready, it stays for a moment.
    wait_for(lambda: "worker on_exit" in user.command("logs", "worker-2").stdout, what="the end of worker-2", interval=0.5)

    table = user.command("get", "agents").stdout.splitlines()
    assert table[0].split()[:4] == ["NAME", "READY", "REASON", "REPLICAS"]
    assert [line.split()[:4] for line in table[1:]] == [
        ["extra", "True", "Running", "1/1"],
        ["source", "True", "Running", "1/1"],
        ["worker", "True", "Running", "2/2"],
    ]
    listed = json.loads(user.command("get", "-o", "json").stdout)
    assert {item["kind"] for item in listed["items"]} == {"NameServer", "Channel", "Agent"}

    done = user.command("delete", "agent", "extra")
    assert (done.returncode, done.stdout) == (0, "agent/extra deleted\n")
    assert set(user.replicas()) == {"source-0", "worker-0", "worker-1"}
    assert user.command("delete", "agent", "extra").returncode == 1

    done = user.command("down")
    assert (done.returncode, done.stdout) == (0, "domain shop is down\n"), done.stderr
    assert user.command("get").returncode == 69
    assert "worker on_exit" in user.command("logs", "worker", "-d", "shop").stdout
    user.assert_nothing_left(run)


def test_detach_waits_for_the_agents_and_names_one_that_cannot_start(user: Desk, tmp_path: Path) -> None:
    objects = [*endless(workers=1), agent("bad", "agents:Broken", [])]
    folder = write(tmp_path / "app", objects)
    done = user.command("up", "-f", str(folder), "--detach")
    assert done.returncode == 78
    assert "Agent/bad: ConfigurationError" in done.stderr
    assert "made to fail" in done.stderr
    # The domain is there to be corrected; then nobody need wait any more.
    objects[-1]["spec"]["class"] = "agents:Drop"
    write(folder, objects)
    done = user.command("up", "-f", str(folder), "--detach")
    assert (done.returncode, done.stderr) == (0, "")
    assert user.ready("source-0", "worker-0", "bad-0")
    assert user.command("down").returncode == 0


def test_an_edit_of_the_code_rolls_the_agents_that_use_it(user: Desk, tmp_path: Path) -> None:
    folder = write(tmp_path / "app", endless(workers=2))
    assert user.command("up", "-f", str(folder), "--detach").returncode == 0
    wait_for(lambda: user.ready("source-0", "worker-0", "worker-1"), what="a running domain")
    before = {name: row["uid"] for name, row in user.replicas().items()}
    code = (folder / "agents.py").read_text()
    write(folder, endless(workers=2), code.replace('print(f"{self.name} on_exit"', 'print(f"{self.name} new on_exit"'))
    assert user.command("up", "-f", str(folder)).returncode == 0

    def rolled() -> bool:
        now = {name: row["uid"] for name, row in user.replicas().items()}
        return set(now) == set(before) and not set(now.values()) & set(before.values()) and user.ready(*before)

    wait_for(rolled, timeout=60, what="new replicas")
    assert user.command("down").returncode == 0
    assert "worker new on_exit" in user.command("logs", "worker-1", "-d", "shop").stdout


@pytest.mark.parametrize(
    ("target", "code", "text"),
    [
        ("agents:Nobody", 78, "Nobody"),
        ("nowhere:Agent", 78, "nowhere"),
        ("agents:Broken", 78, "made to fail"),
    ],
)
def test_a_class_that_cannot_start_ends_up_with_one_clear_line(user: Desk, tmp_path: Path, target: str, code: int, text: str) -> None:
    objects: list[dict[str, Any]] = [server(), channel("work"), agent("bad", target, [("work", "Push", None)])]
    process = user.up(write(tmp_path / "app", objects))
    assert process.wait(60) == code
    lines = [line for line in user.output().splitlines() if line.startswith("ganglion: error: Agent/bad: ConfigurationError")]
    assert len(lines) == 1
    assert text in lines[0]
    user.assert_nothing_left(None)


def test_a_once_agent_that_fails_ends_up_with_1(user: Desk, tmp_path: Path) -> None:
    objects = [server(), channel("work"), agent("bad", "agents:fail", [("work", "Push", None)], run="Once", backoffLimit=2)]
    process = user.up(write(tmp_path / "app", objects))
    assert process.wait(60) == 1
    assert "Agent/bad failed 3 times; shutting down" in user.output()
    user.assert_nothing_left(None)


def test_manifests_that_are_wrong_start_nothing(user: Desk, tmp_path: Path) -> None:
    objects = [server(), channel("work"), agent("bad", "agents:Drop", [("nothing", "Pull", "drop")])]
    process = user.up(write(tmp_path / "app", objects))
    assert process.wait(60) == 78
    assert "Agent/bad: spec.channels[0].channelRef.name: Channel 'nothing' does not exist; create it" in user.output()
    assert not (user.home / "ganglion").exists()
    assert user.processes() == []


def test_stdin_and_json_lines(user: Desk, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    folder = write(tmp_path / "app", pipeline(report, count=50))
    objects = [json.loads(text) for text in (folder / "all.yaml").read_text().split("---\n")]
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code", "labels": {"ganglion.dev/code": "true"}}}
    objects.append({**code, "data": {"agents.py": (folder / "agents.py").read_text()}})
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    done = user.command("up", "-f", "-", "--log-format", "json", stdin=body)
    assert done.returncode == 0, done.stderr
    assert reported(report)["squares"] == squares(50)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(line.get("replica") == "worker-0" and line.get("message") == "worker on_exit" for line in lines)


PLAIN = """
import os, sys, zmq
socket = zmq.Context().socket(zmq.REP)
socket.connect("ipc://" + os.environ["GANGLION_RUN_DIR"] + "/work.sock")
while True:
    body = socket.recv()
    socket.send(b"")
    print("plain", os.environ["COLOUR"], len(body), flush=True)
"""


def test_a_program_of_any_language_takes_part_and_ends_with_the_domain(user: Desk, tmp_path: Path) -> None:
    objects = endless(workers=0)
    plain = agent("plain", "", [("work", "Pull", None)], env=[{"name": "COLOUR", "value": "red"}])
    del plain["spec"]["class"], plain["spec"]["code"]
    plain["spec"]["container"] = {"image": "none", "command": ["python", "-c", PLAIN]}
    process = user.up(write(tmp_path / "app", [*objects[:-1], plain]))
    wait_for(lambda: user.output().count("plain-0 | plain red") > 20, what="messages at the plain program")
    run = user.run
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "killed" not in user.output()
    user.assert_nothing_left(run)


def test_a_terminal_shows_a_live_table(user: Desk, tmp_path: Path) -> None:
    folder = write(tmp_path / "app", pipeline(tmp_path / "report.json", count=200))
    ours, theirs = os.openpty()
    env = {**user.env, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"}
    with subprocess.Popen(
        [sys.executable, "-m", "ganglion", "up", "-f", str(folder)], env=env, stdout=theirs, stderr=theirs, stdin=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        # The last process that holds the terminal ends it: reading fails then.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 65536):
                shown += chunk
        os.close(ours)
        assert process.wait(60) == 0, shown.decode()
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert re.search(r"ventilator\s+True\s+Completed", text)
    # The last table that stays on the screen.
    assert re.search(r"results\s+True\s+Usable\s+PushPull\s+200\s+200\s+0\s+200", text[text.rindex("CHANNELS") :])
    assert "worker-0 | worker on_exit" in text
