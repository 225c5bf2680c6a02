"""The smallest example does what its README says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HELLO = Path(__file__).parents[3] / "examples" / "hello"


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_hello(tmp_path: Path, plane: str) -> None:
    folder = shutil.copytree(HELLO, tmp_path / "hello")
    manifest = folder / "hello.yaml"
    manifest.write_text(manifest.read_text().replace("  run: Once\n", f"  run: Once\n  dataPlane: {plane}\n"))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-m", "ganglion", "up", "-f", str(folder), "--log-level", "DEBUG"]
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
    for name in ("Ada", "Grace", "Edsger"):
        assert f"printer-0 | Hello, {name}!" in output.read_text()
