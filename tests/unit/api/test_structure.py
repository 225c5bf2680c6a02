"""Objects that nest as deep as an API server lets them."""

from __future__ import annotations

import subprocess
import sys

import pytest

LEVELS = 9_990
READ = f"""
import copy, json, contextlib
from ganglion.runtime.errors import ConfigurationError
with contextlib.suppress(SystemExit, ConfigurationError):
    {{main}}
text = '{{{{"a":' * {LEVELS} + "1" + "}}}}" * {LEVELS}
found = json.loads(text)
assert found == copy.deepcopy(found) and json.dumps(found, separators=(",", ":")) == text
"""

IN_POD = (
    "import types; from ganglion.nameserver.server import NameServer;"
    " options = types.SimpleNamespace(admin_socket=None, name='a', namespace='b', uid='c');"
    " NameServer._make_source(types.SimpleNamespace(options=options, set_domain=None))"
)


@pytest.mark.parametrize(
    "main",
    [
        # In a pod; on a laptop a name server watches nobody.
        IN_POD,
        "from ganglion_operator.main import main; main([])",
    ],
    ids=["name server", "operator"],
)
def test_whoever_watches_reads_the_deepest_object(main: str) -> None:
    done = subprocess.run([sys.executable, "-c", READ.format(main=main)], env={}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
