"""The files of TLS: what is wrong with one names its setting, and an error of TLS is found wherever it came up."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from pipeline.tls import TlsFiles, TlsFilesError, tls_error_in
from tests.support.secured.certificates import Authority


def test_good_files_make_a_context_that_checks_servers(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours = authority.issue("ours")
    context = TlsFiles("X_", str(authority.file), str(ours.certificate), str(ours.key)).context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert [each["serialNumber"] for each in context.get_ca_certs()]
    assert TlsFiles("X_", str(authority.file), str(ours.both)).context().check_hostname


def test_a_file_that_is_no_use_is_named_by_its_setting(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, other = authority.issue("ours"), authority.issue("other")
    for files, says in (
        (TlsFiles("X_", "/absent.pem"), r"X_CA_FILE: /absent\.pem cannot be used: No such file"),
        (TlsFiles("X_", str(ours.key)), r"X_CA_FILE: .*ours\.key cannot be used: "),
        (TlsFiles("X_", None, "/absent.pem"), r"X_CERT_FILE: /absent\.pem cannot be used: No such file"),
        (TlsFiles("X_", None, str(ours.certificate), str(other.key)), r"X_CERT_FILE: .* cannot be used: "),
    ):
        with pytest.raises(TlsFilesError, match=says):
            files.context()


def test_an_error_of_tls_is_found_behind_those_that_it_caused() -> None:
    of_tls = ssl.SSLError("x")
    raised = ConnectionError("y")
    raised.__cause__ = OSError("between")
    raised.__cause__.__context__ = of_tls
    assert tls_error_in(raised) is of_tls
    raised.__cause__ = OSError("made of the context, and not raised from it")
    raised.__context__ = of_tls
    assert tls_error_in(raised) is of_tls
    assert tls_error_in(ConnectionError("z")) is None
