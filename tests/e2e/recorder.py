"""Everything that the containers of a namespace print, to the last line: also of pods that are deleted meanwhile."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

# `kubectl logs --follow` ends with its container's log file, which may lack the last lines. A descriptor of a deleted file does not.
# tail ends with its stdin, so that nothing stays on the node when the test is over.
_FOLLOW = """
files=$(find /var/log/pods -path "/var/log/pods/$0_*" -name '*.log')
tail -v -n +1 -f $files & tail=$!
cat >/dev/null
kill $tail
"""
_HEADER = re.compile(r"==> /var/log/pods/[^_]+_(?P<pod>[^_]+)_[^/]+/(?P<container>[^/]+)/\d+\.log <==")
_LINE = re.compile(r"(?P<time>\S+Z) (?:stdout|stderr) [FP] (?P<text>.*)")


@dataclass(frozen=True)
class Line:
    """One line of a container.

    Attributes:
        time: RFC 3339 with nanoseconds, UTC: sorts as text. All nodes of a kind cluster have one clock.
    """

    pod: str
    container: str
    time: str
    text: str


@dataclass
class Recorder:
    """What has been heard so far."""

    _files: list[str] = field(default_factory=list)

    def lines(self) -> list[Line]:
        """By time."""
        found = []
        for path in self._files:
            pod = container = ""
            with Path(path).open(encoding="utf-8", errors="replace") as log:
                for raw in log:
                    if header := _HEADER.match(raw):
                        pod, container = header["pod"], header["container"]
                    elif line := _LINE.match(raw):
                        found.append(Line(pod, container, line["time"], line["text"]))
        return sorted(found, key=lambda line: line.time)

    def of(self, pod: str, container: str = "agent") -> list[str]:
        """Texts of one container; of every pod whose name begins so."""
        return [line.text for line in self.lines() if line.pod.startswith(pod) and line.container == container]

    def transcript(self) -> str:
        """All of it, for a failing test."""
        return "\n".join(f"{line.time[11:23]} {line.pod}/{line.container}: {line.text}" for line in self.lines())


@contextmanager
def recording(kind: KindCluster, namespace: str) -> Iterator[Recorder]:
    """Record the containers that have started by now until the block ends; those on the spare node excepted."""
    recorder = Recorder()
    followers: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        # The spare node may hang.
        for node in kind.nodes[:2]:
            output = stack.enter_context(tempfile.NamedTemporaryFile(prefix="recorder"))
            recorder._files.append(output.name)
            followers.append(kind.start_on_node(node, "sh", "-c", _FOLLOW, namespace, stdout=output))
        try:
            wait_for(lambda: any(recorder.lines()), what=f"the containers of {namespace} to be heard")
            yield recorder
        finally:
            for follower in followers:
                assert follower.stdin is not None
                follower.stdin.close()
            for follower in followers:
                try:
                    follower.wait(20)
                except subprocess.TimeoutExpired:
                    follower.kill()
                    follower.wait()
