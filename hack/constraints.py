"""Pins what the extras resolve to today: `make constraints`. Names and versions only, so that any index can serve them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = "# The versions that the test suite ran with. Images and `make install` use them; the ranges are in pyproject.toml.\n"


def normal(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve() -> dict[str, str]:
    """Distribution → version that pip would install for all extras into an empty environment.

    Raises:
        subprocess.CalledProcessError: pip found no solution; it has said why.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--dry-run", "--ignore-installed"]
    done = subprocess.run([*command, "--report", "-", f"{ROOT}[dev]"], stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    found = (item["metadata"] for item in json.loads(done.stdout)["install"])
    return {normal(item["name"]): item["version"] for item in found if normal(item["name"]) != "ganglion"}


def main() -> int:
    """Write constraints.txt."""
    pins = "".join(f"{name}=={version}\n" for name, version in sorted(resolve().items()))
    (ROOT / "constraints.txt").write_text(HEAD + pins)
    print(f"wrote: constraints.txt ({pins.count(chr(10))} pins)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
