"""The files that TLS needs of a client, the context made of them, and why a server's certificate is not believed.

Owns: reading those files, and the words for what is wrong with one of them or with the server's certificate.
Called by: `connection.py` and `kafka/refused.py` for the brokers, `settings.py` and `clickhouse/` for ClickHouse.

All of them name settings that differ by their prefix alone: PREFIX_URL, PREFIX_CA_FILE, PREFIX_CERT_FILE, PREFIX_KEY_FILE.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TypeVar

E = TypeVar("E", bound=BaseException)

_EXPIRED = 10
_NOT_YET_VALID = 9
_OTHER_NAME = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH of OpenSSL, as are the numbers above its own."""


class TlsFilesError(ValueError):
    """A file that TLS needs is no use. The message says which setting names it, and why."""


@dataclass(frozen=True)
class TlsFiles:
    """The PEM files of a client, by the prefix of the settings that name them, METERING_KAFKA_ for one.

    `ca_file` has the authorities that servers are checked against, the system's where it is None. `cert_file` and `key_file` are
    what this client shows; the key is in the certificate's file where `key_file` is None, and has no password.
    """

    prefix: str
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context that checks servers' certificates and host names. Raises TlsFilesError."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ValueError) as error:
            raise TlsFilesError(self._unusable("CA_FILE", self.ca_file, error)) from None
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=self._refuse_password)
            except TlsFilesError:
                raise
            except (OSError, ValueError) as error:
                files = self.cert_file if self.key_file is None else f"{self.cert_file} with {self.key_file}"
                raise TlsFilesError(self._unusable("CERT_FILE", files, error)) from None
        return context

    def _unusable(self, name: str, files: str | None, error: Exception) -> str:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        return f"{self.prefix}{name}: {files or 'the system authorities'} cannot be used: {reason}"

    def _refuse_password(self) -> str:
        """Stand in for the terminal, where OpenSSL would ask for a password and wait for ever."""
        raise TlsFilesError(
            f"{self.prefix}KEY_FILE: is encrypted; give a key without a password, readable by this user alone"
        )


def _why_not_believed(error: ssl.SSLCertVerificationError, server: str, prefix: str) -> str:
    if error.verify_code == _EXPIRED:
        return f"the certificate of {server} has expired: it needs a new one"
    if error.verify_code == _NOT_YET_VALID:
        return f"the certificate of {server} is not valid yet: compare the clocks of this machine and of {server}"
    if error.verify_code in _OTHER_NAME:
        return f"{prefix}URL: the certificate of {server} is for other names ({error.verify_message}): use a name that is in it"
    return f"{prefix}CA_FILE: the certificate of {server} is of no authority in that file ({error.verify_message})"


def why_refused(error: ssl.SSLError, server: str, prefix: str) -> str | None:
    """Return which side does not take the other's certificate, in one line that says what to set, None where it is neither."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _why_not_believed(error, server, prefix)
    if "ALERT" in reason_of(error):
        return (
            f"{prefix}CERT_FILE: {server} does not take the certificate that this client shows, or asks for one and there is "
            f"none ({words_of(error)})"
        )
    return None


def words_of(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason for an error in words."""
    return (reason_of(error) or "no reason given").replace("_", " ").lower()


def reason_of(error: ssl.SSLError) -> str:
    """Return OpenSSL's own word for an error, nothing where it was not made by OpenSSL."""
    return getattr(error, "reason", None) or ""


def tls_error_in(error: BaseException | None) -> ssl.SSLError | None:
    """Return the error of TLS that an error is or came from, None where there is none."""
    return error_in(error, ssl.SSLError)


def error_in(error: BaseException | None, kind: type[E]) -> E | None:
    """Return the error of a kind that an error is or came from, None where there is none."""
    # An error may have been made of another one without having been raised from it: then it has no cause of its own.
    left = [error]
    while left:
        found = left.pop()
        if isinstance(found, kind):
            return found
        if found is not None:
            left += [found.__context__, found.__cause__]
    return None
