"""``[tls NAME]`` as an operator writes it, and what is said of certificates that will not do."""

from __future__ import annotations

import datetime
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from inboundmx.app import certificate
from inboundmx.app.effective import as_ini, effective
from inboundmx.app.settings import BadSettings, load
from inboundmx.model.settings import CertificateSettings, TlsSettings

sys.path.append(str(Path(__file__).parents[1] / "smtp"))

from test_sni import write

NOW = datetime.datetime.now(datetime.UTC)
GOOD = """
[tls]
certificate = one.pem
[tls second]
certificate = two.pem
private_key = two.key
names = MX2.example.org *.Example.ORG mx2.example.org
[domain a.example]
primary = 192.0.2.10
require_tls = yes
"""


def read(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "in.ini"
    file.write_text(text)
    with pytest.raises(BadSettings) as bad:
        load(str(file))
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in bad.value.problems]


def test_certificates_for_names(tmp_path: Path) -> None:
    file = tmp_path / "in.ini"
    file.write_text(GOOD)
    settings = load(str(file))
    second = CertificateSettings(
        "second", f"{tmp_path}/two.pem", f"{tmp_path}/two.key", ("mx2.example.org", "*.example.org")
    )
    assert settings.tls.others == (second,)
    assert [each.name for each in settings.tls.certificates] == ["", "second"]
    assert settings.domains["a.example"].require_tls
    again = tmp_path / "again.ini"
    again.write_text(as_ini(effective(settings)))
    assert load(str(again)) == settings
    file.write_text(GOOD.replace("mx2", "mx3"))
    assert load(str(file)).fingerprint != settings.fingerprint


def test_what_is_wrong_with_it(tmp_path: Path) -> None:
    assert read(tmp_path, "[tls second]\nnames = under score! x.example\n") == [
        "in.ini:1: [tls second]: certificate is missing: the PEM file that is shown",
        "in.ini:1: [tls second]: needs [tls] certificate as well, for whoever asks for no name",
        "in.ini:2: [tls second] names = under score! x.example: score! is no domain name: "
        "'score!' is no label of letters, digits and inner hyphens",
    ]
    assert read(tmp_path, "[domain a.example]\nprimary = 192.0.2.1\nrequire_tls = yes\n") == [
        "in.ini:3: [domain a.example] require_tls = yes: all its mail would be refused: STARTTLS needs [tls] "
        "certificate, which is empty"
    ]


def test_each_certificate_is_looked_at(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    fine = TlsSettings(
        write(tmp_path, "one", "mx1.example.net"),
        others=(
            CertificateSettings("asked", write(tmp_path, "asked", "mx2.example.org"), names=("mx3.example.org",)),
            CertificateSettings("own", write(tmp_path, "own", "mx4.example.org")),
        ),
    )
    for each in fine.certificates:
        Path(each.certificate).chmod(0o600)
    assert certificate.problems(fine) == []
    assert certificate.warnings(fine, "mx1.example.net", NOW) == [
        f"[tls asked] certificate {tmp_path}/asked.pem is for mx2.example.org, not for mx3.example.org"
    ]
    Path(fine.others[1].certificate).chmod(0o604)
    assert certificate.warnings(fine, "mx1.example.net", NOW)[1:] == [
        f"[tls own] private_key {tmp_path}/own.pem can be read by everybody here"
    ]
    bad = replace(
        fine,
        others=(
            CertificateSettings("weak", write(tmp_path, "weak", "mx2.example.org", key=weak)),
            CertificateSettings("other", fine.certificate, fine.others[0].certificate),
        ),
    )
    assert certificate.problems(bad) == [
        f"[tls weak] private_key {tmp_path}/weak.pem has 1024 bits, and others refuse less than 2048: make another, "
        f"and a certificate for it",
        f"[tls other] private_key {tmp_path}/asked.pem does not belong to certificate {tmp_path}/one.pem",
    ]
