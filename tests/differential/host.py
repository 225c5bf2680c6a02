"""A process that plays scenarios: `python -m tests.differential.host LIBRARY LOG RESULTS [BACKEND]`.

It reads one scenario id per line from standard input and writes one JSON line per scenario to the descriptor RESULTS. A scenario leaves
the process as it found it, or the process ends after having told the result: the runner then starts another one.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.differential.catalogue import catalogue
from tests.differential.stage import Stage


def play(stage: Stage, scenario: Any) -> dict[str, Any]:
    """Play one scenario; its transcript, and its failure if it did not reach its end."""
    started = time.monotonic()
    failure = None
    try:
        scenario(stage)
    except Exception:  # noqa: BLE001 - told to the runner
        failure = traceback.format_exc()
    played = time.monotonic()
    problems = stage.close()
    return {
        "transcript": stage.transcript,
        "failure": failure,
        "problems": problems,
        "seconds": round(played - started, 3),
        "closing": round(time.monotonic() - played, 3),
    }


def main() -> int:
    """Play what standard input asks for, until it ends."""
    library, log, results = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    backend = sys.argv[4] if len(sys.argv) > 4 else None
    os.set_inheritable(results, False)
    scenarios = catalogue()
    for line in sys.stdin:
        environment = dict(os.environ)
        stage = Stage(library, log, backend)
        config = getattr(stage.m, "config", None)
        settings = dict(config) if config is not None else {}
        result = play(stage, scenarios[line.strip()][0])
        os.write(results, json.dumps(result).encode() + b"\n")
        if result["problems"]:
            return 1
        os.environ.clear()
        os.environ.update(environment)
        if config is not None:
            config.update(settings)
    return 0


if __name__ == "__main__":
    # No clean-up of a library's own at the interpreter's end may delay the runner: what survives is ended, and counted, by it.
    code = main()
    sys.stdout.flush()
    os._exit(code)
