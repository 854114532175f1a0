"""inboundmx: an inbound mail filtering gateway and backup MX on Twisted.

A stranger talks to ``smtp``; ``intake`` asks ``checks`` for opinions; ``policy`` decides; then ``delivery`` hands the
mail over at once, or ``spool`` promises to; ``ledger`` remembers why. ``ports`` is the only door to the outside;
``app`` plugs it in.
"""

__version__ = "0.1.0"
