"""Watches that are cut, and that cannot go on from where they were: a proxy in front of the API server. Nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganglion.nameserver.kube import KubernetesSource
from ganglion.nameserver.kubeapi import ApiAccess
from ganglion.wire.admin import AgentCount, ChannelCount, Copy, Domain
from ganglion_operator.core.kinds import WATCHED
from tests.support.aio import eventually
from tests.support.apiproxy import ApiProxy
from tests.support.apiserver import ApiServer
from tests.support.domain import DOMAIN, Cluster, install_definitions, settle
from tests.support.operator import OperatorProcess
from tests.support.wait import wait_for


@pytest.fixture
def cluster(apiserver: ApiServer, namespace: str) -> Cluster:
    install_definitions(apiserver)
    return Cluster(apiserver, namespace)


@pytest.fixture
def proxy(apiserver: ApiServer) -> Iterator[ApiProxy]:
    with ApiProxy(apiserver) as running:
        yield running


def test_the_operator_loses_nothing_when_its_watches_are_gone(cluster: Cluster, proxy: ApiProxy, tmp_path: Path) -> None:
    """Objects made, changed and deleted while all watches are cut; then each is answered with 410 Gone."""
    with OperatorProcess(proxy.kubeconfig(tmp_path), (cluster.namespace,)) as operator:
        operator.wait_ready()
        cluster.apply(DOMAIN)
        first = cluster.need("statefulsets", "worker")
        cluster.await_reason("agents", "source", "Starting")
        wait_for(lambda: operator.metric("ganglion_operator_canary_echoes_total") >= 1, what="an echo")
        settle(operator)
        wait_for(lambda: proxy.watches == len(WATCHED), what="one watch for each kind")
        proxy.cut()
        # A deletion is the event that a list does not tell.
        cluster.server.request("DELETE", cluster.path("statefulsets", "worker"))
        cluster.server.request("DELETE", cluster.path("services", "zoo-agents"))
        cluster.server.request("DELETE", cluster.path("agents", "source"))
        cluster.server.request("DELETE", cluster.path("statefulsets", "source"))
        cluster.apply(DOMAIN.split("---")[3].replace("name: worker", "name: late"))
        cluster.patch("channels", "tasks", {"spec": {"highWaterMark": 64}})
        proxy.restore()
        wait_for(lambda: len(proxy.gone) == len(WATCHED), what="all watches answered with 410")
        found = wait_for(lambda: cluster.get("statefulsets", "worker"), timeout=60, what="made again")
        assert found is not None
        assert found["metadata"]["uid"] != first["metadata"]["uid"]

        def wiring() -> str:
            text: str = cluster.need("statefulsets", "worker")["spec"]["template"]["metadata"]["annotations"]["ganglion.dev/wiring"]
            return text

        wait_for(lambda: '"highWaterMark":64' in wiring(), what="the edit of the channel")
        cluster.need("services", "zoo-agents")
        cluster.need("statefulsets", "late")
        wait_for(lambda: cluster.need("channels", "tasks")["status"].get("senders") == 0, what="the source is not counted")
        wait_for(lambda: operator.metric("ganglion_operator_objects", kind="Agent") == 2, what="the deleted agent is forgotten")
        assert operator.get("/livez") == (200, "ok")
        # Watches work again, without the help of lists.
        cluster.patch("agents", "late", {"spec": {"replicas": 5}})
        wait_for(lambda: cluster.need("statefulsets", "late")["spec"]["replicas"] == 5, what="an edit after all that")


class NoCounts:
    def members_count(self) -> int:
        return 0

    def agent_counts(self) -> list[AgentCount]:
        return []

    def channel_counts(self) -> list[ChannelCount]:
        return []

    def copies(self) -> list[Copy]:
        return []

    def refused(self) -> int:
        return 0


@pytest.mark.parametrize("garbage", [None, b"[]\n", b'"text"\n', b'{"type": "ADDED", "object": 7}\n', b'{"type": "ADDED"}\n', b"\xff{\n"])
def test_a_name_server_loses_nothing(cluster: Cluster, proxy: ApiProxy, tmp_path: Path, garbage: bytes | None) -> None:
    """Its watches are cut and gone, and what comes through is no event at times."""
    cluster.apply(DOMAIN)
    uid = cluster.need("nameservers", "zoo")["metadata"]["uid"]
    token = tmp_path / "token"
    token.write_text(cluster.server.token)
    domains: list[Domain] = []

    async def story() -> None:
        access = ApiAccess(proxy.url, token, cluster.server.ca)
        source = KubernetesSource(access, "zoo", cluster.namespace, uid, on_domain=domains.append, counts=NoCounts())
        running = asyncio.ensure_future(source.run())
        try:
            await eventually(lambda: domains and set(domains[-1].agents) == {"source", "worker"}, what="the first domain")
            await eventually(lambda: proxy.watches == 3, what="three watches")
            if garbage is None:
                proxy.cut()
            else:
                proxy.garbage = garbage
            await asyncio.to_thread(cluster.server.request, "DELETE", cluster.path("agents", "source"))
            await asyncio.to_thread(cluster.server.kubectl, "scale", "agent", "worker", "-n", cluster.namespace, "--replicas=7")
            if garbage is None:
                proxy.restore()
                await eventually(lambda: len(proxy.gone) == 3, what="410 for each")
            await eventually(
                lambda: set(domains[-1].agents) == {"worker"} and domains[-1].agents["worker"].replicas == 7, what="the domain of now"
            )
            assert not running.done()
            assert proxy.garbage is None
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await source.close()

    asyncio.run(story())
