"""What was promised of each scenario: the line, which must be met, and the reach, about what prototypes came to.

Knows ratios to another peer of the same run, so that more is better, and limits that hold on any machine. Does not know
what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.peers import OURS, POSTFIX, PROXY, SPOOL, TUNED, TWO, TWO_SPOOL

CHECKED = "inboundmx, checks"
# All own checks, without sockets.
CONTENT = "+ headers, attachments"


@dataclass(frozen=True)
class Promise:
    """Of a figure of ``ours`` in a scenario: how many times as good as that of ``theirs`` it is at least, or, where
    ``theirs`` is empty, what it is itself, at least or at most."""

    scenario: str
    figure: str
    line: float
    reach: float | None = None
    ours: str = OURS
    theirs: str = POSTFIX
    at_least: bool = True

    def met(self, value: float, bound: float) -> bool:
        return value >= bound if self.at_least else value <= bound


def limit(scenario: str, figure: str, line: float, reach: float | None = None) -> Promise:
    return Promise(scenario, figure, line, reach, theirs="", at_least=False)


PROMISES = (
    Promise("1x1", "rate", 1.3, 1.7),
    Promise("1x1", "cpu_ms", 1.8, 2.3),
    Promise("10x1", "rate", 2.5, 3.3),
    Promise("10x1", "cpu_ms", 3, 4.5),
    *(
        promise
        for name in ("50x1", "200x1")
        for ours in (OURS, TWO)
        for promise in (
            Promise(name, "rate", 3.5, 5, ours=ours),
            Promise(name, "cpu_ms", 3.5, 5, ours=ours),
            Promise(name, "mail_p99_ms", 10, ours=ours),
            Promise(name, "mail_p99_ms", 2, ours=ours, theirs=TUNED),
        )
    ),
    Promise("10x1", "rate", 1.6, 2.2, ours=SPOOL),
    *(Promise("50x1", "rate", 2.8, 4.2, ours=ours) for ours in (SPOOL, TWO_SPOOL)),
    *(Promise("slow sync 50x1", "rate", 2.5, 4, ours=ours) for ours in (SPOOL, TWO_SPOOL)),
    *(Promise("dead 50x1 4 KB", "rate", 2.5, 4, ours=ours) for ours in (OURS, TWO)),
    *(Promise("dead 10x1 100 KB", "rate", 2, 3, ours=ours) for ours in (OURS, TWO)),
    Promise("slow primary", "rate", 1),
    limit("slow primary", "dot_p50_ms", 200),
    Promise("checks cached", "cpu_ms", 1.5, 2, ours=CHECKED),
    Promise("checks in process", "cpu_ms", 1.2, ours=CONTENT, theirs="", at_least=False),
    Promise("checks cold", "cpu_ms", 1 / 1.5, 1, ours=CHECKED),
    Promise("checks cold", "cpu_ms", 2, 3, ours=CHECKED, theirs="postfix, rspamd"),
    Promise("refused", "rate", 1.4, 1.9),
    Promise("turned away", "rate", 2, theirs=PROXY),
    Promise("turned away", "cpu_ms", 2, theirs=PROXY),
    # 5,000 a second of one core.
    limit("turned away", "cpu_ms", 0.2),
    Promise("idle", "held", 10_000, theirs=""),
    limit("idle", "kib_each", 10, 3),
    limit("idle", "mail_p50_ms", 50),
    *(Promise("backlog", "accepted_rate", 3, 8, ours=ours) for ours in (OURS, TWO)),
    *(Promise("backlog", "rate", 3, 7, ours=ours) for ours in (OURS, TWO)),
    limit("backlog", "list_s", 0.5, 0.1),
    Promise("backlog", "mib", 1),
    Promise("workers", "rate", 1.5, 1.8, ours="2 workers", theirs="1 worker"),
)
