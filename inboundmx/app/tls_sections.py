"""Reads ``[tls NAME]``: certificates for names. Knows what such a section needs; does not open a file."""

from __future__ import annotations

from inboundmx.app.ini import Section
from inboundmx.app.level_sections import Named
from inboundmx.app.reading import Reading, keys_of
from inboundmx.model.settings import CertificateSettings, TlsSettings


def read_certificates(reading: Reading, sections: Named, tls: TlsSettings) -> tuple[CertificateSettings, ...]:
    found: dict[str, CertificateSettings] = {}
    for written, section in sections:
        name = reading.name(written, section, found, "a certificate")
        if name is not None:
            found[name] = _certificate(reading, name, section)
        if not tls.certificate:
            wrong = "needs [tls] certificate as well, for whoever asks for no name"
            reading.problems.append(section.problem(wrong))
    return tuple(found.values())


def _certificate(reading: Reading, name: str, section: Section) -> CertificateSettings:
    keys = keys_of(CertificateSettings)
    said = reading.values(section, keys)
    reading.need(section, said, "certificate", "the PEM file that is shown")
    return CertificateSettings(name, **{keys[key].name: value for key, value in said.items()})
