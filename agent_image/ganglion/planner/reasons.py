"""Every condition and its reasons, for the reference pages; tests hold the planner to this table."""

from __future__ import annotations

_RESOLVED = "What is referred to exists and can be used."
_NAME_SERVER = {
    "Resolved": _RESOLVED,
    "NotFound": "There is no such NameServer in this namespace; it heals when one appears.",
    "Deleting": "The NameServer is being deleted.",
}

READY_FROM_PODS = {
    "ImagePullBackOff": "An image cannot be pulled; the message names it.",
    "InvalidImageName": "An image's name cannot be read.",
    "ClassNotLoadable": "The class cannot be imported; the message says why.",
    "ConfigurationError": "`__init__` raised, or the wiring cannot be read; the message says why.",
    "CrashLoopBackOff": "A container ends again and again; the message holds its last words.",
    "Failing": "A container ended with an error and is started again.",
    "OOMKilled": "A container ran out of memory.",
    "CreateContainerConfigError": "A Secret or ConfigMap that a container needs is missing.",
    "CreateContainerError": "The node cannot create a container.",
    "RunContainerError": "The node cannot run a container, e.g. because its command does not exist.",
    "Unschedulable": "No node takes the pods.",
    "PodsNotCreated": "The cluster makes no pods, e.g. because of a quota.",
}
"""Reasons of `Ready` that come from what pods (or processes) report; others may be added as Kubernetes names them."""

CONDITIONS: dict[str, dict[str, dict[str, str]]] = {
    "NameServer": {
        "Ready": {
            "Serving": "Agents can join.",
            "Starting": "The name server's pod is not Ready yet.",
            "ShuttingDown": "The NameServer is being deleted; agents are shut down in order.",
            "NameConflict": "An object of the name that is needed belongs to somebody else.",
        },
        "Available": {
            "Serving": "Agents can join.",
            "Starting": "The name server's pod is not Ready yet.",
            "ShuttingDown": "Still serving while agents shut down, as the status says.",
            "NameConflict": "An object of the name that is needed belongs to somebody else.",
        },
        "Counted": {
            "TooManyAgents": "More Agents than the status can count; all of them work. Present only then.",
            "TooManyChannels": "More Channels than the status can count; all of them work. Present only then.",
        },
    },
    "Channel": {
        "Ready": {"Usable": "Agents may use it and both roles are taken. Otherwise the reason of the first condition that fails."},
        "NameServerResolved": _NAME_SERVER,
        "Accepted": {
            "Valid": "The spec fits the other objects.",
            "CodecForbidden": "Pickle and Dill can run code while decoding; the NameServer must say `remoteCode: Trusted`.",
            "TooManyBinders": "More replicas take the binding role than `maxBinders` allows.",
            "TooManyPeers": "More than one replica takes a role of a Pair.",
        },
        "DeadLetterResolved": {
            "Resolved": _RESOLVED,
            "NotFound": "There is no such Channel; dead letters are counted and reported only.",
            "NotUsable": "It is not another usable PushPull channel of the same NameServer.",
            "Deleting": "The dead-letter Channel is being deleted.",
        },
        "Acyclic": {"AckCycle": "Causal acknowledgements wait for each other around a cycle; one channel must say `ack: Handler`."},
        "RolesFilled": {
            "Filled": "Both roles have replicas.",
            **{
                f"No{role}": f"No agent takes the role {role} yet."
                for role in ("Push", "Pull", "Pub", "Sub", "Req", "Rep", "Binder", "Connector", "Router", "Dealer", "SyncPub", "SyncSub")
            },
        },
    },
    "Agent": {
        "Ready": {
            "Running": "All replicas are Ready.",
            "Completed": "`run: Once`: all replicas completed.",
            "ScaledToZero": "No replicas are wanted.",
            "ScalingDown": "Replicas that are too many are draining.",
            "Starting": "Not all replicas are Ready yet.",
            "RollingOut": "Some replicas still run an earlier spec.",
            "Suspended": "`suspend: true`.",
            "Failed": "`run: Once`: the backoff limit was reached; the message holds the last trouble.",
            "NameConflict": "A workload of this name belongs to somebody else.",
            **READY_FROM_PODS,
        },
        "NameServerResolved": {**_NAME_SERVER, "KeysPending": "The NameServer is so new that its keys are not made yet."},
        "ChannelsResolved": {
            "Resolved": _RESOLVED,
            "NotFound": "A Channel does not exist in this namespace; it heals when it appears.",
            "Deleting": "A Channel, or its NameServer, is being deleted.",
            "OtherNameServer": "A Channel belongs to another NameServer than the agent.",
            "RoleNotInPattern": "The channel's pattern has no such role.",
            "CodecForbidden": "The Channel is not accepted; see its condition.",
            "TooManyBinders": "The Channel is not accepted; see its condition.",
            "TooManyPeers": "The Channel is not accepted; see its condition.",
        },
        "Accepted": {
            "Valid": "The spec fits the other objects.",
            "ServiceAccountNotAllowed": "The NameServer does not list the service account in `allowedServiceAccounts`.",
            "TooDeep": "A free-form field nests too deeply.",
            "TooManyChannels": "With their dead-letter channels, and those with two directions counted twice, there are more channels than data ports.",
            "WiringTooLarge": "Attributes, channels and timers take more bytes than a pod annotation holds.",
        },
        "CodeResolved": {
            "Resolved": _RESOLVED,
            "NotFound": 'The ConfigMap does not exist, or lacks the label `ganglion.dev/code: "true"` (in a kustomization: `configMapGenerator` with `options.labels`).',
        },
        "PeersConnected": {
            "Connected": "Each joined replica has a peer on every channel.",
            "NoChannels": "The agent takes part in no channel.",
            "NotJoined": "No replica has joined the name server.",
            "NotCounted": "The NameServer has more Agents than its status can count.",
            "WaitingForPeers": "Some replica has a channel without a peer. It does not make the pod unready.",
            "Completed": "`run: Once`: the run is over.",
        },
        "Complete": {
            "Completed": "All replicas completed.",
            "Running": "Not all replicas have completed yet.",
            "Failed": "The backoff limit was reached.",
        },
        "SpecChangeIgnored": {"AlreadyStarted": "`run: Once`: the spec was edited after the start; delete and create the Agent to run it."},
    },
}
"""Kind → condition type → reason → meaning. A failing condition other than `Ready` lends its reason to `Ready`."""
