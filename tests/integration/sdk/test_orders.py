"""The example of the tutorial does what the tutorial says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ORDERS = Path(__file__).parents[3] / "examples" / "orders"


def test_orders(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-m", "ganglion", "up", "-f", str(ORDERS)]
    output = tmp_path / "output"
    with output.open("w") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        try:
            code = process.wait(60)
        finally:
            # The supervisor ends its agents; killing it outright would leave that to the kernel.
            process.terminate()
            process.wait(40)
            print(output.read_text())
    assert code == 0
    lines = [line for line in output.read_text().splitlines() if line.startswith("stock-0 | packed/")]
    # PubSub may lose what is published before the subscriber is there; the last order comes after it.
    assert lines[-1] == "stock-0 | packed/apple {'id': 10, 'left': 95}"
