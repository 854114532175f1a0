"""Commands on the spool of a running gateway that change how and whether mail is delivered."""

from __future__ import annotations

from programs import DOMAIN, Stage, domain, letter, post, until


def test_a_pause_accepts_mail_survives_a_restart_and_ends(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port))
    gateway.command("spool", "pause", DOMAIN, "--reason", "new server")
    answer = post(gateway.port, letter("waits for the new server"))
    assert answer.code == 250
    (spooled,) = until("a line in the log", lambda: gateway.log_events(event="spooled", id=answer.id))
    assert "new server" in spooled["reason"]
    gateway.restart()
    until("a line in the log", lambda: gateway.log_events(event="still_paused"))
    assert "new server" in gateway.command("spool", "list")
    assert post(gateway.port, letter("so does this")).code == 250
    assert [row["attempts"] for row in gateway.listed("spool", "list")] == [0, 0]
    assert primary.count() == 0
    gateway.command("spool", "resume", DOMAIN)
    for subject in (b"waits for the new server", b"so does this"):
        primary.one(subject)
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])


def test_a_pause_ends_by_itself(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port))
    gateway.command("spool", "pause", "--for", "2s")
    assert post(gateway.port, letter("in a moment")).code == 250
    primary.one(b"in a moment")
    until("a line in the log", lambda: gateway.log_events(event="resumed"))


def test_held_mail_waits_for_its_release(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port))
    gateway.command("spool", "pause")
    assert post(gateway.port, letter("not yet")).code == 250
    gateway.command("spool", "hold", "--domain", DOMAIN)
    gateway.command("spool", "resume")
    (held,) = gateway.listed("spool", "list", "--state", "held")
    assert held["next_attempt_at"] is None and primary.count() == 0
    gateway.command("spool", "priority", "9", held["id"])
    assert gateway.listed("spool", "list")[0]["priority"] == 9
    gateway.command("spool", "release", held["id"])
    primary.one(b"not yet")


def test_what_is_exported_is_what_is_delivered(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(domain(primary.port))
    gateway.command("spool", "pause")
    # In a file of its own, with a line that is stuffed on the wire.
    answer = post(gateway.port, letter("a large one", b".dot\r\n" + b"Hello, hello.\r\n" * 30_000))
    assert answer.code == 250
    gateway.command("spool", "export", answer.id, "--to", str(gateway.folder / "out"))
    gateway.command("spool", "resume")
    delivered = primary.one(b"a large one").content
    (exported,) = (gateway.folder / "out").iterdir()
    assert exported.read_bytes() == delivered


def test_a_bounced_message_is_told_to_its_sender(play: Stage) -> None:
    primary = play.recording()
    gateway = play.gateway(f"[delivery]\nbounce = always\n{domain(primary.port)}")
    gateway.command("spool", "pause")
    answer = post(gateway.port, letter("never mind"), sender=f"ann@{DOMAIN}")
    assert answer.code == 250
    gateway.command("spool", "bounce", answer.id)
    gateway.command("spool", "resume")
    notice = primary.one(b"could not be delivered")
    assert b"never mind" in notice.content and notice.recipients == (f"ann@{DOMAIN}",)
    until("an empty spool", lambda: gateway.listed("spool", "list") == [])
    assert "the sender was sent a notice" in gateway.command("explain", answer.id)
