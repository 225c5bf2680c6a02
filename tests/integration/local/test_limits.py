"""More replicas than the machine has descriptors for: refused before anything starts, and survived when they run out later."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.local.domain import desk, endless, write
from tests.support.wait import wait_for

LIMIT = 120


def test_replicas_beyond_the_limit_of_descriptors(tmp_path: Path) -> None:
    with desk(tmp_path / "home") as user:

        def up(workers: int, *arguments: str) -> subprocess.CompletedProcess[str]:
            folder = write(tmp_path / f"app-{workers}", endless(workers=workers, plane="InProcess"))
            command = f'ulimit -n {LIMIT}; exec "$0" -m ganglion up -f "$@"'
            return subprocess.run(
                ["sh", "-c", command, sys.executable, str(folder), *arguments],
                env=user.env,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        refusal = "Agent/worker: spec.replicas: found 5000; at most 13 can run here: "
        for arguments in ((), ("--detach",)):
            refused = up(5000, *arguments)
            assert refused.returncode == 78, refused
            assert len(refused.stderr.splitlines()) == 1, refused.stderr
            assert refusal in refused.stderr
            assert "all.yaml:" in refused.stderr
            assert user.run is None
            assert user.processes() == []

        assert up(1, "--detach").returncode == 0
        before = user.status("Agent", "worker")["observedGeneration"]
        for refused in (user.command("scale", "worker", "--replicas", "5000"), up(5000)):
            assert refused.returncode == 1
            assert refusal in refused.stderr
        assert user.ready("source-0", "worker-0")
        assert user.status("Agent", "worker")["observedGeneration"] == before

        # They run out while it runs. The supervisor keeps the last ones to itself.
        run = user.run
        assert run is not None
        supervisor = next(int(line.split()[0]) for line in user.processes() if line.rstrip().endswith("supervise"))
        taken = {int(item.name) for item in Path(f"/proc/{supervisor}/fd").iterdir()}
        # The limit is of their numbers: eight stay free, enough to answer us.
        tight = [number for number in range(LIMIT) if number not in taken][8]
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (tight, LIMIT))
        pid = user.replicas()["worker-0"]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda: (
                "worker-0: the agent process cannot be started: too few file descriptors are left" in user.replicas()["worker-0"]["message"]
            ),
            timeout=15,
            what="the reason at the replica",
        )
        ready = next(item for item in user.status("Agent", "worker")["conditions"] if item["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "CreateContainerError")
        assert "lower spec.replicas" in ready["message"]
        assert user.replicas()["source-0"]["ready"]
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        wait_for(lambda: user.ready("source-0", "worker-0"), timeout=40, what="the replica to come back")
        assert user.command("down").returncode == 0
        user.assert_nothing_left(run)
