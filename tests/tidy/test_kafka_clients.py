"""Every client of Kafka is made in one place, so that none is made without the security settings."""

from __future__ import annotations

import ast
from pathlib import Path

_PIPELINE = Path(__file__).parents[2] / "pipeline"
_CLIENTS = {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient", "AIOKafkaClient"}


def _makes_a_client(path: Path) -> bool:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {
        c.id if isinstance(c, ast.Name) else c.attr for c in calls if isinstance(c, ast.Name | ast.Attribute)
    }
    return bool(names & _CLIENTS)


def test_only_the_factory_makes_clients() -> None:
    makers = {str(path.relative_to(_PIPELINE)) for path in _PIPELINE.rglob("*.py") if _makes_a_client(path)}
    assert makers == {"kafka/clients.py"}
