"""The wiring document: what one agent's runtime must know that it cannot discover. Pure."""

from ganglion.wiring.document import (
    BACK,
    INWARD,
    TWO_WAY,
    WIRING_VERSION,
    AgentWiring,
    BarrierWiring,
    ChannelWiring,
    HandlerWiring,
    NameServerWiring,
    TimerWiring,
    WiringDocument,
    WiringError,
    load_wiring,
)

__all__ = [
    "BACK",
    "INWARD",
    "TWO_WAY",
    "WIRING_VERSION",
    "AgentWiring",
    "BarrierWiring",
    "ChannelWiring",
    "HandlerWiring",
    "NameServerWiring",
    "TimerWiring",
    "WiringDocument",
    "WiringError",
    "load_wiring",
]
