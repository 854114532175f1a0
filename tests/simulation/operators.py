"""Who looks after the gateway, at random: spool commands, pauses, other settings; and what must follow from each.

Everything goes through ``app.operations`` as the commands do. What an operator did is in the ``World``'s books by the
journal alone, so that nothing counts that did not happen.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred

from inboundmx.app.answers import NotUnderstood
from inboundmx.ports import Unavailable

HOUR = 3600.0
VERBS = ("hold", "release", "force", "bounce", "delete", "priority", "reset-retries")
# An attempt may have begun before a pause, and take so long.
UNDER_WAY = HOUR / 2


class Operator:
    """``settings`` are those the file has when it is left alone."""

    def __init__(self, world, settings, domains):
        self.world = world
        self.chance = world.chance
        self.settings = settings
        self.domains = domains
        # Domains of which nothing may arrive, and since when.
        self.stopped: dict[tuple[str, str], float] = {}
        # Whether commands come just while something is on its way.
        self.rash = False

    def live(self, end):
        """So many deeds until ``end``."""
        chance, later = self.chance, self.world.time.later
        self.rash = chance.random() < 0.3
        for _ in range(chance.choice((0, 0, 4, 15))):
            later(chance.uniform(0, end), self.command)
        for _ in range(chance.choice((0, 0, 1, 2))):
            at = chance.uniform(0, end)
            domain, seconds = chance.choice((*self.domains, "")), chance.choice((60.0, HOUR, 8 * HOUR))
            later(at, self.pause, domain, seconds)
            if chance.random() < 0.5:
                later(at + seconds * chance.uniform(0.1, 1.5), self.resume, domain)
        for _ in range(chance.choice((0, 1, 3, 5))):
            at = chance.uniform(0, end)
            later(at, self.reload)
            later(at + chance.choice((60.0, 6 * HOUR, 12 * HOUR)), self.use, self.settings)

    def heal(self):
        """All is as the file says, nothing is paused, and what was stopped is released."""
        self.use(self.settings)
        for domain in (*self.domains, ""):
            self.resume(domain)
        if self.chance.random() < 0.5:
            self.ask("spool.release", state="held")

    # --- commands -----------------------------------------------------------------------------------------------------

    def ask(self, operation, **arguments):
        asked = Deferred.fromCoroutine(self.world.operations.perform(operation, arguments, "somebody"))
        asked.addCallbacks(list, self._failed)

    def _failed(self, failure):
        if not failure.check(Unavailable, NotUnderstood):
            self.world.wrong.append(f"a command failed: {failure.value!r}")

    def command(self):
        verb = self.chance.choice(VERBS)
        more = {"priority": self.chance.randrange(1, 11)} if verb == "priority" else {}
        entries = self.world.spool.entries()
        if entries and self.chance.random() < 0.7:
            some = self.chance.sample(entries, min(len(entries), self.chance.choice((1, 1, 3))))
            self.ask(f"spool.{verb}", ids=[entry.id for entry in some], **more)
        elif verb not in ("delete", "bounce"):
            self.ask(f"spool.{verb}", domain=self.chance.choice(self.domains), **more)

    def meanwhile(self):
        """A primary is being given a message just now."""
        if self.rash and self.chance.random() < 0.1:
            self.command()

    def pause(self, domain, seconds):
        self.ask("spool.pause", domain=domain, **{"for": seconds})

    def resume(self, domain):
        self.ask("spool.resume", domain=domain)

    # --- other settings -----------------------------------------------------------------------------------------------

    def reload(self):
        change = self.chance.choice(
            (self._without, self._disabled, self._throttled, self._throttled, self._leaving, self._no_backup)
        )
        self.use(change(self.settings))

    def use(self, settings):
        world = self.world
        for name in self.domains:
            found = settings.domain(name)
            off = found is not None and not found.enabled
            self._stops(("disabled", name), off)
        world.settings = settings
        world.inside.use(world.inside.plan(settings))
        world.operations.settings = settings

    def _domain(self, settings, **changes):
        name = self.chance.choice(sorted(settings.domains))
        return replace(settings, domains={**settings.domains, name: replace(settings.domains[name], **changes)})

    def _without(self, settings):
        gone = self.chance.choice(("c.example", "d.example"))
        return replace(settings, domains={name: found for name, found in settings.domains.items() if name != gone})

    def _disabled(self, settings):
        return self._domain(settings, enabled=False)

    def _throttled(self, settings):
        limits = self.chance.choice(({"messages_per_hour": 1}, {"bandwidth_per_hour": 900}, {"bounces_per_hour": 1}))
        return replace(settings, domains={name: replace(found, **limits) for name, found in settings.domains.items()})

    def _leaving(self, settings):
        (relay,) = settings.outbound
        exclusive = replace(relay, exclusive=True)
        other = replace(exclusive, name="other", server=(replace(relay.server[0], address=self.world.other_relay),))
        return replace(settings, outbound=self.chance.choice(((), (exclusive,), (exclusive, other), (relay, other))))

    def _no_backup(self, settings):
        return replace(settings, backup=replace(settings.backup, primaries=()))

    # --- what must follow ---------------------------------------------------------------------------------------------

    def heard(self, event, fields):
        """From the journal: pauses begin and end."""
        if event in ("paused", "resumed"):
            name = fields["domain"]
            self._stops(("paused", "" if name == "all" else name), event == "paused")

    def _stops(self, what, begins):
        if begins:
            self.stopped.setdefault(what, self.world.time.at)
        else:
            self.stopped.pop(what, None)

    def forbids(self, domain):
        """Why nothing may arrive for ``domain`` now."""
        for what in (("disabled", domain), ("paused", domain), ("paused", "")):
            since = self.stopped.get(what)
            if since is not None and self.world.time.at - since > UNDER_WAY:
                return f"{what[0]} since {since:.0f}"
        return ""
