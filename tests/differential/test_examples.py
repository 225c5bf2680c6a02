"""The programs of examples/osbrain print the same on both libraries; only their import lines differ."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.differential.canonical import text
from tests.differential.runner import MARK, PREFIXES, ROOT, end_marked, marked
from tests.support.wait import wait_for

pytestmark = pytest.mark.skipif(find_spec("osbrain") is None, reason="osbrain is not installed")

PROGRAMS = sorted((ROOT / "examples" / "osbrain").glob("*.py"))
IMPORT = re.compile(r"^from ganglion(?=[ .])", re.MULTILINE)
# What osBrain's name server prints about itself.
BANNER = re.compile(r"^(Broadcast server running on|NS running on|URI =|NS shut down).*\n", re.MULTILINE)


@pytest.fixture
def mark() -> Iterator[str]:
    mark = uuid.uuid4().hex
    yield mark
    end_marked(mark)


def run(program: Path, runtime: Path, mark: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of a program, without what no two runs share."""
    runtime.mkdir(mode=0o700)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(PREFIXES)}
    environment |= {MARK: mark, "XDG_RUNTIME_DIR": str(runtime), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=60, env=environment, start_new_session=True
    )
    return done.returncode, text(BANNER.sub("", done.stdout)), done.stderr


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_same_output(program: Path, tmp_path_factory: pytest.TempPathFactory, mark: str) -> None:
    short = tmp_path_factory.mktemp("x")
    theirs = short / program.name
    theirs.write_text(IMPORT.sub("from osbrain", program.read_text()))
    assert theirs.read_text() != program.read_text()
    with ThreadPoolExecutor(2) as pool:
        expected = pool.submit(run, theirs, short / "t", mark)
        found = pool.submit(run, program, short / "o", mark)
    code, output, errors = found.result()
    assert output == expected.result()[1]
    assert (code, errors) == (0, "")
    assert expected.result()[0] == 0
    wait_for(lambda: not marked(mark), timeout=10, what="no process is left behind")


def test_every_program_is_listed() -> None:
    readme = (ROOT / "examples" / "osbrain" / "README.md").read_text()
    assert set(re.findall(r"^\| `(\w+\.py)` \|", readme, re.MULTILINE)) == {path.name for path in PROGRAMS}
