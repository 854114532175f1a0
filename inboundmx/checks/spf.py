"""Whether the client may use the names it gave (SPF, RFC 7208).

Knows the two identities and how their outcomes become one. Does not know how a record is evaluated (``spf_replay``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.authentication import clause, joined
from inboundmx.checks.questions import Questions
from inboundmx.checks.spf_replay import evaluate
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.verdict import Weight
from inboundmx.policy.stamping import host_name

IDENTITIES = ("mailfrom", "helo")


class Spf(Check):
    """The outcome is that of MAIL FROM; a ``fail`` of HELO stands in its place where MAIL FROM is no ``pass``. The null
    sender is judged as postmaster@HELO (RFC 7208 2.4), and HELO alone where it is the only identity asked for.
    """

    kind: ClassVar[str] = "spf"
    stage: ClassVar[Stage] = Stage.SENDER
    about: ClassVar[Literal["spam", "origin", "other"]] = "origin"
    client: ClassVar[Literal["", "address", "connection"]] = "address"
    outcomes: ClassVar[frozenset[str]] = frozenset(
        {"pass", "fail", "softfail", "neutral", "none", "permerror", "temperror"}
    )
    after: ClassVar[frozenset[str]] = frozenset()
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = (
        Option("identity", "text", "mailfrom helo", "the names that are looked at: mailfrom, helo, or mailfrom helo"),
    )

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        """Raises ValueError for an identity that there is not."""
        self._identities = str(options.get("identity", "mailfrom helo")).split()
        wrong = [word for word in self._identities if word not in IDENTITIES]
        if wrong or not self._identities:
            raise ValueError(f"identity = {options['identity']}: write mailfrom, helo, or mailfrom helo")
        self._tools = tools

    async def examine(self, case: Case) -> Finding:
        assert self._tools is not None
        session, sender = case.session, case.envelope.sender
        hello = session.hello.lower().removesuffix(".")
        receiver = host_name(self._tools.settings.gateway, session)
        # What is judged, in this order: the identity's name in RFC 8601, its value, the sender to evaluate.
        asked: list[tuple[str, str, str]] = []
        if "helo" in self._identities or sender is None:
            asked.append(("helo", hello, ""))
        if "mailfrom" in self._identities and sender is not None:
            asked.append(("mailfrom", sender.domain, str(sender)))
        questions = Questions(self._tools.resolver)
        judged: dict[str, tuple[str, str, str]] = {}
        try:
            for _, name, _ in asked:
                if _is_domain(name):
                    questions.begin((name, "TXT"))
            for identity, name, whole in asked:
                outcome, why = "none", ""
                if _is_domain(name):
                    outcome, why = await evaluate(questions, session.peer_ip, whole, hello, receiver)
                judged[identity] = (outcome, name, why)
        finally:
            questions.close()
        return _finding(judged)


def _is_domain(name: str) -> bool:
    """Whether there can be a record at all (RFC 7208 4.3): a name of more than one label, no literal."""
    return name.isascii() and "." in name and len(name) <= 253 and not name.startswith("[")


def _finding(judged: Mapping[str, tuple[str, str, str]]) -> Finding:
    deciding = "mailfrom" if "mailfrom" in judged else "helo"
    if judged[deciding][0] != "pass" and judged.get("helo", ("",))[0] == "fail":
        deciding = "helo"
    order = sorted(judged, key=lambda identity: identity != deciding)
    facts = []
    for identity, (outcome, name, _) in judged.items():
        if outcome == "pass":
            facts.append((f"spf_{identity}", name))
        elif outcome == "temperror":
            facts.append((f"spf_{identity}_temperror", name))
    return Finding(
        judged[deciding][0],
        "; ".join(_told(identity, *judged[identity]) for identity in order),
        joined(clause("spf", judged[each][0], ((f"smtp.{each}", judged[each][1]),)) for each in order),
        facts=tuple(facts),
    )


def _told(identity: str, outcome: str, name: str, why: str) -> str:
    told = f"{outcome} for {identity} {name or 'unknown'}"
    return f"{told} ({why})" if why and outcome in ("fail", "permerror", "temperror") else told
