"""The journal: what was posted, row by row, ready for ClickHouse.

Owns: the two kinds of rows and their columns, the public id, and how rows become a record's bytes and rows again.
Called by: `posting/` writes rows, `sink/` carries the bytes unread, `operations/verify.py` reads them.
"""

from pipeline.journal.records import (
    FORMATS,
    JSON_ARRAYS,
    JSON_COLUMNS,
    NATIVE,
    RECORD_BYTES_MAX,
    ROWS_A_RECORD,
    JournalFormatError,
    JournalRecord,
    RowValues,
    decode_payload,
    decode_rows,
    encode_rows,
    encode_values,
    read_headers,
)
from pipeline.journal.rows import (
    COLUMNS,
    LEDGER,
    LEDGER_COLUMNS,
    PARTITIONS_MAX,
    POSITION_MAX,
    REQUEST_COLUMNS,
    REQUESTS,
    TOKEN_COLUMNS,
    LedgerRow,
    RequestRow,
    Row,
    position_of,
    public_id,
)

__all__ = [
    "COLUMNS",
    "FORMATS",
    "JSON_ARRAYS",
    "JSON_COLUMNS",
    "LEDGER",
    "LEDGER_COLUMNS",
    "NATIVE",
    "PARTITIONS_MAX",
    "POSITION_MAX",
    "RECORD_BYTES_MAX",
    "REQUESTS",
    "REQUEST_COLUMNS",
    "ROWS_A_RECORD",
    "TOKEN_COLUMNS",
    "JournalFormatError",
    "JournalRecord",
    "LedgerRow",
    "RequestRow",
    "Row",
    "RowValues",
    "decode_payload",
    "decode_rows",
    "encode_rows",
    "encode_values",
    "position_of",
    "public_id",
    "read_headers",
]
