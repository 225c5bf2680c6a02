"""The pod knobs that users may set: curated and bounded, not a free PodSpec.

Whoever may create pods can mount host paths, run privileged and use any service account; `agents/create` must not imply that.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from ganglion.api.base import (
    FREE_FORM,
    LABEL_VALUE_PATTERN,
    QUALIFIED_NAME,
    EnvName,
    ImageName,
    Model,
    Name,
    ObjectName,
    ObjectRef,
    Quantity,
    list_map,
)

NO_NUL = r"^[^\x00]*$"
"""A process cannot get NUL in its arguments or environment."""
EnvValue = Annotated[str, StringConstraints(max_length=32768, pattern=NO_NUL)]
Argument = Annotated[str, StringConstraints(max_length=32768, pattern=NO_NUL)]
MountPath = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^/[^:\x00]*$")]
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317, pattern=QUALIFIED_NAME)]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=LABEL_VALUE_PATTERN)]
DataKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^/\x00][^\x00]*$")]
PodField = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=256,
        pattern=r"^(metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['[-./_a-zA-Z0-9]+'\]|spec\.(nodeName|serviceAccountName)"
        r"|status\.(hostIP|hostIPs|podIP|podIPs))$",
    ),
]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]


class KeySelector(Model):
    """One key of a ConfigMap or Secret."""

    name: ObjectName = Field(description="Name of the ConfigMap or Secret.")
    key: DataKey = Field(description="Key to read.")
    optional: bool | None = Field(default=None, description="Start even if the object or the key is missing.")


class FieldSelector(Model):
    """A field of the pod."""

    field_path: PodField = Field(description="Path, e.g. `metadata.name` or `status.podIP`.")


class EnvVarSource(Model):
    """Where a variable's value comes from."""

    config_map_key_ref: KeySelector | None = Field(default=None, description="A key of a ConfigMap.")
    secret_key_ref: KeySelector | None = Field(default=None, description="A key of a Secret.")
    field_ref: FieldSelector | None = Field(default=None, description="A field of the pod.")


class EnvVar(Model):
    """One environment variable of the agent container."""

    name: EnvName = Field(description="Name of the variable.")
    value: EnvValue | None = Field(default=None, description="Literal value.")
    value_from: EnvVarSource | None = Field(default=None, description="Source of the value instead of a literal.")


class EnvFromSource(Model):
    """All keys of a ConfigMap or Secret as variables."""

    prefix: EnvName | None = Field(default=None, description="Put before each key.")
    config_map_ref: ObjectRef | None = Field(default=None, description="The ConfigMap.")
    secret_ref: ObjectRef | None = Field(default=None, description="The Secret.")


class ResourceRequirements(Model):
    """Compute resources of a container."""

    limits: Annotated[dict[str, Quantity], Field(max_length=16)] | None = Field(
        default=None, description="Upper bounds, e.g. `memory: 256Mi`."
    )
    requests: Annotated[dict[str, Quantity], Field(max_length=16)] | None = Field(default=None, description="What is reserved.")


class KeyToPath(Model):
    """One key of a ConfigMap or Secret as a file."""

    key: DataKey = Field(description="The key.")
    path: FilePath = Field(description="Relative path of the file.")


class ConfigMapVolume(Model):
    """Files from a ConfigMap."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    items: Annotated[tuple[KeyToPath, ...], Field(max_length=256)] | None = Field(default=None, description="Which keys; default all.")
    optional: bool | None = Field(default=None, description="Start even if it is missing.")


class SecretVolume(Model):
    """Files from a Secret."""

    secret_name: ObjectName = Field(description="Name of the Secret.")
    items: Annotated[tuple[KeyToPath, ...], Field(max_length=256)] | None = Field(default=None, description="Which keys; default all.")
    optional: bool | None = Field(default=None, description="Start even if it is missing.")


class EmptyDirVolume(Model):
    """Scratch space that lives as long as the pod."""

    medium: Literal["", "Memory"] | None = Field(default=None, description="`Memory` for a tmpfs.")
    size_limit: Quantity | None = Field(default=None, description="Upper bound, e.g. `64Mi`.")


class ClaimVolume(Model):
    """A PersistentVolumeClaim of the namespace."""

    claim_name: ObjectName = Field(description="Name of the claim.")
    read_only: bool | None = Field(default=None, description="Mount read-only.")


class Volume(Model):
    """A volume; exactly one source. hostPath is not offered."""

    name: Name = Field(description="Name that volumeMounts refer to.")
    config_map: ConfigMapVolume | None = Field(default=None, description="Files from a ConfigMap.")
    secret: SecretVolume | None = Field(default=None, description="Files from a Secret.")
    empty_dir: EmptyDirVolume | None = Field(default=None, description="Scratch space.")
    persistent_volume_claim: ClaimVolume | None = Field(default=None, description="A claim of the namespace.")


class VolumeMount(Model):
    """Where a volume appears in the container."""

    name: Name = Field(description="Name of the volume.")
    mount_path: MountPath = Field(description="Absolute path in the container.")
    sub_path: Annotated[str, StringConstraints(max_length=512)] | None = Field(default=None, description="Path inside the volume.")
    read_only: bool | None = Field(default=None, description="Mount read-only.")


class Toleration(Model):
    """Kubernetes toleration."""

    key: LabelKey | None = Field(default=None, description="Taint key; empty with `Exists` matches all.")
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="How key and value are compared.")
    value: LabelValue | None = Field(default=None, description="Taint value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(default=None, description="Taint effect.")
    toleration_seconds: int | None = Field(default=None, ge=0, le=2147483647, description="Seconds to tolerate NoExecute.")


class SecurityContext(Model):
    """Identity of the pod's processes. Privileges cannot be added: pods always meet Pod Security `restricted`."""

    run_as_user: int | None = Field(default=None, ge=1, le=2147483647, description="User id; never root.")
    run_as_group: int | None = Field(default=None, ge=1, le=2147483647, description="Group id.")
    supplemental_groups: Annotated[tuple[Annotated[int, Field(ge=1, le=2147483647)], ...], Field(max_length=32)] | None = Field(
        default=None, description="More group ids."
    )


Env = Annotated[tuple[EnvVar, ...], Field(max_length=256, json_schema_extra=list_map("name"))]
Mounts = Annotated[tuple[VolumeMount, ...], Field(max_length=64, json_schema_extra=list_map("mountPath"))]


class ExtraContainer(Model):
    """A further container beside the agent; gets no token, key or ipc socket."""

    name: Name = Field(description="Name; must not be `agent` or `runtime`.")
    image: ImageName = Field(description="Image.")
    command: Annotated[tuple[Argument, ...], Field(max_length=64)] | None = Field(default=None, description="Entry point.")
    args: Annotated[tuple[Argument, ...], Field(max_length=256)] | None = Field(default=None, description="Arguments.")
    env: Env | None = Field(default=None, description="Environment variables.")
    resources: ResourceRequirements | None = Field(default=None, description="Compute resources.")
    volume_mounts: Mounts | None = Field(default=None, description="Mounts of `volumes`.")


class Container(Model):
    """Any program in any language that speaks plain ZeroMQ on the ipc sockets under `$GANGLION_RUN_DIR`."""

    image: ImageName = Field(description="Image of the program.")
    command: Annotated[tuple[Argument, ...], Field(max_length=64)] | None = Field(
        default=None, description="Entry point; default the image's. Required when the manifests run on a laptop."
    )
    args: Annotated[tuple[Argument, ...], Field(max_length=256)] | None = Field(default=None, description="Arguments.")


class PodFields(Model):
    """Pod knobs of an Agent. Kept in one place so that NameServer defaults and Agents agree."""

    image: ImageName | None = Field(
        default=None,
        description="Image that holds the agent's code; default: the NameServer's agentDefaults, then the operator's agent image.",
    )
    image_pull_policy: PullPolicy | None = Field(default=None, description="When to pull the image.")
    image_pull_secrets: Annotated[tuple[ObjectRef, ...], Field(max_length=16, json_schema_extra=list_map("name"))] | None = Field(
        default=None, description="Secrets with registry credentials."
    )
    resources: ResourceRequirements | None = Field(default=None, description="Compute resources of the agent container.")
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=64)] | None = Field(
        default=None, description="Labels that a node must have."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] | None = Field(default=None, description="Taints to tolerate.")
    affinity: Annotated[dict[str, Any], Field(json_schema_extra=FREE_FORM)] | None = Field(
        default=None, description="Kubernetes affinity, as in a PodSpec; checked when the pod is created."
    )
    topology_spread_constraints: Annotated[
        tuple[Annotated[dict[str, Any], Field(json_schema_extra=FREE_FORM)], ...], Field(max_length=16)
    ] | None = Field(default=None, description="As in a PodSpec; a missing labelSelector selects the agent's own pods.")  # fmt: skip
    security_context: SecurityContext | None = Field(default=None, description="User and group ids of the agent container.")
