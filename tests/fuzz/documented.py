"""Requests that schemathesis makes of the OpenAPI document: what fits it and what just does not.

Each answer is held against the document: its status, its type and its body's schema.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.errors import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.outcome import Fuzzed

LIMIT_S = 20.0
BY_ANY_ROUTE = frozenset({400, 404, 405, 413, 414, 429, 431})
"""What any route may answer to what is no request for it: the envelope is described once, in docs/errors.md."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


class AsDocumented:
    """Asks a server what its document suggests, as each member in turn or as nobody."""

    def __init__(
        self, document: dict[str, Any], url: str, tokens: Sequence[str], number: int, fuzzed: Fuzzed
    ) -> None:
        """Prepare. `number` is the seed; what comes of it goes into `fuzzed`. Raises ValueError for a bad document."""
        found = list(schemathesis.openapi.from_dict(document).get_all_operations())
        self._operations = [each.ok() for each in found if isinstance(each, Ok)]
        if len(self._operations) < len(found):
            raise ValueError("the document has an operation that cannot be read")
        self._url, self._tokens, self._rng, self._fuzzed = url, tokens, random.Random(number), fuzzed

    def ask(self, count: int) -> None:
        """Send about so many requests, as many to each operation."""
        each = math.ceil(count / len(self._operations) / len(GenerationMode))
        with requests.Session() as session:
            session.trust_env = False
            for operation in self._operations:
                for mode in GenerationMode:
                    self._ask(operation, mode, each, session)

    def _ask(self, operation: Any, mode: GenerationMode, count: int, session: requests.Session) -> None:
        what = f"documented, {mode.value}"

        @seed(self._rng.getrandbits(32))
        @settings(
            max_examples=count,
            phases=[Phase.generate],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case[Any]) -> None:
            token = self._rng.choice([*self._tokens, ""])
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = case.call(base_url=self._url, session=session, headers=headers, timeout=LIMIT_S)
            self._fuzzed.statuses[answer.status_code] += 1
            self._fuzzed.kinds[what] += 1
            if answer.status_code in BY_ANY_ROUTE:
                assert json.loads(answer.content)["error"].keys() >= {"message", "type", "code"}
            else:
                case.validate_response(answer, checks=CHECKS)

        # Where nothing is asked for, nothing can be asked for in a wrong way.
        with suppress(Unsatisfiable):
            self._tell(ask, f"{operation.label}, {what}")

    def _tell(self, ask: Callable[[], None], what: str) -> None:
        try:
            ask()
        except (FailureGroup, requests.RequestException, AssertionError, ValueError) as error:
            self._fuzzed.wrong.append(f"{what}: {error}")
