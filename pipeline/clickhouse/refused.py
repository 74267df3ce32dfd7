"""Why ClickHouse will not have us, in one line that says what to set.

Owns: telling apart what a wrong certificate, password or grant looks like in an error of the driver.
Called by: `clickhouse/errors.py`. Next: `tls.py` has the words about certificates.

A server that is merely away is no refusal: it comes back, and the sink and the answers with it.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from errno import EHOSTUNREACH, ENETUNREACH
from socket import gaierror

from clickhouse_connect.driver.exceptions import Error as DriverError

from pipeline.tls import error_in, reason_of, tls_error_in, why_refused, words_of

PREFIX = "METERING_CLICKHOUSE_"
_URL = f"{PREFIX}URL"

READONLY = 164
ACCESS_DENIED = 497
_NOT_THE_USER = frozenset(
    {
        192,  # UNKNOWN_USER
        193,  # WRONG_PASSWORD
        194,  # REQUIRED_PASSWORD
        516,  # AUTHENTICATION_FAILED
    }
)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
"""OpenSSL's reasons where the other side spoke something else than TLS."""
_GRANT = re.compile(r"have (?:the )?grants? (.+?)(?:, for all|, for any|\. |\.?$| \()")


@dataclass(frozen=True)
class Asked:
    """Who was asked, host:port, and as which user."""

    server: str
    user: str


def what_to_set(error: DriverError, asked: Asked) -> str | None:
    """Return what an error says of our settings or grants, None where it says nothing of them."""
    if error.code in _NOT_THE_USER:
        return (
            f"{_URL}: {asked.server} does not take its user and password: there is no user {asked.user!r}, the password is "
            "another, or the user may not come from this machine"
        )
    if error.code == ACCESS_DENIED:
        found = _GRANT.search(" ".join(str(error).split()))
        lacking = f"the grant {found[1]}" if found else "a grant"
        return (
            f"{_URL}: the user {asked.user!r} lacks {lacking} at {asked.server}: deploy/clickhouse/users.xml has what each "
            "role needs"
        )
    if error.code == READONLY:
        return (
            f"{_URL}: the user {asked.user!r} may only read at {asked.server}: its profile needs `readonly` 2 for a server and "
            "for `metering verify`, and 0 for a sink and `metering migrate`"
        )
    return _of_tls(tls_error_in(error), asked) if error.code is None else None


def what_it_may_be(error: DriverError, asked: Asked) -> str | None:
    """Return what an error may say of our settings, where it may as well be that the server is away or being stopped."""
    if (away := _away_in(error)) is not None:
        return f"{asked.server} does not answer ({away.strerror}); {_URL} names it"
    if isinstance(tls_error_in(error), ssl.SSLEOFError):
        return (
            f"{asked.server} closed the connection: it is being stopped, or does not take the certificate that this client shows "
            f"({PREFIX}CERT_FILE)"
        )
    return None


def _away_in(error: DriverError) -> OSError | None:
    """Return why no connection was made, None where there was one: the driver says it at length."""
    found = error_in(error, OSError)
    is_away = isinstance(found, (ConnectionRefusedError, gaierror)) or (
        found is not None and found.errno in (EHOSTUNREACH, ENETUNREACH)
    )
    return found if is_away else None


def _of_tls(error: ssl.SSLError | None, asked: Asked) -> str | None:
    if error is None:
        return None
    if reason_of(error) in _NO_TLS:
        return f"{_URL} begins with https://, but {asked.server} does not speak TLS ({words_of(error)})"
    return why_refused(error, asked.server, PREFIX)
