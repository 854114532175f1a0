"""Handover to the real mail server, at once or from the spool.

Knows which host is tried, when, over which kept-open connection, and what its answers mean. Does not know the wire
(``ports.Transmitter`` does) nor the disk (``ports.Spool`` does).
"""
