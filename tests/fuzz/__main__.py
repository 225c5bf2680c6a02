"""`python -m tests.fuzz [SECONDS [TARGET...]]`: atheris searches each decoder for input that it answers with anything but its own error.

Each target has a process of its own, because libFuzzer ends the process that it runs in. Exit code 1: something was found, the input is in
`.fuzz/`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOUND = Path(".fuzz")
EXIT_USAGE = 64
START_SECONDS = 60
"""Beyond the search: imports, instrumentation."""


def _search(name: str, seconds: int) -> None:
    """In the process of one target; never returns."""
    import atheris

    with atheris.instrument_imports(include=["ganglion.codecs", "ganglion.wire", "ganglion.imperative"]):
        from tests.fuzz.targets import TARGETS

    arguments = [f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=1024", "-timeout=10", f"-artifact_prefix={FOUND}/{name}-"]
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


def main(argv: list[str]) -> int:
    """Search; the exit code."""
    if argv[:1] == ["--target"]:
        _search(argv[1], int(argv[2]))
    from tests.fuzz.targets import TARGETS

    seconds = int(argv[0]) if argv else 30
    names = argv[1:] or list(TARGETS)
    unknown = sorted(set(names) - set(TARGETS))
    if unknown:
        print(f"unknown: {', '.join(unknown)}; targets are: {', '.join(TARGETS)}", file=sys.stderr)
        return EXIT_USAGE
    workers = os.cpu_count() or 1
    each = max(1, seconds * workers // len(names))
    FOUND.mkdir(exist_ok=True)
    with ThreadPoolExecutor(workers) as pool:
        clean = list(pool.map(lambda name: _searched(name, each), names))
    return 0 if all(clean) else 1


def _searched(name: str, seconds: int) -> bool:
    """Search one decoder in a process of its own; whether nothing was found."""
    command = [sys.executable, "-m", "tests.fuzz", "--target", name, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + START_SECONDS, check=False)
    last = [line for line in done.stderr.splitlines() if line.startswith("Done")]
    if done.returncode == 0 and last:
        print(f"{name}: {last[-1]}", flush=True)
        return True
    print(f"{name}: FAILED; the input is in {FOUND}/\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
