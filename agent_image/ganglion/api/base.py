"""What the three kinds share: base model, metadata, references, conditions, bounded strings."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WrapValidator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

GROUP = "ganglion.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""DNS-1035 label: the names become Services and StatefulSets."""
ALIAS_PATTERN = r"^[a-z][-a-z0-9]*$"
MAX_NAME = 52
"""A StatefulSet cannot make pods for longer names: pod label `controller-revision-hash` holds name + 11 characters in 63."""


class Model(BaseModel):
    """Base of every API type. Unknown fields are ignored here (an older operator reads newer objects); manifests are checked strictly
    by `load_object`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dict with the API's field names; unset optional fields are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def extra(**keys: Any) -> dict[str, Any]:
    """Kubernetes schema extensions: `extra(list_type="map")` → `{"x-kubernetes-list-type": "map"}`."""
    return {"x-kubernetes-" + key.replace("_", "-"): value for key, value in keys.items()}


def list_map(*keys: str) -> dict[str, Any]:
    """Schema extensions of a list of named objects."""
    return extra(list_type="map", list_map_keys=list(keys))


FREE_FORM = extra(preserve_unknown_fields=True)

Name = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=NAME_PATTERN)]
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""Name of a ConfigMap, Secret, ServiceAccount or PersistentVolumeClaim."""
Alias = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=ALIAS_PATTERN)]
ShortText = Annotated[str, StringConstraints(max_length=1024)]
ImageName = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[!-~]+$")]
"""Printable ASCII without blanks; whether it is a reference that can be pulled is found out by pulling."""
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
EnvName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
QUALIFIED_NAME = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
"""Key of a label, annotation or resource; without backslashes, so that it reads the same inside CEL."""
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
QUANTITY_PATTERN = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?$"


def _one_error(value: Any, check: Any) -> Any:
    """A union reports one error for each branch; people want one."""
    try:
        return check(value)
    except ValueError as error:
        raise PydanticCustomError("quantity", "must be a non-negative quantity such as 2, 500m or 64Mi") from error


Quantity = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=QUANTITY_PATTERN)] | Annotated[int, Field(ge=0)],
    WrapValidator(_one_error),
    Field(
        json_schema_extra={
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "minLength": 1,
            "maxLength": 64,
            "pattern": QUANTITY_PATTERN,
            **extra(int_or_string=True),
        }
    ),
]


class Ref(Model):
    """Reference to an object of the same namespace."""

    name: Name = Field(description="Name of the object, in the same namespace.")


class ObjectRef(Model):
    """Reference to a core object (ConfigMap, Secret, ...) of the same namespace."""

    name: ObjectName = Field(description="Name of the object, in the same namespace.")


class Metadata(Model):
    """The part of ObjectMeta that the planner reads."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    deletion_timestamp: str | None = None


class Condition(Model):
    """Standard Kubernetes condition."""

    type: Annotated[str, StringConstraints(max_length=316)] = Field(description="CamelCase type of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the condition holds.")
    reason: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*$")] = Field(
        description="CamelCase reason of the last transition, for programs."
    )
    message: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="What was found and what to do, for people."
    )
    last_transition_time: str = Field(description="When the status last changed (RFC 3339).", json_schema_extra={"format": "date-time"})
    observed_generation: int = Field(default=0, ge=0, description="Generation of the spec that this condition was computed from.")


Conditions = Annotated[
    tuple[Condition, ...],
    Field(max_length=16, description="Latest observations of the object's state.", json_schema_extra=list_map("type")),
]


class Resource(Model):
    """Base of the three kinds."""

    api_version: Literal["ganglion.dev/v1alpha1"] = "ganglion.dev/v1alpha1"
    metadata: Metadata

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def deleting(self) -> bool:
        """Whether deletion has begun."""
        return self.metadata.deletion_timestamp is not None

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        """Read an object as the API server stores it; fields that this version does not know are ignored.

        Raises:
            pydantic.ValidationError: the object violates the schema (it was stored under another version of it).
        """
        return cls.model_validate(body)
