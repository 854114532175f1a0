"""Who is talking to us. Facts of one SMTP connection (RFC 5598: the client)."""

from __future__ import annotations

from inboundmx.model.record import record


@record(frozen=True, slots=True)
class Session:
    """``id`` is 10 or more letters and digits; addresses are text without brackets; ``hello`` is empty before EHLO.

    ``via``: these are the facts of a client of whom a bypass gateway told us, and this is that gateway's address; empty
    when they are our peer's.
    ``submission``: it came by a listener of ``[submission]``.
    ``tls`` is empty on a clear connection, else protocol and cipher ("TLSv1.3 TLS_AES_256_GCM_SHA384").
    ``sni`` is the name that the client asked for in TLS, in small letters, empty when it asked for none. ``early``: it
    spoke before it was greeted.
    """

    id: str
    peer_ip: str
    peer_port: int
    local_ip: str
    connected_at: float
    hello: str = ""
    extended: bool = False
    tls: str = ""
    authenticated_as: str = ""
    reverse_name: str = ""
    via: str = ""
    early: bool = False
    sni: str = ""
    submission: bool = False
