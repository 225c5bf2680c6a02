"""`python -m bench [NAME ...]`: run the benches one after another, each in a process of its own. Never two at once: they share the cores."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BENCHES = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("__init__", "__main__", "report"))


def main() -> int:
    """Run all benches, or those named. Returns 1 when one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Ratios to anchors measured in the same run; JSON and plots in bench/results."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(BENCHES)}")
    names = parser.parse_args().names or BENCHES
    unknown = sorted(set(names) - set(BENCHES))
    if unknown:
        parser.error(f"no bench {unknown[0]!r}; there are {', '.join(BENCHES)}")
    failed = []
    for number, name in enumerate(names, 1):
        print(f"\n=== {name} ({number} of {len(names)})", flush=True)
        started = time.monotonic()
        if subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False, timeout=3600).returncode != 0:
            failed.append(name)
        print(f"=== {name}: {time.monotonic() - started:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
