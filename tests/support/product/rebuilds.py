"""At which steps each rebuild may be ended.

Called by: the tests of rebuilds, which end them at each.
"""

from __future__ import annotations

from pipeline.crashpoints import POINTS
from pipeline.sink.rebuild import CLICKHOUSE, ROLL_UPS

_NOT_OF = {CLICKHOUSE: "rebuild.replaced", ROLL_UPS: "rebuild.emptied"}
"""The one step that belongs to the other command."""

POINTS_OF = {
    work: [point for point in POINTS if point.startswith("rebuild.") and point != other]
    for work, other in _NOT_OF.items()
}
"""By command: its steps, in their order."""
