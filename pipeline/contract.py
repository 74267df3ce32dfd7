"""Make the JSON Schema of request events, for gateways in any language.

Owns: the two documents in `schemas/`, made from the types in `events.py` and the rules between fields
that a schema can express. What it cannot say is in `docs/events.md`.
Called by: `python -m pipeline.contract` writes the files; a test finds them out of date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from pipeline.events import FAILED_FROM, RequestEvent

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
EVENT_FILE = "request-event.schema.json"
BATCH_FILE = "request-event-batch.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def event_schema() -> Schema:
    """Return the JSON Schema 2020-12 of one event."""
    (_,), definitions = msgspec.json.schema_components([RequestEvent], ref_template="#/$defs/{name}")
    event = definitions.pop("RequestEvent")
    data = definitions["RequestData"]
    names = {
        field: next(s for s in data["properties"][field]["anyOf"] if s != {"type": "null"})
        for field in ("usage", "provider")
    }
    data["if"] = {"properties": {"status": {"maximum": FAILED_FROM - 1}}}
    data["then"] = {"required": list(names), "properties": names}
    data["properties"]["usage"] = {
        "description": "Of a failed request: whatever it is, the request counts.",
        "default": None,
    }
    return {
        "$schema": _DIALECT,
        "$id": "request-event.schema.json",
        "$comment": "Made by `python -m pipeline.contract`; what a schema cannot say is in docs/events.md.",
        **event,
        "$defs": definitions,
    }


def batch_schema() -> Schema:
    """Return the JSON Schema 2020-12 of a record's value: one event, or an array of them."""
    return {
        "$schema": _DIALECT,
        "$id": "request-event-batch.schema.json",
        "$comment": "Made by `python -m pipeline.contract`. All events of an array belong to one partition.",
        "title": "RequestEventRecord",
        "anyOf": [{"$ref": EVENT_FILE}, {"type": "array", "items": {"$ref": EVENT_FILE}}],
    }


def documents() -> dict[str, str]:
    """Return the text of each file of `schemas/`, by name."""
    schemas = {EVENT_FILE: event_schema(), BATCH_FILE: batch_schema()}
    return {name: json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


def write(directory: Path = SCHEMAS) -> None:
    """Write the schemas into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
