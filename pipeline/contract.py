"""Make the JSON Schemas of what gateways write and read, for gateways in any language, and what is known of formats.

Owns: the documents in `schemas/`. Those of request events are made from the types in `events.py` and the rules
between fields that a schema can express; what it cannot say is in `docs/events.md`. Those of the records that
gateways follow, verdicts and keys, are made from the types that the worker encodes; `docs/gateway.md` says
what a gateway does with them. The journal's is made from its rows, for whoever reads the book of record with other
tools; the list of the formats of all stored records from `formats.py`.
Called by: `python -m pipeline.contract` writes the files, and the tables of `contract_tables.py`; a test finds
them out of date.
"""

from __future__ import annotations

import json
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from pipeline import contract_tables, formats, topics
from pipeline.accounts.keys import KeyRecord
from pipeline.accounts.model import Refused
from pipeline.accounts.verdicts import Verdict, VerdictProgress
from pipeline.events import FAILED_FROM, RequestEvent
from pipeline.journal import COLUMNS, JSON_ARRAYS, JSON_COLUMNS, NATIVE
from pipeline.shipped import shipped

SCHEMAS = shipped("schemas")
EVENT_FILE = "request-event.schema.json"
BATCH_FILE = "request-event-batch.schema.json"
FOLLOWED: dict[str, type[msgspec.Struct]] = {
    "verdict.schema.json": Verdict,
    "verdict-progress.schema.json": VerdictProgress,
    "key.schema.json": KeyRecord,
}
"""The type of a record's value on `metering.verdicts` and `metering.keys`, by the file of its schema."""
JOURNAL_FILE = "journal.json"
"""What the journal's records are. It is no JSON Schema, as their values are no JSON."""
STORED_FILE = "stored-formats.json"
"""Which formats this release reads and writes, of every kind of stored record."""
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


def followed_schema(file: str) -> Schema:
    """Return the JSON Schema 2020-12 of a record that gateways read. Fields it does not name may come later."""
    record = FOLLOWED[file]
    _, definitions = msgspec.json.schema_components([record], ref_template="#/$defs/{name}")
    for definition in definitions.values():
        definition["description"] = cleandoc(definition["description"])
    if Refused.__name__ in definitions:
        # It travels as an array: a reader needs to be told which place is what.
        places = definitions[Refused.__name__]["prefixItems"]
        for name, place in zip(Refused.__struct_fields__, places, strict=True):
            place["title"] = name
    schema = definitions.pop(record.__name__)
    schema["required"].remove("format")
    [known] = schema["properties"]["format"].pop("enum")
    schema["properties"]["format"] = {
        "description": "The record's format. A reader stops at another one: docs/gateway.md.",
        "const": known,
        "default": 1,
    }
    return {
        "$schema": _DIALECT,
        "$id": file,
        "$comment": "Made by `python -m pipeline.contract`. Ignore fields that are not named here.",
        **schema,
        **({"$defs": definitions} if definitions else {}),
    }


def documents() -> dict[str, str]:
    """Return the text of each file of `schemas/`, by name."""
    schemas = {EVENT_FILE: event_schema(), BATCH_FILE: batch_schema()}
    schemas |= {file: followed_schema(file) for file in FOLLOWED}
    return {name: json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


def journal_description() -> dict[str, Any]:
    """Return what the records of `metering.journal` are: their headers, formats, and columns by kind of row."""
    return {
        "$comment": "Made by `python -m pipeline.contract`. docs/adr/0007-the-journal-in-blocks.md says what the formats mean.",
        "topic": topics.JOURNAL,
        "headers": {
            "kind": "which rows the record holds: one of `kinds`",
            "first": "the position of its first row in the partition, in decimal",
            "last": "the position of its last row",
            "format": "how its rows are written, in decimal; where it is missing, 1",
        },
        "formats": {
            str(JSON_ARRAYS): "JSONCompactEachRow: a JSON array a line, in the order of `json_arrays`",
            str(NATIVE): "a block of ClickHouse's Native format, which names and types its own columns",
        },
        "kinds": {kind: {"json_arrays": JSON_COLUMNS[kind], "columns": COLUMNS[kind]} for kind in COLUMNS},
    }


def stored_formats() -> dict[str, Any]:
    """Return the newest format of every kind of stored record, where a record says it, and who may not lose a field."""
    return {
        "$comment": "Made by `python -m pipeline.contract`. docs/adr/0008-formats-of-what-is-stored.md says what follows.",
        "without_a_format": 1,
        "kinds": {
            stored.name: {
                "format": stored.number,
                "said_in": stored.said_in,
                "rewritten_by_readers": stored.rewritten,
            }
            for stored in formats.ALL
        },
    }


def descriptions() -> dict[str, str]:
    """Return the text of the files of `schemas/` that are no JSON Schemas, by name."""
    described = {JOURNAL_FILE: journal_description(), STORED_FILE: stored_formats()}
    return {name: json.dumps(content, indent=2) + "\n" for name, content in described.items()}


def write(directory: Path = SCHEMAS) -> None:
    """Write the schemas into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (documents() | descriptions()).items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
    contract_tables.write()
