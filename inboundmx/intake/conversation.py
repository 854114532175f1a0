"""The story of one connection: at each stage checks are run, judged, and answered.

Knows which stage comes when and what is remembered between them. Does not know sockets (``smtp`` asks), nor what
becomes of an accepted message (``acceptance`` does).
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inboundmx.checks.api import Case
from inboundmx.checks.rdns import confirmed_name
from inboundmx.checks.registry import ABOUT_SPAM
from inboundmx.checks.runner import ANYTHING, Runner
from inboundmx.intake.acceptance import Acceptance
from inboundmx.intake.admission import Admission, Way
from inboundmx.intake.arrival import Arrival, summed
from inboundmx.intake.authentication import Authentication, Gatekeeper, mechanisms
from inboundmx.intake.conduct import Conduct
from inboundmx.intake.doorkeeping import Doorkeeper
from inboundmx.intake.known_good import KnownGood
from inboundmx.intake.stopping import tell_user
from inboundmx.intake.turning_away import TurningAway
from inboundmx.model.address import Address, written
from inboundmx.model.envelope import Envelope
from inboundmx.model.finding import CheckResult, Stage
from inboundmx.model.identity import TOKEN_LENGTH, make_id
from inboundmx.model.listing import Listed
from inboundmx.model.message import HEADER_LIMIT, Body, Message
from inboundmx.model.reply import Replies, Reply
from inboundmx.model.session import Session
from inboundmx.model.settings import CheckSettings, DomainSettings, Settings
from inboundmx.policy.grouping import counted, skipped_by_all
from inboundmx.policy.judging import blocking_threshold, judge_early
from inboundmx.policy.limiting import NO_RULES, Rules, subject
from inboundmx.policy.listing import NOBODY
from inboundmx.policy.looping import goes_in_circles
from inboundmx.policy.overriding import NO_OVERRIDES, Overrides
from inboundmx.policy.relaying import may_relay, within
from inboundmx.policy.routing import bare_postmaster, postmaster
from inboundmx.policy.scoring import score
from inboundmx.policy.sparing import Unasked, excused, settled
from inboundmx.policy.stamping import host_name
from inboundmx.policy.walking import Walk
from inboundmx.policy.walking import walk as walk_through
from inboundmx.ports import Bodies, Chance, Clock, Draft, Hand, Journal, Lists, Spool, Welcome

# Below this much room on the disk (and twice the declared size) no transaction begins: 452 4.3.1.
DISK_RESERVE = 2**20
# A header section of more lines is no letter: scanning its fields would hold up the others.
HEADER_LINES = 10_000
_NOBODY = Envelope(None)
_HELLO = Reply(250, "", "hello")
_OK = Reply(250, "2.1.0", "sender ok")
_RECIPIENT_OK = Reply(250, "2.1.5", "recipient ok")
_BLACKLISTED = Reply(554, "5.7.1", "your address is on the blacklist here", then_close=True)
_CAME_FROM_BLACKLISTED = Reply(554, "5.7.1", "the address that this mail came from is on the blacklist here")
_AUTHENTICATE = Reply(530, "5.7.0", "Authentication is required here")
_STRANGER = Welcome(None)
_AT_HOME = Welcome(None, strange=False)
_BLOCKED = Reply(421, "4.7.0", "your address is blocked for a while", then_close=True)
# What checks may look at of a bypass gateway, and then of the client behind it; none judges how that one behaves.
_OF_GATEWAY = frozenset({""})
_OF_ORIGIN = frozenset({"address"})
_OF_MESSAGE = _OF_GATEWAY | _OF_ORIGIN
_IN_THE_CLEAR = Reply(550, "5.7.10", "must issue STARTTLS first: this domain takes mail over TLS alone")
_GO_ON = Reply(354, "", "end with a line that holds only a dot")


@dataclass(frozen=True, slots=True)
class Plan:
    """What one set of settings makes of reception. A reload swaps it whole; a running connection keeps its own."""

    settings: Settings
    runner: Runner
    checks: Mapping[str, CheckSettings]
    lists: Lists = NOBODY
    rules: Rules = NO_RULES
    overrides: Overrides = NO_OVERRIDES


class GatewayReception:
    """``ports.Reception``: makes a conversation for each connection."""

    def __init__(
        self,
        plan: Plan,
        admission: Admission,
        acceptance: Acceptance,
        spool: Spool,
        bodies: Bodies,
        journal: Journal,
        clock: Clock,
        chance: Chance,
        door: Doorkeeper,
        known_good: KnownGood,
        hand: Hand | None = None,
    ) -> None:
        """``hand`` is told which message is being checked and judged; ``gatekeeper`` is there where submission is."""
        self.gatekeeper: Gatekeeper | None = None
        self.hand = hand
        self.door = door
        self.turning_away = TurningAway(journal, clock)
        self.known_good = known_good
        self.plan = plan
        self.admission = admission
        self.acceptance = acceptance
        self.spool = spool
        self.bodies = bodies
        self.journal = journal
        self.clock = clock
        self.chance = chance

    def conversation(self, session: Session) -> GatewayConversation:
        return GatewayConversation(self, session)

    def unwelcome(self, session: Session) -> Reply | None:
        return GatewayConversation(self, session).unwelcome()


class GatewayConversation:
    """``ports.Conversation``. ``_id`` ends a refusal: the session's until MAIL, then the transaction's. ``_relays``:
    the client may send out through us; checks before the message judge strangers, and are not run for it. ``_spared``
    and ``_unblocked``: it is whitelisted for spam, and for smtp. ``_bypassed``: it is a gateway that mail of others
    comes through: these are judged, once the message tells who they are. ``_conduct`` is what rules count, None
    where they count nothing: of who is whitelisted for smtp, comes to send out through us, or is such a gateway."""

    __slots__ = (
        "_accepted",
        "_authentication",
        "_bypassed",
        "_conduct",
        "_draft",
        "_dsn",
        "_envelope",
        "_gate",
        "_id",
        "_order",
        "_plan",
        "_relays",
        "_results",
        "_session",
        "_session_results",
        "_spared",
        "_unblocked",
        "_ways",
    )

    def __init__(self, gate: GatewayReception, session: Session) -> None:
        self._gate = gate
        self._plan = gate.plan
        self._session = session
        self._authentication: Authentication | None = None
        self._relays = self._may_relay()
        self._spared = gate.plan.lists.whitelisted(session.peer_ip, "spam")
        self._unblocked = gate.plan.lists.whitelisted(session.peer_ip, "smtp")
        self._bypassed = gate.plan.lists.bypasses(session.peer_ip)
        self._session_results: tuple[CheckResult, ...] = ()
        self._results: tuple[CheckResult, ...] = ()
        self._envelope: Envelope | None = None
        self._accepted: dict[Address, DomainSettings] = {}
        self._ways: dict[str, Way] = {}
        self._dsn: dict[Address, tuple[str, str]] = {}
        self._draft: Draft | None = None
        # The recipients as often as they were accepted, where each is to hear his own answer (PRDR).
        self._order: list[Address] | None = None
        self._id = session.id
        self._conduct: Conduct | None = None

    # --- stages -------------------------------------------------------------------------------------------------------

    def arriving(self) -> Welcome:
        gate, ip = self._gate, self._session.peer_ip
        if self._unblocked or self._bypassed:
            return Welcome(None, strange=False, spared=True)
        refusal = self.unwelcome()
        if refusal is not None:
            return Welcome(refusal)
        if self._relays or self._session.submission:
            return _AT_HOME
        self._conduct = Conduct(gate.door, self._plan.rules, self._plan.settings, ip)
        block = self._conduct.arrived()
        if block is not None:
            return Welcome(self._turned_away(_BLOCKED, "block", block))
        strange = self._plan.settings.smtp.banner_delay > 0 and not gate.known_good.knows(ip)
        return _STRANGER if strange else _AT_HOME

    def unwelcome(self) -> Reply | None:
        """The refusal of a client that is on the blacklist, or blocked already."""
        if self._unblocked or self._bypassed:
            return None
        ip = self._session.peer_ip
        entry = self._plan.lists.blacklisted(ip)
        if entry:
            return self._turned_away(_BLACKLISTED, "blacklist", entry)
        block = self._gate.door.blocks.find(ip)
        return None if block is None else self._turned_away(_BLOCKED, "block", block)

    async def connected(self, early: bool = False) -> Reply:
        if early:
            self._session = replace(self._session, early=True)
        self._gate.journal.record(
            "connected", self._id, {"ip": self._session.peer_ip, "port": self._session.peer_port}, level="debug"
        )
        self._session_results = await self._run(Stage.CONNECT, _NOBODY)
        if name := confirmed_name(self._session_results):
            self._session = replace(self._session, reverse_name=name)
        refused = self._judged("connect", self._session_results)
        if refused is not None:
            return refused
        return Reply(220, "", f"{host_name(self._plan.settings.gateway, self._session)} ESMTP inboundmx")

    async def hello(self, session: Session) -> Reply:
        name = self._session.reverse_name
        known_as = self._session.authenticated_as
        self._session = replace(session, reverse_name=name) if name else session
        if known_as:
            self._session = replace(self._session, authenticated_as=known_as)
        self._relays = self._may_relay()
        # A second EHLO (after STARTTLS) is judged by its own name, not by that of the first as well; and who has
        # authenticated since is no stranger, whatever was seen of the address.
        known = self._session_results
        if known:
            known = tuple(result for result in known if result.stage is Stage.CONNECT and not self._relays)
        self._session_results = known + await self._run(Stage.HELLO, _NOBODY)
        return self._judged("hello", self._session_results) or _HELLO

    def mechanisms(self) -> tuple[str, ...]:
        submission = self._plan.settings.submission
        return () if self._gate.gatekeeper is None else mechanisms(submission.auth_login)

    async def authenticate(self, mechanism: str, said: bytes | None) -> Reply:
        if self._authentication is None:
            assert self._gate.gatekeeper is not None
            self._authentication = Authentication(self._gate.gatekeeper, self._session)
        step = await self._authentication.respond(mechanism, said)
        if isinstance(step, Reply):
            if step.positive:
                self._session = replace(self._session, authenticated_as=self._authentication.name)
                self._relays = self._may_relay()
            return step
        return Reply(334, "", b64encode(step.challenge or b"").decode())

    async def mail(self, envelope: Envelope, prdr: bool = False) -> Reply:
        gate = self._gate
        self._id = make_id(gate.clock.now(), gate.chance.token(TOKEN_LENGTH))
        if self._session.submission and not (self._session.authenticated_as or self._needs_no_name()):
            return self._refuse("mail", _AUTHENTICATE, envelope)
        if gate.spool.free_octets() < max(2 * (envelope.declared_size or 0), DISK_RESERVE):
            return self._refuse("mail", Reply(452, "4.3.1", "no room on the disk, try again later"), envelope)
        blocked = self._blocked_meanwhile("mail", envelope)
        if blocked is not None:
            return blocked
        self._results = self._session_results + await self._run(Stage.SENDER, envelope)
        refused = self._judged("mail", self._results, envelope)
        if refused is not None:
            return refused
        self._envelope = envelope
        self._order = [] if prdr else None
        return _OK

    async def recipient(self, address: Address, notify: str = "", original: str = "") -> Reply:
        envelope = self._open_envelope()
        blocked = self._blocked_meanwhile("rcpt", envelope)
        if blocked is not None:
            return blocked
        settings = self._plan.settings
        recipient = (postmaster(settings) if bare_postmaster(address) else None) or address
        way = await self._gate.admission.admit(
            recipient, envelope, settings, self._relays, self._session.peer_ip, self._ways
        )
        if isinstance(way, Reply):
            return self._refuse("rcpt", way, envelope, address)
        domain = way.domain
        if domain.require_tls and not self._session.tls:
            return self._refuse("rcpt", _IN_THE_CLEAR, envelope, address)
        domain = self._plan.overrides.of(recipient, domain)
        results = await self._run(Stage.RECIPIENT, envelope, recipient, domain=domain)
        known = self._results
        if self._accepted:
            # What was seen of other recipients is not held against this one.
            known = tuple(result for result in known if result.recipient is None)
        refused = self._judged("rcpt", known + results, envelope, recipient, domain)
        if refused is not None:
            return refused
        if recipient in self._accepted:
            # Named once more: what is seen now holds, not both.
            self._results = tuple(result for result in self._results if result.recipient != recipient)
        self._results += results
        self._accepted[recipient] = domain
        self._ways[recipient.domain] = way
        if self._order is not None:
            self._order.append(recipient)
        if notify or original:
            self._dsn[recipient] = (notify, original)
        elif self._dsn:
            self._dsn.pop(recipient, None)
        return _RECIPIENT_OK

    async def data(self) -> Reply:
        return _GO_ON

    def draft(self) -> Draft:
        self._draft = self._gate.bodies.draft(self._id)
        return self._draft

    async def content(self, body: Body) -> Reply | Replies:
        envelope = self._open_envelope()
        settings = self._plan.settings
        envelope = Envelope(
            envelope.sender,
            tuple(self._accepted),
            envelope.declared_size,
            envelope.eight_bit,
            envelope.utf8,
            envelope.ret,
            envelope.envid,
            self._dsn,
        )
        if self._conduct is not None:
            self._conduct.sent = True
        if self._plan.rules.same_size and self._relays:
            who = self._session.authenticated_as or self._session.peer_ip
            self._gate.door.count(self._plan.rules.same_size, who, settings, of=f"{body.size} octets")
        if self._gate.hand is not None:
            self._gate.hand.take(self._id)
        message = Message(self._id, body)
        if message.header_end >= HEADER_LIMIT or body.head.count(b"\r\n", 0, message.header_end) > HEADER_LINES:
            return self._refuse("data", Reply(554, "5.6.0", "the header section is too large"), envelope)
        if goes_in_circles(message, settings.gateway, settings.smtp.max_hop_count):
            return self._refuse("data", Reply(554, "5.4.6", "too many hops, this mail goes in circles"), envelope)
        if again := self._plan.runner.again:
            self._results = tuple([result for result in self._results if result.check not in again])
        walk, origin = None, None
        if self._bypassed and not self._relays:
            walk = walk_through(message, self._session.peer_ip, self._plan.lists.bypasses)
            if walk.address:
                entry = "" if self._unblocked else self._plan.lists.blacklisted(walk.address)
                if entry:
                    told = {**walk.told(), "blacklist": entry}
                    return self._refuse("data", _CAME_FROM_BLACKLISTED, envelope, more=told)
                origin = await self._originating(walk, envelope)
        ended = await self._run(Stage.MESSAGE, envelope, message=message, origin=origin)
        results = self._weighed(self._results + ended)
        taken = await self._gate.acceptance.accept(
            Arrival(
                settings,
                self._plan.checks,
                self._session,
                self._relays,
                envelope,
                self._accepted,
                self._ways,
                message,
                results,
                "client whitelisted for spam" if self._spared else "trusted sender" if _trusted(results) else "",
                walk,
                self._order or (),
            )
        )
        if taken.keeps_body:
            # The spool took the body's file over; it is not ours to discard any more.
            self._draft = None
        if settings.blocking.outgoing_notice and self._relays and self._session.authenticated_as:
            tell_user(
                self._gate.door.alerts, self._session.authenticated_as, self._id, taken.lots, taken.reply, settings
            )
        if taken.good and settings.smtp.banner_delay:
            self._gate.known_good.sent_good_mail(self._session.peer_ip)
        return taken.reply

    def client(self) -> Session:
        return self._session

    # --- what the dialogue tells --------------------------------------------------------------------------------------

    def refused(self, verb: str, reply: Reply) -> Reply:
        if self._conduct is not None:
            self._conduct.command_refused(reply)
        return self._refuse(verb, reply, self._envelope)

    def reset(self) -> None:
        if self._draft is not None:
            self._draft.discard()
            self._draft = None
        if self._gate.hand is not None:
            self._gate.hand.drop(self._id)
        self._envelope = None
        self._accepted = {}
        self._ways = {}
        self._dsn = {}
        self._order = None
        self._results = ()
        self._id = self._session.id

    def closed(self, reason: str) -> None:
        self.reset()
        if self._conduct is not None:
            # Whoever speaks for others is not counted for them, nor is who is known by name.
            self._conduct.left(excused=reason == "renamed" or bool(self._session.authenticated_as))
        self._gate.journal.record("disconnected", self._session.id, {"reason": reason}, level="debug")

    # --- parts --------------------------------------------------------------------------------------------------------

    def _may_relay(self) -> bool:
        session, settings = self._session, self._plan.settings
        return may_relay(session, settings.relay, self._plan.lists) or (session.submission and self._needs_no_name())

    def _needs_no_name(self) -> bool:
        """On a submission listener."""
        return within(self._session.peer_ip, self._plan.settings.submission.auth_bypass)

    def _open_envelope(self) -> Envelope:
        if self._envelope is None:
            raise RuntimeError("asked about a recipient or content outside a transaction")
        return self._envelope

    async def _originating(self, walk: Walk, envelope: Envelope) -> Session:
        """The client behind a bypass gateway, and the results of all that earlier stages would have seen of it."""
        session = self._session
        origin = replace(
            session, peer_ip=walk.address, peer_port=0, hello=walk.hello, reverse_name="", tls="", via=session.peer_ip
        )
        for stage in (Stage.CONNECT, Stage.HELLO, Stage.SENDER):
            results = await self._run(stage, envelope, origin=origin)
            self._results += results
            if name := confirmed_name(results):
                origin = replace(origin, reverse_name=name)
        return origin

    async def _run(
        self,
        stage: Stage,
        envelope: Envelope,
        recipient: Address | None = None,
        message: Message | None = None,
        origin: Session | None = None,
        domain: DomainSettings | None = None,
    ) -> tuple[CheckResult, ...]:
        """``origin``: the client behind a bypass gateway, once it is known; ``domain``: what the recipient is judged
        by."""
        runner = self._plan.runner
        outgoing = (self._relays or self._session.submission) and stage is not Stage.MESSAGE
        if not runner.concerns(stage, outgoing):
            return ()
        earlier = self._results if stage > Stage.HELLO or origin is not None else self._session_results
        case = Case(origin or self._session, envelope, recipient, message, earlier, domain)
        looking_at = ANYTHING
        if self._bypassed and not self._relays:
            looking_at = _OF_MESSAGE if message is not None else _OF_GATEWAY if origin is None else _OF_ORIGIN
        settled = None
        skipped: Collection[str] = () if domain is None else domain.skips
        if stage is Stage.MESSAGE:
            settled, skipped = self._settled, skipped_by_all(self._accepted)
        results = await runner.run(stage, case, settled, self._spared, looking_at, outgoing, skipped)
        if self._plan.settings.log.level == "debug":
            for result in results:
                self._gate.journal.record(
                    "checked",
                    self._id,
                    {"check": result.check, "outcome": result.finding.outcome, "detail": result.finding.detail,
                     "seconds": round(result.elapsed_seconds, 6)},
                    level="debug",
                )  # fmt: skip
        return results

    def _settled(self, results: tuple[CheckResult, ...], unasked: Sequence[Unasked]) -> bool:
        checks = self._plan.checks
        if _trusted(results):
            unasked = [each for each in unasked if checks[each.check].kind not in ABOUT_SPAM]
        return settled(self._weighed(results), unasked, checks, self._accepted)

    def _weighed(self, results: tuple[CheckResult, ...]) -> tuple[CheckResult, ...]:
        """The results as they count for this client and this sender."""
        spared = self._spared or _trusted(results)
        if not (spared or self._unblocked):
            return results
        return excused(results, ABOUT_SPAM, weighed=not spared, blocking=not self._unblocked)

    def _judged(
        self,
        verb: str,
        seen: tuple[CheckResult, ...],
        envelope: Envelope | None = None,
        recipient: Address | None = None,
        domain: DomainSettings | None = None,
    ) -> Reply | None:
        """A refusal when what is known so far forces one, else None."""
        if not seen:
            return None
        results: Sequence[CheckResult] = self._weighed(seen)
        settings, checks = self._plan.settings, self._plan.checks
        if domain is None:
            # No sum refuses before it is known for whom mail is, and no word that somebody weighs otherwise.
            total, threshold = score(results, checks), math.inf
            if total.forced:
                results = self._plan.overrides.uncontested(results)
                total = score(results, checks)
        else:
            if domain.skips:
                results = counted(results, domain)
            threshold = blocking_threshold(domain)
            total = score(results, checks, domain.weights)
        verdict = judge_early(total, threshold)
        if verdict is None or verdict.reply is None:
            return None
        if envelope is not None and verdict.reply.permanent:
            self._gate.acceptance.goodwill.refused(settings, self._session, envelope.sender, results, total)
        told = summed(total, results)
        if domain is not None and domain.apart:
            told["settings_of"] = domain.apart
        if domain is not None and domain.via == "outbound" and recipient is not None and verdict.reply.permanent:
            user, why = self._session.authenticated_as, str(verdict.reply)
            self._gate.door.alerts.stopped(user, (recipient,), False, why, self._id, settings)
        return self._refuse(verb, verdict.reply, envelope, recipient, told)

    def _turned_away(self, reply: Reply, because: str, entry: str | Listed) -> Reply:
        ip = self._session.peer_ip
        fields: dict[str, Any] = {"verb": "connect", "reply": str(reply), "ip": ip, because: str(entry)}
        if not isinstance(entry, str):
            fields["until_at"] = entry.until_at
        return self._gate.turning_away.refused(subject(ip), self._session.id, reply, fields)

    def _blocked_meanwhile(self, verb: str, envelope: Envelope) -> Reply | None:
        block = self._conduct.blocked() if self._conduct is not None and not self._relays else None
        if block is None:
            return None
        return self._refuse(verb, _BLOCKED, envelope, None, {"block": str(block), "until_at": block.until_at})

    def _refuse(
        self,
        verb: str,
        reply: Reply,
        envelope: Envelope | None = None,
        recipient: Address | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Reply:
        if verb == "connect":
            # A greeting that refuses for good is 554 (RFC 5321 3.1), and 421 is the one that may close later.
            reply = Reply(554 if reply.permanent else 421, reply.enhanced, reply.text, then_close=True)
        fields: dict[str, Any] = {
            "verb": verb, "reply": str(reply), "ip": self._session.peer_ip, "helo": self._session.hello,
        }  # fmt: skip
        if self._session.tls:
            fields["tls"] = self._session.tls
        if self._session.sni:
            fields["sni"] = self._session.sni
        if envelope is not None:
            fields["sender"] = written(envelope.sender)
        if recipient is not None:
            fields["recipient"] = str(recipient)
        if self._id != self._session.id:
            fields["session"] = self._session.id
        if more:
            fields.update(more)
        if verb == "rcpt" and self._conduct is not None:
            self._conduct.recipient_refused(reply)
        self._gate.journal.record("refused", self._id, fields)
        return Reply(reply.code, reply.enhanced, f"{reply.text} {self._id}", reply.then_close)


def _trusted(results: Sequence[CheckResult]) -> bool:
    """Whether what was seen last of the sender is that he is trusted, and who he says."""
    return "trusted" in [result.finding.outcome for result in results if result.kind == "blocked"]
