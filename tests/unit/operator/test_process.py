"""Configuration, permissions and imports of the operator process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ganglion
import ganglion_operator
from ganglion_operator import config
from ganglion_operator.core.kinds import CUSTOM, KINDS, WATCHED
from ganglion_operator.core.rbac import NAMESERVER_RULES, NAMESPACED_RULES
from ganglion_operator.logs import JsonFormatter

REQUIRED = ["--agent-image=agent:1"]


def test_the_environment_is_the_default() -> None:
    found = config.parse([], {"GANGLION_OPERATOR_AGENT_IMAGE": "a:1", "GANGLION_OPERATOR_NAMESPACES": "x, y,x", "POD_NAMESPACE": "own"})
    assert (found.pods.agent_image, found.namespaces, found.namespace, found.canary_namespace) == ("a:1", ("x", "y"), "own", "x")
    assert config.parse(["--agent-image=b"], {"GANGLION_OPERATOR_AGENT_IMAGE": "a"}).pods.agent_image == "b"
    assert config.parse(REQUIRED, {}).namespaces is None


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        ([], {}, "--agent-image"),
        ([*REQUIRED, "--namespaces=Not_A_Name"], {}, "--namespaces: found 'Not_A_Name'"),
        (REQUIRED, {"GANGLION_OPERATOR_LEADER_ELECT": "yes"}, "--leader-elect: found 'yes'"),
        (REQUIRED, {"GANGLION_OPERATOR_WORKERS": "0"}, "--workers: found 0"),
        ([*REQUIRED, "--health-address=x:y"], {}, "--health-address: found 'x:y'"),
        ([*REQUIRED, "--runtime-resources={}x"], {}, "--runtime-resources"),
        ([*REQUIRED, "--resync-seconds=-1"], {}, "--resync-seconds"),
        ([*REQUIRED, "--log-level=LOUD"], {}, "--log-level: found 'LOUD'"),
        (REQUIRED, {"GANGLION_OPERATOR_LOG_LEVEL": "LOUD"}, "--log-level: found 'LOUD'"),
    ],
)
def test_bad_options_are_refused_in_one_line(
    arguments: list[str], environment: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        config.parse(arguments, environment)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_log_lines_are_json() -> None:
    import logging

    record = logging.makeLogRecord(
        {"name": "n", "levelname": "INFO", "msg": "Created %s", "args": ("x",), "object": "Agent a/b", "odd": object()}
    )
    line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["object"], line["level"]) == ("Created x", "Agent a/b", "INFO")
    assert "odd" not in line


def test_the_operator_loads_no_messaging_stack_and_nothing_that_runs_code_while_decoding() -> None:
    """aiohttp imports pickle for cookie files, so the module is there; but nobody of ours uses it (see below)."""
    code = "import ganglion_operator.main, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"zmq", "dill", "cloudpickle", "ganglion.codecs", "ganglion.runtime", "ganglion.sdk"}


def test_no_code_that_the_operator_runs_names_pickle() -> None:
    library = Path(ganglion.__file__).parent
    folders = [Path(ganglion_operator.__file__).parent, *(library / part for part in ("api", "planner", "wiring"))]
    for path in (file for folder in folders for file in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
            )
            assert not {"pickle", "dill", "marshal", "shelve", "zmq"} & {(name or "").split(".")[0] for name in names}, path


def test_permissions_name_verbs_and_cover_what_is_granted() -> None:
    held = {(rule.group, rule.resource): set(rule.verbs) for rule in NAMESPACED_RULES}
    assert not any("*" in (rule.group, rule.resource, *rule.verbs) for rule in (*NAMESPACED_RULES, *NAMESERVER_RULES))
    for rule in NAMESERVER_RULES:
        assert set(rule.verbs) <= held[rule.group, rule.resource], rule
    for kind in WATCHED:
        assert {"get", "list", "watch"} <= held[kind.group, kind.plural], kind
    for kind in CUSTOM:
        assert {"get", "patch"} <= held[kind.group, f"{kind.plural}/status"]
    assert held["", "secrets"] == {"get", "create"}
    assert "pods/exec" not in {rule.resource for rule in NAMESPACED_RULES}
    assert KINDS["Agent"] in CUSTOM
