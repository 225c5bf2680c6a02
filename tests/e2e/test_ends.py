"""Deleting a NameServer, or its namespace, while messages flow: with and without an operator, and with agents that do not cooperate."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timedelta

import pytest

from tests.e2e.chart import SYSTEM, install
from tests.e2e.domain import Domain
from tests.e2e.faults import signal_container
from tests.e2e.recorder import Recorder, recording
from tests.e2e.zoo import AGENTS, NAME, zoo
from tests.e2e.zoo import stubborn as stubborn_agents
from tests.support.cluster import KindCluster
from tests.support.wait import wait_for

TIMEOUT = 30
"""`shutdown.timeoutSeconds` of these domains."""
SLACK = 10
NAMESPACE_SLACK = 30
_OWNED = (
    "nameservers",
    "agents",
    "pods",
    "statefulsets",
    "jobs",
    "secrets",
    "services",
    "serviceaccounts",
    "configmaps",
    "roles",
    "rolebindings",
)


class Ending:
    """One domain under load that is about to be deleted."""

    def __init__(self, kind: KindCluster, namespace: str, stack: ExitStack, *, stubborn: bool = False, plane: str = "Sidecar") -> None:
        self.here = Domain(kind, namespace)
        self.here.create(*zoo(timeout=TIMEOUT, plane=plane), *(stubborn_agents(kind.agent_image) if stubborn else []))
        self.here.wait_ready(*AGENTS, *(["deaf", "program"] if stubborn else []))
        wait_for(lambda: self.here.accepted("results") > 1000, timeout=60, interval=0.5, what="work flows")
        self.recorder: Recorder = stack.enter_context(recording(kind, namespace))
        self.began = 0.0

    def delete(self) -> None:
        """`kubectl delete nameserver`, without waiting."""
        self.began = time.monotonic()
        self.here.kubectl("delete", "nameservers.ganglion.dev", NAME, "--wait=false")

    def owned(self) -> Iterator[str]:
        """What is left of everything that the NameServer owned."""
        for kind in _OWNED:
            for item in self.here.get(kind)["items"]:
                if item["metadata"]["name"] not in ("kube-root-ca.crt", "default"):
                    yield f"{kind}/{item['metadata']['name']}"

    def wait_gone(self) -> float:
        """Wait for the end within the promised time; seconds that it took."""
        left = TIMEOUT + SLACK - (time.monotonic() - self.began)
        wait_for(lambda: not any(self.owned()), timeout=left, interval=0.5, what="everything that the NameServer owned to be gone")
        return time.monotonic() - self.began

    def assert_in_order(self, healthy: list[str]) -> None:
        """Every healthy agent ran its on_exit, nothing that was accepted was lost, and the name server left last."""
        for pod in healthy:
            assert len([text for text in self.recorder.of(pod) if "ON_EXIT" in text]) == 1, f"{pod}: on_exit"
        [(sent,)] = _exits(self.recorder, "source-0")
        [(seen, highest)] = _exits(self.recorder, "sink-0")
        assert sent > 1000
        assert (seen, highest) == (sent, sent), f"{sent} sent, {seen} different ones arrived, the last is {highest}"
        # A sidecar that has said goodbye is no member any more; when the kubelet tells it to end, and it says so, may be later.
        lines = [line for line in self.recorder.lines() if line.container != "runtime"]
        ends = {line.pod: datetime.fromisoformat(line.time) for line in lines}
        server = ends.pop(f"{NAME}-0")
        goodbyes = [text for text in self.recorder.of(f"{NAME}-0", "nameserver") if "says goodbye" in text]
        missing = [pod for pod in healthy if not any(f"{pod} says goodbye" in text for text in goodbyes)]
        assert not missing, f"{missing} left without a goodbye"
        # Who has to be forced says goodbye at the moment of its end.
        late = [pod for pod, end in ends.items() if end > server + timedelta(seconds=0 if pod in healthy else 1)]
        assert not late, f"{late} ended after the name server"

    def check(self, healthy: list[str]) -> None:
        """`wait_gone` and `assert_in_order`; a failure shows what everybody said."""
        try:
            print(f"{self.here.namespace}: gone after {self.wait_gone():.1f} s")
            self.assert_in_order(healthy)
        except (AssertionError, TimeoutError, subprocess.CalledProcessError, ValueError) as error:
            error.add_note(f"left: {list(self.owned())}\n{self.recorder.transcript()}")
            raise


def _exits(recorder: Recorder, pod: str) -> list[tuple[int, ...]]:
    words = [text.split() for text in recorder.of(pod) if text.startswith("ON_EXIT")]
    return [tuple(int(word) for word in line[1:]) for line in words]


ALL = ["source-0", "worker-0", "worker-1", "sink-0"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.mark.timeout(400)
@pytest.mark.parametrize("plane", ["Sidecar", "InProcess"])
def test_deleting_the_name_server_ends_everything_in_order(operator: KindCluster, stack: ExitStack, plane: str) -> None:
    ending = Ending(operator, stack.enter_context(operator.namespace("ends")), stack, plane=plane)
    ending.delete()
    ending.check(ALL)


@pytest.mark.timeout(400)
def test_a_frozen_agent_holds_nobody_up(operator: KindCluster, stack: ExitStack) -> None:
    ending = Ending(operator, stack.enter_context(operator.namespace("frozen")), stack)
    signal_container(operator, ending.here.namespace, "worker-0", "agent", "SIGSTOP")
    ending.delete()
    ending.check(["source-0", "worker-1", "sink-0"])


@pytest.mark.timeout(400)
def test_agents_that_ignore_sigterm_hold_nobody_up(operator: KindCluster, stack: ExitStack) -> None:
    ending = Ending(operator, stack.enter_context(operator.namespace("deaf")), stack, stubborn=True)
    ending.delete()
    ending.check(ALL)


@pytest.mark.timeout(400)
def test_deleting_the_namespace_with_the_operator_outside(operator: KindCluster, stack: ExitStack) -> None:
    ending = Ending(operator, stack.enter_context(operator.namespace("outside")), stack)
    began = time.monotonic()
    operator.kubectl("delete", "namespace", ending.here.namespace, "--wait=false")
    took = _namespace_gone(operator, ending.here.namespace, began)
    print(f"{ending.here.namespace}: gone after {took:.1f} s")
    for pod in ALL:
        assert [text for text in ending.recorder.of(pod) if "ON_EXIT" in text], f"{pod}: on_exit\n{ending.recorder.transcript()}"


def _namespace_gone(kind: KindCluster, namespace: str, began: float) -> float:
    """Wait for a namespace's end within the promised time; seconds that it took."""
    wait_for(
        lambda: not kind.kubectl("get", "namespace", namespace, "--ignore-not-found"),
        timeout=TIMEOUT + NAMESPACE_SLACK - (time.monotonic() - began),
        interval=0.5,
        what="the namespace to be gone",
    )
    return time.monotonic() - began


@contextmanager
def operator_away(kind: KindCluster) -> Iterator[None]:
    """No operator runs in the block."""

    def scale(replicas: int) -> None:
        kind.kubectl("scale", "deployment/ganglion", "-n", SYSTEM, f"--replicas={replicas}")
        wait_for(
            lambda: len(kind.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator")["items"]) == replicas,
            timeout=90,
            interval=0.5,
            what=f"{replicas} operators",
        )

    scale(0)
    try:
        yield
    finally:
        scale(1)
        kind.kubectl("rollout", "status", "deployment/ganglion", "-n", SYSTEM, "--timeout", "120s")


@pytest.mark.alone
@pytest.mark.timeout(900, func_only=True)
def test_ends_without_the_operator_and_with_one_inside_the_namespace(
    operator: KindCluster, stack: ExitStack, by_itself: Callable[[], AbstractContextManager[None]]
) -> None:
    alone = Ending(operator, stack.enter_context(operator.namespace("alone")), stack)
    inside = stack.enter_context(operator.namespace("inside"))
    with by_itself(), operator_away(operator):
        only_here = f"watchNamespaces={{{inside}}},crds.enabled=false,rbac.nodes=false,rbac.aggregate=false"
        install(operator, "inside", inside, "--set", only_here)
        around = Ending(operator, inside, stack)
        alone.delete()
        began = time.monotonic()
        operator.kubectl("delete", "namespace", inside, "--wait=false")
        alone.check(ALL)
        print(f"namespace with its operator gone after {_namespace_gone(operator, inside, began):.1f} s")
        for pod in ALL:
            assert [text for text in around.recorder.of(pod) if "ON_EXIT" in text], f"{pod}: on_exit\n{around.recorder.transcript()}"
