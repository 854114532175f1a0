"""Whether the author's domain stands behind the mail, and what it asks for where it does not (DMARC, RFC 9989).

Knows which proofs count for which domain, and what several authors come to. The parts know the field (``author``), the
records (``dmarc_record``) and who belongs together (``dmarc_tree``). Does not know what a verdict is worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from inboundmx.checks.api import Case, Check, Option, Tools
from inboundmx.checks.authentication import clause
from inboundmx.checks.author import Authors, authors
from inboundmx.checks.dmarc_record import POLICIES, Place
from inboundmx.checks.dmarc_tree import SECONDS, Tree
from inboundmx.checks.questions import Questions
from inboundmx.model.finding import Finding, Stage
from inboundmx.model.verdict import Weight
from inboundmx.ports import Unavailable

# Of several authors the first of these that one of them has is the outcome.
RANKS = ("fail_reject", "temperror", "fail_quarantine", "fail_none", "permerror", "none", "pass")
# t=y: one step weaker (RFC 9989 4.7).
WEAKER = {"reject": "quarantine", "quarantine": "none", "none": "none"}


class Proofs(NamedTuple):
    """What other checks found: domains that ``passed`` by the method that says so, ``dkim`` or ``spf``; those about
    which DNS gave no answer. ``unasked``: methods nobody was asked for; ``broken``: a fault of ours, or no time.
    ``vouched``: the same as ``passed``, and ``dmarc``, as ``sealer`` found it, whose ARC seal is trusted."""

    passed: Mapping[str, Sequence[str]]
    doubtful: Mapping[str, Sequence[str]]
    vouched: Mapping[str, Sequence[str]]
    unasked: str
    broken: str
    sealer: str


class Judged(NamedTuple):
    """``policy`` is what is written beside the result, such as p=reject; ``why`` is for people."""

    outcome: str
    domain: str
    policy: str = ""
    why: str = ""


class Dmarc(Check):
    """``pass``: every author's domain authenticated by SPF or DKIM, aligned with it. ``fail_``: one did not, and asks
    for that (t=y: one step less); what a trusted ARC sealer vouches for is ``fail_none``. ``none``: no policy, or SPF
    or DKIM was not asked, so that nothing can be said against it. ``permerror``: From is written so that nobody can be
    sure of the author, or the record cannot be read. ``temperror``: DNS gave no answer that could have changed it."""

    kind: ClassVar[str] = "dmarc"
    stage: ClassVar[Stage] = Stage.MESSAGE
    about: ClassVar[Literal["spam", "origin", "rate", "other"]] = "origin"
    outcomes: ClassVar[frozenset[str]] = frozenset(RANKS)
    after: ClassVar[frozenset[str]] = frozenset({"spf", "dkim", "arc"})
    weights: ClassVar[Mapping[str, Weight]] = {}
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, options: Mapping[str, Any], tools: Tools | None = None) -> None:
        self._tools = tools

    async def examine(self, case: Case) -> Finding:
        assert self._tools is not None and case.message is not None
        who = authors(case.message)
        if not who.domains:
            return _finding(who, Judged("permerror", ""))
        proofs = _proofs(case)
        questions = Questions(self._tools.resolver)
        tree = Tree(questions, self._tools.clock, min(SECONDS, 0.8 * self._tools.timeout))
        try:
            judged = [await _judged(domain, proofs, tree) for domain in who.domains]
        finally:
            questions.close()
        worst = min(judged, key=lambda each: RANKS.index(each.outcome))
        if len(judged) == 1 and not who.flaw:
            worst = await _softened(worst, proofs, tree)
        return _finding(who, worst)


def _proofs(case: Case) -> Proofs:
    facts: dict[str, list[str]] = {}
    kinds = set()
    broken = ""
    for result in case.results:
        kinds.add(result.kind)
        if result.finding.outcome == "error" or (result.finding.outcome == "timeout" and result.kind != "arc"):
            broken = result.check
        for name, value in result.finding.facts:
            facts.setdefault(name, []).append(value)
    # The name in HELO stands in for a sender that there is not (RFC 7208 2.4).
    spf = "spf_helo" if case.envelope.sender is None else "spf_mailfrom"
    get = facts.get
    return Proofs(
        {"dkim": get("dkim", ()), "spf": get(spf, ())},
        {"dkim": get("dkim_temperror", ()), "spf": get(f"{spf}_temperror", ())},
        {"dkim": get("arc_dkim", ()), "spf": get("arc_spf", ()), "dmarc": get("arc_dmarc", ())},
        " and ".join(method.upper() for method in ("spf", "dkim") if method not in kinds),
        broken,
        "".join(get("arc_sealer", ())[:1]),
    )


async def _judged(domain: str, proofs: Proofs, tree: Tree) -> Judged:
    """What is to be said of one author's domain."""
    try:
        place = await tree.policy(domain)
    except Unavailable:
        return Judged("temperror", domain, why="DNS gave no answer for the policy")
    record = place.record
    if record is None:
        return Judged("none", domain, why="no policy")
    if not record.usable:
        return Judged("permerror", domain, why=f"the record of {place.source} cannot be used")
    try:
        how = await _aligned(domain, place, proofs.passed, tree)
        if how:
            return Judged("pass", domain, await _policy(domain, place, None), f"by {how}")
        doubt = await _aligned(domain, place, proofs.doubtful, tree)
        if doubt or proofs.broken:
            return Judged("temperror", domain, why=f"no answer about {doubt or proofs.broken}")
        if proofs.unasked:
            return Judged("none", domain, why=f"{proofs.unasked} not asked")
        policy = await _policy(domain, place, tree)
    except Unavailable:
        return Judged("temperror", domain, why="DNS gave no answer for who belongs together")
    word = policy.partition("=")[2]
    if record.testing:
        word, policy = WEAKER[word], f"{policy} t=y"
    return Judged(f"fail_{word}", domain, policy, f"nothing aligned, {policy} of {place.source}")


async def _aligned(domain: str, place: Place, proven: Mapping[str, Sequence[str]], tree: Tree) -> str:
    """By which of the domains that have proven themselves it is the author's, such as ``dkim a.example``; empty: none.
    Raises Unavailable when none is, and one may be."""
    assert place.record is not None
    for method, names in proven.items():
        if domain in names:
            return f"{method} {domain}"
    trouble: Unavailable | None = None
    for method, names in proven.items():
        if method == "dmarc" or (place.record.strict_dkim if method == "dkim" else place.record.strict_spf):
            continue
        for name in names:
            try:
                if await tree.together(domain, name):
                    return f"{method} {name}"
            except Unavailable as unavailable:
                trouble = unavailable
    if trouble is not None:
        raise trouble
    return ""


async def _policy(domain: str, place: Place, tree: Tree | None) -> str:
    """The tag that holds for the domain and what it asks for; whether the domain exists is asked of ``tree``."""
    record = place.record
    assert record is not None and record.policy in POLICIES
    if place.source == domain:
        return f"p={record.policy}"
    if tree is not None and record.absent and not await tree.exists(domain):
        return f"np={record.absent}"
    return f"sp={record.subdomains}" if record.subdomains else f"p={record.policy}"


async def _softened(judged: Judged, proofs: Proofs, tree: Tree) -> Judged:
    """A failure that a trusted sealer saw as a pass, before somebody on the way altered the mail (RFC 8617 7.2.2)."""
    if not proofs.sealer or judged.outcome not in ("fail_reject", "fail_quarantine"):
        return judged
    try:
        vouched = await _aligned(judged.domain, await tree.policy(judged.domain), proofs.vouched, tree)
    except Unavailable:
        return judged
    if not vouched:
        return judged
    why = f"softened by arc of {proofs.sealer}: {vouched}; {judged.why}"
    return Judged("fail_none", judged.domain, f"{judged.policy} softened by arc of {proofs.sealer}", why)


def _finding(who: Authors, judged: Judged) -> Finding:
    if who.flaw and judged.outcome in ("pass", "none"):
        judged = Judged("permerror", judged.domain, why=judged.why)
    outcome = judged.outcome
    comment = judged.policy or (judged.why if outcome in ("permerror", "temperror") else "")
    if who.flaw and outcome == "permerror":
        comment = who.flaw
    properties = [("header.from", judged.domain)] if judged.domain else []
    return Finding(
        outcome,
        "; ".join(_told(judged, who)),
        clause("dmarc", outcome.partition("_")[0], properties, comment),
    )


def _told(judged: Judged, who: Authors) -> Iterable[str]:
    yield f"{judged.outcome} for {judged.domain}" if judged.domain else judged.outcome
    if judged.why:
        yield judged.why
    if who.flaw:
        yield who.flaw
    if len(who.domains) > 1:
        yield f"authors of {' '.join(who.domains)}"
