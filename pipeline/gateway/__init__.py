"""The gateway library: what a Python gateway node imports. Its manual is docs/gateway.md.

It needs neither Faust nor ClickHouse nor FastAPI: only aiokafka and msgspec.
"""

from pipeline.accounts.keys import KeyRecord
from pipeline.connection import KafkaSecurity, KafkaSettingsError
from pipeline.gateway.admission.refusal import Refusal
from pipeline.gateway.errors import (
    GatewayClosed,
    GatewayError,
    InvalidEvent,
    SpoolBroken,
    SpoolError,
    SpoolFull,
    SpoolLocked,
    SpoolUnclear,
)
from pipeline.gateway.gateway import Gateway, Status
from pipeline.gateway.sending.dialects import Dialect, openai_usage
from pipeline.money import AmountError

__all__ = [
    "AmountError",
    "Dialect",
    "Gateway",
    "GatewayClosed",
    "GatewayError",
    "InvalidEvent",
    "KafkaSecurity",
    "KafkaSettingsError",
    "KeyRecord",
    "Refusal",
    "SpoolBroken",
    "SpoolError",
    "SpoolFull",
    "SpoolLocked",
    "SpoolUnclear",
    "Status",
    "openai_usage",
]
