"""Lines for terminals, files and programs."""

from __future__ import annotations

import io
import json
from typing import Any

from ganglion.local import tables
from ganglion.local.view import LineView, progress

SNAPSHOT: dict[str, Any] = {
    "nameServer": {"pid": 1, "restarts": 0, "state": "Running", "ready": True},
    "replicas": [{"name": "w-0", "agent": "w", "restarts": 2}, {"name": "w-1", "agent": "w", "restarts": 1}],
    "objects": [
        {
            "kind": "Agent",
            "metadata": {"name": "w"},
            "spec": {"replicas": 2},
            "status": {"readyReplicas": 1, "conditions": [{"type": "Ready", "status": "False", "reason": "Starting", "message": ""}]},
        },
        {"kind": "Agent", "metadata": {"name": "once"}, "spec": {"replicas": 1, "run": "Once"}, "status": {"succeeded": 1}},
        {"kind": "Channel", "metadata": {"name": "c"}, "spec": {"pattern": "PushPull"}, "status": {"delivered": 7, "inFlight": 3}},
    ],
}


def view(**options: Any) -> tuple[LineView, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return LineView(out=out, err=err, **options), out, err


def test_text_lines_name_their_replica() -> None:
    shown, out, err = view()
    shown.line("w-0", "agent", "hello")
    shown.line("w-0", "runtime", "hm")
    shown.say("started")
    shown.say("trouble", level="warning")
    assert out.getvalue() == "w-0 | hello\nw-0/runtime | hm\nganglion: started\n"
    assert err.getvalue() == "ganglion: warning: trouble\n"


def test_quiet_keeps_warnings() -> None:
    shown, out, err = view(quiet=True)
    shown.line("w-0", "agent", "hello")
    shown.say("started")
    shown.say("trouble", level="error")
    assert (out.getvalue(), err.getvalue()) == ("", "ganglion: error: trouble\n")


def test_every_json_line_is_an_object() -> None:
    shown, out, _ = view(as_json=True)
    shown.line("w-0", "agent", '{"message": "already"}')
    shown.line("w-0", "agent", "plain {")
    shown.say("trouble", level="warning")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines[0] == {"message": "already"}
    assert (lines[1]["replica"], lines[1]["message"]) == ("w-0", "plain {")
    assert (lines[2]["level"], lines[2]["message"]) == ("WARNING", "trouble")


def test_a_reader_that_goes_away_ends_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    LineView(out=Gone()).line("w-0", "agent", "hello")


def test_tables() -> None:
    text = tables.as_text(tables.agents(SNAPSHOT))
    assert text.splitlines() == [
        "NAME   READY     REASON     REPLICAS   RUN      DONE   RESTARTS",
        "once   Unknown   Pending    0/1        Once     1/1    0",
        "w      False     Starting   1/2        Always          3",
    ]
    assert tables.channels(SNAPSHOT).rows == [["c", "Unknown", "Pending", "PushPull", "0", "0", "3", "7", "0"]]
    assert progress(SNAPSHOT) == "once 1/1 done, w 1/2 · c 7 delivered, 3 in flight"
    dead = {"kind": "Channel", "metadata": {"name": "c"}, "spec": {}, "status": {"delivered": 7, "deadLettered": 4}}
    assert progress({"objects": [dead]}).endswith("c 7 delivered, 0 in flight, 4 given up")
