"""Encryption towards a server we deliver to.

Knows how a TLS connection is made without looking at the certificate, and how a certificate is compared with a name.
Does not know SMTP, nor when encryption is wanted.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from OpenSSL import SSL
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, platformTrust
from zope.interface import implementer

from inboundmx.model.ip import is_ip


def reason_of(error: BaseException | None) -> str:
    """What OpenSSL did not like, in its own words: "certificate verify failed". Empty for all other errors."""
    stack = error.args[0] if isinstance(error, SSL.Error) and error.args else ()
    return str(stack[-1][-1]) if isinstance(stack, list) and stack else ""


class ClientContexts:
    """The two OpenSSL contexts, made once, when first needed. ``trust_root``: whom ``verified`` trusts, the system's
    authorities when None."""

    def __init__(self, trust_root: Any = None) -> None:
        self._trust_root = trust_root

    @cached_property
    def trusting(self) -> SSL.Context:
        return CertificateOptions(verify=False).getContext()

    @cached_property
    def verifying(self) -> SSL.Context:
        system: Any = platformTrust
        return CertificateOptions(trustRoot=self._trust_root or system()).getContext()


@implementer(IOpenSSLClientConnectionCreator)
class ClientEncryption:
    """One TLS connection to ``host``, an IP address or the name a certificate must have. ``verify``: its chain is
    checked by OpenSSL in the handshake, its name by ``accepted`` after it."""

    def __init__(self, contexts: ClientContexts, host: str, *, verify: bool) -> None:
        self._contexts = contexts
        self.host = host
        self._verify = verify
        self._connection: SSL.Connection | None = None

    def clientConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        context = self._contexts.verifying if self._verify else self._contexts.trusting
        connection = SSL.Connection(context, None)
        connection.set_app_data(tlsProtocol)
        if not is_ip(self.host):  # RFC 6066 3: no literal addresses in the server name
            connection.set_tlsext_host_name(self.host.encode("ascii"))
        self._connection = connection
        return connection

    def accepted(self) -> bool:
        """Whether the certificate names the host, where that is asked for. Anything odd about it is a no."""
        assert self._connection is not None
        if not self._verify:
            return True
        compare = verify_ip_address if is_ip(self.host) else verify_hostname
        try:
            compare(self._connection, self.host)
        except Exception:  # noqa: BLE001 - a certificate that cannot be compared does not match
            return False
        return True

    @property
    def described(self) -> str:
        """Protocol and cipher: "TLSv1.3 TLS_AES_256_GCM_SHA384"."""
        assert self._connection is not None
        return f"{self._connection.get_protocol_version_name()} {self._connection.get_cipher_name()}"
