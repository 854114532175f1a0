"""The operator's settings as frozen values: each key once, with its default, its kind and one line of help.

Knows which keys exist and what they mean. Does not know how a file is read: ``app.settings`` reads the INI into these,
and generates etc/inboundmx.ini and docs/reference.md from them. ``kind`` in a key's metadata names how its text is
read and written (a table in ``app.values``); spans are float seconds, sizes octets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal

from inboundmx.model.custody import Host
from inboundmx.model.verdict import Action, Level, Weight

Network = IPv4Network | IPv6Network

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
KB, MB = 2**10, 2**20


@dataclass(frozen=True, slots=True)
class Retry:
    """Seconds between attempts, the first attempt being at once; ``repeat_last`` goes on with the last one."""

    waits: tuple[float, ...]
    repeat_last: bool = False


FORWARD_RETRY = Retry((15 * MINUTE, 30 * MINUTE, 60 * MINUTE, 90 * MINUTE, 240 * MINUTE), repeat_last=True)
BACKUP_RETRY = Retry((10 * MINUTE, 10 * MINUTE, 10 * MINUTE, 1440 * MINUTE))


def key(default: Any, kind: str, help: str) -> Any:
    """A key of the INI: its default as a value, the kind of its text, one line of help. A field whose name ends in
    ``_`` is a key without it: Python keeps some words for itself."""
    about = {"kind": kind, "help": help}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=about)
    return field(default=default, repr=kind != "secret", metadata=about)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    hostname: str = key("", "hostname", "the greeting, HELO, Received and the name in Authentication-Results; empty: the machine's own name")
    postmaster: str = key("", "mailbox", "where mail to bare Postmaster goes, and the From of notices; empty: postmaster@hostname")
    listen: tuple[str, ...] = key(("tcp:25",), "endpoints", "Twisted endpoint strings; tcp:25 without an interface means IPv4 and IPv6")
    data: str = key("/var/lib/inboundmx", "path", "made with mode 0700 when absent; holds everything and can be moved whole while stopped")
    user: str = key("", "user", "dropped to after binding, when started as root; empty: stay")
    workers: int = key(1, "workers", "processes that do the work, each with its own spool; a supervisor starts them anew when they die; auto: 1 on up to two cores, else the cores less one; 0: everything in one process, no supervisor")
    hung_after: float = key(60.0, "span", "a worker that has done nothing at all for so long, while it should have, is killed and started anew; 0s: never")
    hostnames: Mapping[str, str] = key({}, "pairs", "one name for each local address; forged Authentication-Results of any of them are removed")
    addresses: tuple[str, ...] = key((), "addresses", "our public addresses, when they are not the local ones (behind NAT)")
    include: tuple[str, ...] = key((), "paths", "further files to read, patterns relative to this one: conf.d/*.ini")


# Methods of HTTP (RFC 9110 9, RFC 5789), and what HTTP/2 begins with (RFC 9113 3.4): a browser that was lured here, or a
# proxy that is misused.
FORBIDDEN_COMMANDS = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE")


# Whoever is on this machine could speak to the primaries as well.
_THIS_MACHINE: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    session_timeout: float = key(15 * MINUTE, "limit", "nothing said for so long: closed (never in the middle of a message that keeps coming)")
    command_timeout: float = key(120.0, "limit", "for a whole command line; 5m once a transaction is under way")
    max_connections: int = key(1000, "count", "connections in all; one more takes the place of whoever has kept us waiting longest, for 10s at least, else hears 421")
    max_connections_per_ip: int = key(50, "count", "connections from one address, or from one /64 of IPv6; more hear 421")
    message_timeout: float = key(HOUR, "limit", "for a whole message, however steadily it comes")
    min_data_rate: int = key(100, "any_count", "octets a second that a message must come at, over each 5m of it; slower: closed; 0: no limit")
    max_bad_commands: int = key(8, "count", "commands refused for syntax, order or being unknown before the session ends")
    max_junk_commands: int = key(100, "count", "NOOP, RSET, EHLO, VRFY, HELP and the like with nothing between them that was taken or put off; each one more counts as a bad command")
    forbidden_commands: tuple[str, ...] = key(FORBIDDEN_COMMANDS, "verbs", "words of other protocols that end a session at once (554); header lines, TLS and SSH always do")
    max_bad_recipients: int = key(20, "count", "recipients refused before the session ends")
    max_hop_count: int = key(50, "count", "Received fields a message may have; SmarterMail ships 20, RFC 5321 asks for room")
    max_message_size: int = key(30 * MB, "size", "announced as SIZE; larger messages are refused")
    max_recipients: int = key(200, "count", "recipients of one message; more hear 452 and come in the next one")
    banner_delay: float = key(0.0, "span", "wait before the greeting, in which whoever speaks is early (use = early_talker); 2s to 6s tells many bots from servers")
    proxies: tuple[Network, ...] = key(_THIS_MACHINE, "networks", "who may come to haproxy: endpoints and name its clients by PROXY headers; anybody else is refused there")
    xclient: tuple[Network, ...] = key((), "networks", "who may name its clients by XCLIENT (Postfix); nobody else hears of it. They are not counted by max_connections_per_ip")


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """One ``[tls NAME]``: a certificate for strangers who ask for certain names (SNI, RFC 6066 3)."""

    name: str
    certificate: str = key("", "path", "PEM file, the whole chain")
    private_key: str = key("", "path", "PEM file of the certificate's key; empty: it is in the certificate's file")
    names: tuple[str, ...] = key((), "host_names", "shown to whom asks for one of these, *.example.com for any one label; empty: the DNS names in the certificate")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """``others`` are for names, the one here for whoever asks for none of them."""

    certificate: str = key("", "path", "PEM file, the whole chain; empty: no STARTTLS, and no ssl: endpoint without keys of its own")
    private_key: str = key("", "path", "PEM file of the certificate's key; empty: it is in the certificate's file")
    minimum: str = key("1.2", "word:1.2 1.3", "oldest TLS version spoken")
    others: tuple[CertificateSettings, ...] = ()

    @property
    def certificates(self) -> tuple[CertificateSettings, ...]:
        """All that are configured, the one without a name first."""
        first = CertificateSettings("", self.certificate, self.private_key)
        return (first, *self.others) if self.certificate else ()


@dataclass(frozen=True, slots=True)
class DnsSettings:
    servers: tuple[str, ...] = key(("system",), "dns_servers", "recursive name servers in order, a port after a colon; system: those in /etc/resolv.conf. A resolver on this machine is best: public block lists refuse shared ones")
    timeout: float = key(5.0, "limit", "for one look-up, all tries together")


@dataclass(frozen=True, slots=True)
class StorageSettings:
    url: str = key("sqlite", "storage_url", "sqlite: embedded, under data")


@dataclass(frozen=True, slots=True)
class LogSettings:
    to: str = key("stdout", "log_file", "stdout, or a file")
    format: Literal["json", "text"] = key("json", "word:json text", "json: one object a line; text: for reading")
    level: Literal["debug", "info", "warning", "error"] = key("info", "word:debug info warning error", "debug adds connections and single checks")
    keep: float = key(30 * DAY, "limit", "how long decisions are kept for explain")
    keep_size: int = key(1024 * MB, "size", "and how large their file may grow")


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    retry: Retry = key(FORWARD_RETRY, "retry", "minutes between attempts, the first being at once; a last * repeats it until lifetime; a domain with mode = backup has 10/10/10/1440 unless it says otherwise itself")
    lifetime: float = key(5 * DAY, "limit", "a repeating retry list ends when a message is this old")
    dns_error_attempts: int = key(2, "count", "attempts that end in a DNS error before giving up, counted from four hours of the retry list on, as our own resolver may be what fails; never where a primary is given as an address, nor for mode = backup and [backup]")
    delay: float = key(0.0, "span", "held so long before the first attempt; more than 0 spools every message first")
    handover: Literal["cut-through", "spool"] = key("cut-through", "word:cut-through spool", "cut-through: the primary's own answer is passed on; spool: committed to disk first")
    handover_deadline: float = key(30.0, "limit", "what a stranger waits for the primary's answer before we spool and say 250")
    tempfail: Literal["spool", "pass"] = key("spool", "word:spool pass", "a live primary's 4xx: spool the message, or pass it on")
    max_connections: int = key(50, "count", "outgoing connections in all")
    max_connections_per_host: int = key(20, "count", "outgoing connections to one host")
    command_timeout: float = key(60.0, "limit", "for each answer of a host while a spooled message is delivered, less than RFC 5321's 5m only by choice")
    tls: Literal["none", "opportunistic", "required", "verified"] = key("opportunistic", "word:none opportunistic required verified", "verified: the host's certificate must match its name")
    delay_notice: float = key(4 * HOUR, "span", "a notice that delivery is late goes to the sender after this; 0s: never")
    bounce: Literal["never", "verified", "always"] = key("verified", "word:never verified always", "who may be sent notices; verified: SPF or aligned DKIM passed; else undeliverable mail is held")
    source_address: tuple[str, ...] = key((), "source_addresses", "our addresses that deliveries come from, in rotation; the system's choice where one fails or none is of the host's family; empty: the system's choice")
    notices_per_hour: int = key(1000, "count", "notices we write in an hour; what would be told beyond that is held as undeliverable")
    undeliverable_retention: float = key(30 * DAY, "limit", "how long undeliverable and held mail is kept")
    quarantine_retention: float = key(30 * DAY, "limit", "how long mail is kept in the quarantine")


@dataclass(frozen=True, slots=True)
class LevelSettings:
    """One ``[level NAME]``. NONE has no threshold: it is what remains."""

    level: Level
    threshold: float = key(0.0, "number", "the filtering sum at which this level begins (inclusive)")
    action: tuple[Action, ...] = key((Action("deliver"),), "actions", "deliver, header, tag, redirect, quarantine, hold, discard, reject; joined by commas")
    outgoing_action: tuple[Action, ...] = key((), "maybe_actions", "the same for mail we send out for others; empty: as for incoming mail")


DEFAULT_LEVELS = (
    LevelSettings(Level.NONE),
    LevelSettings(Level.LOW, 10.0),
    LevelSettings(Level.MEDIUM, 20.0, (Action("tag", "SPAM-MED:"),)),
    LevelSettings(Level.HIGH, 30.0, (Action("reject"),)),
)


@dataclass(frozen=True, slots=True)
class BlockingSettings:
    incoming_threshold: float = key(30.0, "number", "the blocking sum at which incoming mail is refused, whatever the levels say")
    outgoing_threshold: float = key(30.0, "number", "the same for mail we send out for others")
    outgoing_notice: bool = key(False, "yes", "yes writes to whoever authenticated when checks refuse his outgoing mail or it is kept back; only where he authenticates by an address at a domain of ours, and ten times an hour at most (SmarterMail: Enable bounces for Outgoing SMTP Blocking)")


@dataclass(frozen=True, slots=True)
class CausesSettings:
    enabled: bool = key(True, "yes", "no: mail is refused whatever suddenly speaks against it")
    window: float = key(HOUR, "limit", "counted together for so long, by the clock")
    at_least: int = key(50, "count", "a cause that spoke against fewer messages in the window is believed")
    times: int = key(10, "count", "how many times as common as usual (as odds; nothing counts as rarer than 1 in 100) it may be until it is doubted: mail that would be refused or discarded because of it alone is held for an operator, infected mail quarantined")
    learning: float = key(DAY, "span", "nothing is doubted for so long after its check was first asked; 0s: what was never seen counts as 1 in 100 from the first message on")
    except_: tuple[str, ...] = key((), "section_names", "checks that are always believed, and levels: low, medium, high")
    notify: str = key("", "mailbox", "who is written to when a cause is doubted, once an hour for each; empty: [gateway] postmaster, if that is at a domain of ours; the log and inboundmx status tell as well")


@dataclass(frozen=True, slots=True)
class GreylistingSettings:
    """How long and whom: greylisting is done by a check that uses it. ``network``: the bits that two clients of one
    network have in common, of IPv4 and of IPv6."""

    block: float = key(15 * MINUTE, "limit", "retries sooner than this after the first attempt are put off too")
    pass_: float = key(360 * MINUTE, "limit", "a retry later than this after the first attempt is a first attempt again")
    expire: float = key(36 * DAY, "limit", "who passed is known until nothing was heard for so long, and so is whom our users wrote to")
    network: tuple[int, int] = key((24, 64), "prefixes", "bits of a client's network, IPv4/IPv6: pools of servers retry from neighbouring addresses")
    auto_allow: int = key(5, "any_count", "a client waits no more after so many good deliveries (level none or low, delivered or in the spool), until a bad one (level high, infected, refused for good); 0: it always waits")
    auto_allow_for: float = key(36 * DAY, "limit", "and is forgotten when nothing good came for so long")
    bypass: tuple[Network, ...] = key((), "networks", "clients that never wait (SmarterMail: greylisBypass.xml)")
    except_recipients: tuple[str, ...] = key((), "senders", "recipients who want no greylisting: addresses or domains, * for anything")
    # The last one: below it the name is this key's.
    key: Literal["network", "domain"] = key("network", "word:network domain", "what a client is known by: its network, or the sender's domain where SPF passes, so that services with many networks are asked once; needs a check that uses spf")


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """``allow`` holds networks, and the word ``whitelisted`` for those that are whitelisted for smtp."""

    allow: tuple[Network | str, ...] = key((), "relay", "who may send out through us: nobody, or addresses, ranges, CIDR blocks; whitelisted: all that are whitelisted for smtp as well, by [lists] or by inboundmx lists; judged on the TCP or PROXY peer")

    users: str = key("", "users_file", "file:/path of those who may authenticate on the listeners of [submission], made by inboundmx users; read anew when it changes; empty: nobody")

    @property
    def networks(self) -> tuple[Network, ...]:
        return tuple([each for each in self.allow if not isinstance(each, str)])

    @property
    def whitelisted(self) -> bool:
        return "whitelisted" in self.allow


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    """Listeners for those who send out through us and show who they are. AUTH is offered there alone."""

    listen: tuple[str, ...] = key((), "console_endpoints", "Twisted endpoint strings where AUTH is required whatever else: tcp:587 (STARTTLS) or ssl:465; empty: none. Who has authenticated there may send anywhere")
    auth_login: bool = key(True, "yes", "no does not offer AUTH LOGIN beside PLAIN and SCRAM-SHA-256 (SmarterMail: Disable AUTH LOGIN)")
    auth_bypass: tuple[Network, ...] = key((), "networks", "clients that need not authenticate on these listeners, and may send anywhere from there (SmarterMail: SMTP Authentication Bypass)")


@dataclass(frozen=True, slots=True)
class ListsSettings:
    """What stands in the INI; operators add more while the gateway runs. Three independent kinds of trust: none implies
    another, and none grants relay."""

    whitelist_smtp: tuple[Network, ...] = key((), "networks", "clients that no limit of connections, bad commands or bad recipients holds for, no block and no blocking threshold")
    whitelist_spam: tuple[Network, ...] = key((), "networks", "clients whose mail is not checked for spam; for viruses it is")
    whitelist_greylisting: tuple[Network, ...] = key((), "networks", "clients that are never greylisted")
    blacklist: tuple[Network, ...] = key((), "networks", "clients that are refused before they have said anything (554)")
    blocked_senders: tuple[str, ...] = key((), "senders", "addresses or domains, * for anything: *@bad.example, *.bad.example, news*@shop.example; refused, by the check blocked, whatever the sender has authenticated")
    trusted_senders: tuple[str, ...] = key((), "senders", "the same of senders that are neither greylisted nor weighed as spam, when SPF or DKIM shows that they are who they say")
    bypass_gateways: tuple[Network, ...] = key((), "networks", "gateways of ours or of our provider that mail of others comes through: no limit or check of an address judges them; whom they name in Received is judged instead, by checks and the blacklist alone")


@dataclass(frozen=True, slots=True)
class AbuseSettings:
    """One ``[abuse NAME]``: a limit, and what follows when it is exceeded. ``use`` is never empty once it is read."""

    name: str
    use: str = key("", "word:connections bad-sessions bad-commands bad-recipients same-size", "what is counted; left out where NAME is one of these: connections; bad-sessions, that end without a message and with refused recipients (harvesting); bad-commands; bad-recipients, refused for good; same-size, messages of the same size from one authenticated user or relaying address")
    window: float = key(10 * MINUTE, "limit", "counted together for so long, from the first on")
    limit: int = key(20, "count", "so many are suffered in a window (must be given)")
    block: float = key(0.0, "span", "whoever exceeds it, an IPv4 address or an IPv6 /64, is refused for so long before it has said anything (421); 0s: not")
    notify: str = key("", "mailbox", "who is written to about it, once an hour for each who exceeds it; empty: only the log tells")


@dataclass(frozen=True, slots=True)
class BackupSettings:
    primaries: tuple[Network, ...] = key((), "networks", "SmarterMail's SmartHost servers: we are backup for any domain whose MX set names us and, with better preference, one of these; its mail is delivered to these alone")
    retry: Retry = key(BACKUP_RETRY, "retry", "minutes between attempts for those domains, as in [delivery]")
    when_exhausted: Literal["bounce", "hold"] = key("hold", "word:bounce hold", "after the last attempt")
    greylisting: bool = key(True, "yes", "no exempts mail for those domains from greylisting (SmarterMail: Enable Greylisting to SmartHosts)")


@dataclass(frozen=True, slots=True)
class PrioritySettings:
    """SmarterMail's priorities for kinds of mail. Each is 1 (last) to 10 (first), or None: as the domain says."""

    message_size_threshold: int = key(2 * MB, "size", "larger messages have the priority over_size")
    over_size: int | None = key(None, "maybe_priority", "priority of messages over message_size_threshold; empty: as the domain says")
    null_sender: int | None = key(None, "maybe_priority", "priority of notices and other mail with the null sender; empty: as the domain says")
    second_attempt: int | None = key(None, "maybe_priority", "priority from the second attempt on; empty: unchanged")
    third_attempt: int | None = key(None, "maybe_priority", "priority from the third attempt on; empty: unchanged")


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    """One ``[outbound NAME]``: a gateway or smart host that mail leaves by. Without any, mail goes directly (MX)."""

    name: str
    mode: Literal["round-robin", "domains"] = key("round-robin", "word:round-robin domains", "round-robin: mail takes turns through all of these; domains: only mail sent by a domain that names it (outbound = NAME)")
    server: tuple[Host, ...] = key((), "hosts", "name or address, a port after a colon (25 when left out)")
    username: str = key("", "text", "to authenticate with: PLAIN, LOGIN or CRAM-MD5, as the server offers; empty: no authentication")
    password: str = key("", "secret", "file:/path, or the password itself")
    auth_without_tls: bool = key(False, "yes", "yes sends the password over a connection that is not encrypted")
    tls: Literal["none", "opportunistic", "required", "verified"] = key("opportunistic", "word:none opportunistic required verified", "verified: the server's certificate must match its name")
    priority: tuple[int, int] = key((1, 10), "priorities", "takes only messages with a priority in this range")
    exclusive: bool = key(True, "yes", "no: directly first, by this server only if that fails")
    source_address: tuple[str, ...] = key((), "source_addresses", "as in [delivery], for this server; empty: those of [delivery]")
    status_url: str = key("", "status_url", "http://HOST:PORT or https://HOST:PORT of the [console] of another inboundmx: the fewer messages wait in its spool, the more it is given; empty: all get the same")
    status_username: str = key("", "http_user", "the user of that console")
    status_password: str = key("", "secret", "file:/path, or the password itself")
    enabled: bool = key(True, "yes", "no: nothing is sent through it")
    description: str = key("", "text", "for people")


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """One ``[archive NAME]``. Copies are never deleted by us."""

    name: str
    domain: str = key("*", "domain_or_all", "mail of this domain, * of all")
    path: str = key("", "path", "folder that copies are written to, by day; made with mode 0700 when absent")
    rule: Literal["none", "all", "incoming", "outgoing"] = key("all", "word:none all incoming outgoing", "which mail: that for the domain is incoming, that sent by it through us outgoing")


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    listen: tuple[str, ...] = key((), "console_endpoints", "Twisted endpoint strings for the status page of programs (/api/status, /healthz); empty: none")
    username: str = key("", "http_user", "whoever asks for /api/status gives this name")
    password: str = key("", "secret", "and this password: file:/path, or itself; without one /api/status is closed")


# ``recipients`` of a domain that takes everybody, and of one that does not say.
ANY = ("any",)
ASKED = ("learned", "callout")


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """One ``[domain NAME]``, with what it leaves out filled in from ``[delivery]``, ``[level]`` and ``[blocking]``.

    ``levels`` and ``blocking`` are the effective ones; ``weights`` are the domain's own, by (check name, outcome).
    ``via`` as in SpoolEntry: it tells settings that were made for a domain without a section of its own.
    ``skips`` are the checks that do not count, for whatever reason. ``apart`` is empty, or tells those of its recipients
    apart whose own settings these are.
    """

    name: str
    mode: Literal["forward", "backup"] = key("forward", "word:forward backup", "forward: the primary is normally up; backup: we hold mail for when it is not")
    primary: tuple[Host, ...] = key((), "hosts", "the real mail servers in order; IPv6 with a port in brackets; lmtp:HOST:PORT for LMTP; a range or CIDR of up to 16 is expanded")
    balance: Literal["failover", "round-robin"] = key("failover", "word:failover round-robin", "which primary is tried first")
    recipients: tuple[str, ...] = key(ASKED, "recipients", "who exists, asked in order: learned (from what the primary answered), callout (the primary is asked), file:PATH, http(s)://HOST/PATH (a list, or a question with {address}), ldap(s)://HOST/BASE; any: everybody")
    recipients_unreachable: Literal["hold", "accept", "defer"] = key("hold", "word:hold accept defer", "a recipient of whom nothing is known while nobody can be asked; hold: greylisted first, then kept unverified until the primary is back and can be asked by delivering; accept: the same without greylisting; defer: put off")
    recipients_username: str = key("", "text", "to ask a web service or an LDAP server (a DN) with; empty: without a name")
    recipients_password: str = key("", "secret", "file:/path, or the password itself")
    require_tls: bool = key(False, "yes", "yes: mail for it is taken over TLS alone (550 5.7.10 in the clear)")
    greylisting: bool = key(True, "yes", "no exempts the domain from greylisting; yes needs a check that uses greylist")
    priority: int = key(5, "priority", "1 (last) to 10 (first), given to this domain's messages in the spool")
    when_exhausted: Literal["bounce", "hold"] = key("bounce", "word:bounce hold", "after the last attempt; hold is the default for mode = backup")
    retry: Retry = key(FORWARD_RETRY, "retry", "as in [delivery]")
    lifetime: float = key(5 * DAY, "limit", "as in [delivery]")
    delay: float = key(0.0, "span", "as in [delivery]")
    handover: Literal["cut-through", "spool"] = key("cut-through", "word:cut-through spool", "as in [delivery]")
    handover_deadline: float = key(30.0, "limit", "as in [delivery]")
    tempfail: Literal["spool", "pass"] = key("spool", "word:spool pass", "as in [delivery]")
    quarantine_retention: float = key(30 * DAY, "limit", "as in [delivery]")
    tls: Literal["none", "opportunistic", "required", "verified"] = key("opportunistic", "word:none opportunistic required verified", "as in [delivery]")
    bounce: Literal["never", "verified", "always"] = key("verified", "word:never verified always", "as in [delivery]")
    enabled: bool = key(True, "yes", "no: mail for it is refused as if it had no section here, and what is in the spool waits")
    description: str = key("", "text", "for people")
    subdomains: bool = key(False, "yes", "yes: these settings hold for every name below it too, unless that has a section of its own")
    except_: tuple[str, ...] = key((), "domain_names", "for [domain *] alone: all but these domains; those below them are not meant (SmarterMail: All But Specified Domains)")
    client_facts: Literal["none", "xforward", "xclient"] = key("none", "word:none xforward xclient", "tells a primary that trusts us who the real client is, by XFORWARD or XCLIENT where it offers that")
    outbound: str = key("", "section_name", "the [outbound] with mode = domains that mail sent by this domain leaves by; empty: as everybody's")
    messages_per_hour: int = key(0, "any_count", "messages delivered in an hour, the rest waits for the next (SmarterMail: 5000); 0: no limit")
    bandwidth_per_hour: int = key(0, "any_size", "octets delivered in an hour, the rest waits for the next (SmarterMail: 100MB); 0: no limit")
    bounces_per_hour: int = key(0, "any_count", "messages with the null sender delivered in an hour, the rest waits for the next (SmarterMail: 1000); 0: no limit")
    skip_checks: tuple[str, ...] = key((), "section_names", "checks, by the names of their sections, that do not count for its recipients; what all recipients of a message skip is not even asked")
    via: str = ""
    levels: tuple[LevelSettings, ...] = DEFAULT_LEVELS
    blocking: BlockingSettings = BlockingSettings()
    weights: Mapping[tuple[str, str], Weight] = field(default_factory=dict)
    skips: frozenset[str] = frozenset()
    apart: str = ""


@dataclass(frozen=True, slots=True)
class RecipientsSettings:
    """One ``[recipients NAME]``: what is different for some recipients of our domains. None, and what is not there, is
    as the domain says. ``levels`` and ``blocking`` are what is said of each, by key; ``listed`` are the addresses in
    the files that ``match`` names, in small letters."""

    name: str
    match: tuple[str, ...] = key((), "matches", "whom it is about: addresses or domains, * for anything, and file:/path with one of these a line, read whenever the settings are; the first section in the file that matches a recipient holds")
    greylisting: bool | None = key(None, "maybe_yes", "no exempts them from greylisting; empty: as the domain says")
    skip_checks: tuple[str, ...] | None = key(None, "section_names", "checks that do not count for them, in place of those that the domain names; left out: as the domain says")
    description: str = key("", "text", "for people")
    levels: Mapping[Level, Mapping[str, Any]] = field(default_factory=dict)
    blocking: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[tuple[str, str], Weight] = field(default_factory=dict)
    listed: tuple[str, ...] = ()


OUTGOING = DomainSettings("", via="outbound", recipients=ANY, handover="spool", greylisting=False)
BACKED_UP = DomainSettings("", via="backup", recipients=ANY, mode="backup", retry=BACKUP_RETRY, when_exhausted="hold")
ARCHIVING = DomainSettings("", via="archive", recipients=ANY, when_exhausted="hold")


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """One ``[check NAME]``. ``options`` are the keys of its kind, as values; ``weights`` by outcome, defaults filled
    in for every outcome of the kind, ``error`` and ``timeout`` included."""

    name: str
    kind: str
    timeout: float = key(5.0, "limit", "after this the outcome is timeout")
    counts_for: frozenset[str] = key(frozenset({"filtering"}), "counts_for", "the sums it adds to: SmarterMail's two switches")
    skip_for: tuple[Network, ...] = key((), "networks", "client addresses it is not asked for")
    for_: Literal["", "incoming", "outgoing", "both"] = key("", "direction", "incoming: mail for our domains; outgoing: mail that those who may send out through us send to others; both; empty: outgoing mail is asked about after the final dot and about its rate, incoming mail about everything")
    weights: Mapping[str, Weight] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. ``fingerprint`` is a short hash of the effective values, kept with each decision.

    ``everything`` is ``[domain *]``. ``outgoing``, ``backed_up`` and ``archiving`` are what holds for mail that leaves us
    for anywhere, for domains we are backup of by their MX set, and for copies on their way to an archive: settings
    without a name, made of ``[delivery]``.
    """

    gateway: GatewaySettings = GatewaySettings()
    smtp: SmtpSettings = SmtpSettings()
    tls: TlsSettings = TlsSettings()
    dns: DnsSettings = DnsSettings()
    storage: StorageSettings = StorageSettings()
    log: LogSettings = LogSettings()
    delivery: DeliverySettings = DeliverySettings()
    blocking: BlockingSettings = BlockingSettings()
    causes: CausesSettings = CausesSettings()
    relay: RelaySettings = RelaySettings()
    backup: BackupSettings = BackupSettings()
    priority: PrioritySettings = PrioritySettings()
    console: ConsoleSettings = ConsoleSettings()
    greylisting: GreylistingSettings = GreylistingSettings()
    lists: ListsSettings = ListsSettings()
    submission: SubmissionSettings = SubmissionSettings()
    levels: tuple[LevelSettings, ...] = DEFAULT_LEVELS
    domains: Mapping[str, DomainSettings] = field(default_factory=dict)
    recipients: tuple[RecipientsSettings, ...] = ()
    everything: DomainSettings | None = None
    outgoing: DomainSettings = OUTGOING
    backed_up: DomainSettings = BACKED_UP
    archiving: DomainSettings = ARCHIVING
    outbound: tuple[OutboundSettings, ...] = ()
    archives: tuple[ArchiveSettings, ...] = ()
    abuse: tuple[AbuseSettings, ...] = ()
    checks: tuple[CheckSettings, ...] = ()
    fingerprint: str = ""

    @property
    def sections(self) -> tuple[DomainSettings, ...]:
        """Every section of a domain, ``[domain *]`` last."""
        return (*self.domains.values(), *((self.everything,) if self.everything is not None else ()))

    def domain(self, name: str, via: str = "") -> DomainSettings | None:
        """What holds for mail of domain ``name``: its own section, that of the nearest name above it that says so for
        its subdomains, ``[domain *]``, or None. A section that is not ``enabled`` is found as well."""
        if via:
            made = {"outbound": self.outgoing, "backup": self.backed_up, "archive": self.archiving}.get(via)
            return None if made is None else replace(made, name=name)
        found = self.section(name)
        if found is not None:
            return found
        if self.everything is None or not name or name in self.everything.except_:
            return None
        return replace(self.everything, name=name)

    def section(self, name: str) -> DomainSettings | None:
        """The same, of sections that name a domain: without ``[domain *]``."""
        found = self.domains.get(name)
        if found is not None:
            return found
        above = name
        while above:
            _, _, above = above.partition(".")
            found = self.domains.get(above)
            if found is not None and found.subdomains:
                return replace(found, name=name)
        return None
