"""What may be named as an authority."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from tests.authority import authority
from tests.sources import SPEC

from alcove.errors import InvalidRequest
from alcove.sources.tls import CA_LIMIT, Trust


@pytest.fixture
def ca(tmp_path: Path) -> str:
    return authority(tmp_path).certificate.read_text()


@pytest.mark.parametrize("text", ["x", "-----BEGIN CERTIFICATE-----\n", "ü", "\0", "-" * (CA_LIMIT + 1)])
def test_what_is_no_certificate_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        replace(SPEC, tls=True, ca=text).check()
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(InvalidRequest):
        Trust.load(str(file))


def test_a_certificate_is_for_tls(ca: str) -> None:
    replace(SPEC, tls=True, ca=ca).check()
    replace(SPEC, tls=True, ca=ca + ca).check()
    with pytest.raises(InvalidRequest):
        replace(SPEC, ca=ca).check()
    with pytest.raises(InvalidRequest):
        replace(SPEC, tls=True, ca=ca * (1 + CA_LIMIT // len(ca))).check()


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(InvalidRequest, match="holds no certificates"):
        Trust.load("/nothing/here")
    assert Trust.load("") == Trust()


async def test_every_server_is_verified_by_name(ca: str) -> None:
    for context in (await Trust().context(""), await Trust(ca).context(""), await Trust().context(ca)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
    assert len((await Trust().context(ca)).get_ca_certs()) == 1
