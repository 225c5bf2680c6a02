"""`python -m hack.kind prepare|up|load|down|status|env|tools`: the commands behind `make kind-*`."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from hack.kind import projectimages, provider, tools
from hack.kind.cluster import Cluster
from hack.kind.config import Options
from hack.kind.steps import KindError, say, step


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what it says, 1 when it did not, 2 for a bad command line."""
    # A terminated run must still end its children and remove what it had half made.
    signal.signal(signal.SIGTERM, _interrupt)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["tools"]:
        return tools.main(words[1:])
    try:
        options = _parser().parse_args(words)
        return _COMMANDS[options.command](options)
    except KindError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _prepare(options: argparse.Namespace) -> int:
    with step("prepare the cluster's parts"):
        chosen = provider.select(options.provider, options.image)
        image = chosen.node_image()
        for tool in ("kind", "kubectl", "helm"):
            chosen.tool(tool)
        projectimages.base_image(chosen)
    say(f"✓ {chosen.name} will run {image}")
    return 0


def _up(options: argparse.Namespace) -> int:
    wanted = Options(name=options.name, nodes=options.nodes, fast_restart=options.fast_restart)
    cluster = Cluster(options.name)
    with step("cluster up"):
        cluster.up(wanted, options.provider, image=options.image, kwok=options.kwok, fresh=options.fresh)
    say(f'  use it: eval "$(python -m hack.kind env --name {options.name})"')
    return 0


def _load(options: argparse.Namespace) -> int:
    cluster = Cluster(options.name)
    if options.archive:
        nodes = options.nodes.split(",") if options.nodes else cluster.record["nodes"]
        cluster.load_archive(options.archive, nodes)
    else:
        cluster.load(options.images or list(projectimages.default_images()), options.nodes.split(",") if options.nodes else ())
    return 0


def _down(options: argparse.Namespace) -> int:
    if _flag("KEEP_CLUSTER") and not options.force:
        say(f"· KEEP_CLUSTER is set: cluster {options.name} stays (--force deletes it)")
        return 0
    Cluster(options.name).delete()
    say(f"✓ cluster {options.name} is gone")
    return 0


def _status(options: argparse.Namespace) -> int:
    cluster = Cluster(options.name)
    problem = cluster.problem()
    if problem is not None:
        print(f"cluster {options.name}: {problem}")
        return 1
    print(f"cluster {options.name}: ready ({cluster.record['provider']}, {', '.join(cluster.record['nodes'])})")
    return 0


def _env(options: argparse.Namespace) -> int:
    for name, value in Cluster(options.name).environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


_COMMANDS = {"prepare": _prepare, "up": _up, "load": _load, "down": _down, "status": _status, "env": _env}


def _flag(variable: str) -> bool:
    return os.environ.get(variable, "") not in {"", "0"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hack.kind", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    default_name = os.environ.get("GANGLION_KIND_CLUSTER", "ganglion")
    common.add_argument("--name", default=default_name, help="cluster name (GANGLION_KIND_CLUSTER)")

    source = argparse.ArgumentParser(add_help=False)
    source.add_argument(
        "--provider",
        default=os.environ.get("GANGLION_KIND_PROVIDER", "auto"),
        help=f"{', '.join(provider.CHOICES)} (GANGLION_KIND_PROVIDER)",
    )
    source.add_argument(
        "--image",
        default=os.environ.get("GANGLION_KIND_NODE_IMAGE", ""),
        help="a stock node image instead of kind's default (GANGLION_KIND_NODE_IMAGE)",
    )
    commands.add_parser("prepare", parents=[source], help="build what `up` needs, and make no cluster")

    up = commands.add_parser("up", parents=[common, source], help="make the cluster Ready; keeps one that is what is asked for")
    up.add_argument("--nodes", type=int, default=int(os.environ.get("GANGLION_KIND_NODES", "1")), help="1 to 5 (GANGLION_KIND_NODES)")
    up.add_argument(
        "--fast-restart",
        action="store_true",
        default=_flag("GANGLION_KIND_FAST_RESTART"),
        help="lower kubelet's crash back-off from up to 5 min to 1 s (GANGLION_KIND_FAST_RESTART=1)",
    )
    up.add_argument("--kwok", type=int, default=0, metavar="N", help="add N fake nodes, for benches")
    up.add_argument("--fresh", action="store_true", help="delete it first in any case")

    load = commands.add_parser("load", parents=[common], help="build the images if stale and put them on the nodes")
    load.add_argument("images", nargs="*", help="agent, operator (default: both)")
    load.add_argument("--archive", type=Path, help="an image archive instead of the project's images")
    load.add_argument("--nodes", default="", help="comma-separated; default: nodes that take ordinary pods")

    down = commands.add_parser("down", parents=[common], help="delete the cluster and all that belongs to it")
    down.add_argument("--force", action="store_true", help="even with KEEP_CLUSTER=1")
    commands.add_parser("status", parents=[common], help="whether the cluster can be used; exit status 1 if not")
    commands.add_parser("env", parents=[common], help="exports of KUBECONFIG, PATH and engine variables for a shell")
    commands.add_parser("tools", help="build groups of programs: python -m hack.kind tools --help")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
