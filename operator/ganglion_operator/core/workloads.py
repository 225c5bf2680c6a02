"""StatefulSet, Job, ConfigMap and PodDisruptionBudget of an agent, as pure functions."""

from __future__ import annotations

from ganglion.api import Agent
from ganglion.api.names import ANNOTATION_INTENT, LABEL_CODE, agents_service
from ganglion_operator.core.kinds import CONFIGMAP, DISRUPTION_BUDGET, JOB, STATEFULSET, Body
from ganglion_operator.core.meta import agent_selector, made
from ganglion_operator.core.trim import content_hash
from ganglion_operator.core.trouble import EXIT_CONFIGURATION


def statefulset(agent: Agent, template: Body, replicas: int) -> Body:
    """The workload of an agent that keeps running.

    Pods start in parallel, and are replaced by the operator: the cluster does not know which change of a template is one of intent.
    """
    spec: Body = {
        "replicas": replicas,
        "serviceName": agents_service(agent.spec.name_server_ref.name),
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
        "selector": {"matchLabels": agent_selector(agent.name)},
        "revisionHistoryLimit": 2,
        "template": template,
    }
    return made(STATEFULSET, agent, agent.name, spec=spec)


def job(agent: Agent, template: Body, intent: str) -> Body:
    """The workload of an agent that runs to completion: each replica is one index that must succeed once."""
    replicas = max(1, agent.spec.replicas)
    rules: list[Body] = [
        # A wrong class does not get better by trying again.
        {"action": "FailJob", "onExitCodes": {"containerName": "agent", "operator": "In", "values": [EXIT_CONFIGURATION]}},
        # A drained or lost node is not the agent's fault.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    spec: Body = {
        "completionMode": "Indexed",
        "completions": replicas,
        "parallelism": replicas,
        "backoffLimit": agent.spec.backoff_limit,
        "suspend": agent.spec.suspend or agent.spec.replicas == 0,
        "podFailurePolicy": {"rules": rules},
        "template": template,
    }
    return made(JOB, agent, agent.name, annotations={ANNOTATION_INTENT: intent}, spec=spec)


def code_map(agent: Agent) -> Body | None:
    """ConfigMap with an agent's inline files, named by its content: pods of two intents can run side by side."""
    if agent.spec.code is None or agent.spec.code.inline is None:
        return None
    files = dict(agent.spec.code.inline)
    body = made(CONFIGMAP, agent, f"{agent.name}-code-{content_hash(files)[:8]}", data=files, immutable=True)
    body["metadata"]["labels"][LABEL_CODE] = "inline"
    return body


def disruption_budget(agent: Agent) -> Body | None:
    """Budget for voluntary disruptions, when the user set one."""
    if agent.spec.min_available is None or agent.spec.run == "Once":
        return None
    spec: Body = {"minAvailable": agent.spec.min_available, "selector": {"matchLabels": agent_selector(agent.name)}}
    return made(DISRUPTION_BUDGET, agent, agent.name, spec=spec)
