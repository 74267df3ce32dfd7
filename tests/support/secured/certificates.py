"""Certificates of an authority of the tests' own, as PEM files: good ones, expired ones, and for other names.

Called by: `tests/support/secured/cluster.py` and the tests of refusals.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key. `both` is one file with the two, as brokers take them."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """A certificate authority that lives in a directory."""

    def __init__(self, home: Path, name: str = "authority") -> None:
        """Make it."""
        self._home = home
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self._certificate = (
            _builder(self._name, self._name, self._key, valid_days=(-2, 30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = home / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        address: str = "127.0.0.1",
        hosts: tuple[str, ...] = (),
        valid_days: tuple[float, float] = (-1, 30),
    ) -> Identity:
        """Return a certificate of a name, an address and hosts, valid from and to so many days from now."""
        names = [x509.IPAddress(ipaddress.ip_address(address)), *(x509.DNSName(host) for host in hosts)]
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_named(name), self._name, key, valid_days=valid_days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        made = Identity(*(self._home / f"{name}{ending}" for ending in (".pem", ".key", ".both.pem")))
        shown = certificate.public_bytes(serialization.Encoding.PEM)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        made.certificate.write_bytes(shown)
        made.key.write_bytes(secret)
        made.both.write_bytes(secret + shown)
        return made


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    valid_days: tuple[float, float],
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid_days[0] * _DAY)
        .not_valid_after(now + valid_days[1] * _DAY)
    )
