"""The wire, both ways.

Knows SMTP: how bytes become commands and replies, as a server and as a client. Does not know what spam is, nor where a
message goes. ``framing``, ``commands``, ``naming`` and ``dialogue`` do no I/O and import ``model`` and ``ports`` only;
``server`` and ``client`` are their Twisted shells.
"""
