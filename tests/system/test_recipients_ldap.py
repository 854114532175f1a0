"""Recipients that a real slapd knows, asked by a real gateway."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from programs import DOMAIN, Answer, Child, Gateway, Stage, Wire, domain, free_port, need, until

LDIF = f"""\
dn: dc=example
objectClass: dcObject
objectClass: organization
dc: example
o: example

dn: cn=reader,dc=example
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: of the reader

dn: cn=ann,dc=example
objectClass: inetOrgPerson
cn: ann
sn: Example
mail: ann@{DOMAIN}
mail: other.name@{DOMAIN}

dn: cn=postmaster@one.example,dc=example
objectClass: inetOrgPerson
cn: postmaster@one.example
sn: Postmaster
"""


class Slapd(Child):
    """OpenLDAP with a database in its folder, heard on loopback alone; nobody may read without a name."""

    def __init__(self, folder: Path) -> None:
        super().__init__("slapd", folder)
        self.port = free_port()
        self.program = need("slapd")

    def start(self) -> Slapd:
        config = self.folder / "slapd.conf"
        (self.folder / "db").mkdir(exist_ok=True)
        schemas = "".join(f"include /etc/ldap/schema/{name}.schema\n" for name in ("core", "cosine", "inetorgperson"))
        config.write_text(
            f"{schemas}modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {self.folder}/pid\n"
            f'database mdb\nsuffix "dc=example"\ndirectory {self.folder}/db\nrootdn "cn=root,dc=example"\n'
            "access to attrs=userPassword by anonymous auth by * none\naccess to * by users read by * none\n"
        )
        data = self.folder / "data.ldif"
        if not data.exists():
            data.write_text(LDIF)
            filler = Child("slapadd", self.folder)
            filler.spawn([need("slapadd"), "-f", str(config), "-l", str(data)])
            assert filler.process is not None
            assert filler.process.wait(30) == 0, filler.said()
        self.spawn([self.program, "-f", str(config), "-h", f"ldap://127.0.0.1:{self.port}", "-d", "0"])
        until("slapd listens", self._listens)
        return self

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.end(signal.SIGTERM)


def rcpt(gateway: Gateway, *recipients: str) -> list[Answer]:
    with Wire(gateway.port) as wire:
        wire.hello()
        return wire.envelope("someone@stranger.example", *recipients)[1:]


@pytest.fixture
def slapd(play: Stage) -> Slapd:
    return play.partner("slapd", Slapd).start()


def test_an_ldap_server_is_asked_and_may_be_away(play: Stage, slapd: Slapd) -> None:
    url = f"ldap://127.0.0.1:{slapd.port}/dc=example"
    reader = {"recipients_username": "cn=reader,dc=example", "recipients_password": "of the reader"}
    sections = "".join(
        domain(25, name, recipients=where, recipients_unreachable="defer", **who)
        for name, where, who in (
            (DOMAIN, url, reader),
            ("one.example", f"{url}??sub?(cn={{address}})", reader),
            ("base.example", f"ldap://127.0.0.1:{slapd.port}/dc=elsewhere", reader),
            ("nobody.example", url, {}),
        )
    )
    gateway = play.gateway(sections, launcher="warped")
    known = [f"ann@{DOMAIN}", f"Other.Name@{DOMAIN}"]
    # What has a meaning in a filter is only text in an address.
    unknown = [f"bob@{DOMAIN}", f"ann*@{DOMAIN}", f"*@{DOMAIN}", f'"a)(mail=*"@{DOMAIN}', "ann@one.example"]
    assert [answer.code for answer in rcpt(gateway, *known, *unknown)] == [250, 250, *[550] * 5]
    # A wrong base, and a server that tells nobody without a name, say nothing about recipients.
    said = rcpt(gateway, "ann@base.example", "ann@nobody.example")
    assert [answer.code for answer in said] == [450, 450]
    assert "noSuchObject" in gateway.command("explain", said[0].id)
    slapd.stop()
    assert [answer.code for answer in rcpt(gateway, *known, *unknown, f"eve@{DOMAIN}")] == [250, 250, *[550] * 5, 450]
    gateway.pass_time(601)
    assert {answer.code for answer in rcpt(gateway, *known)} == {450}
    slapd.start()
    gateway.pass_time(11)
    assert [answer.code for answer in rcpt(gateway, *known, f"eve@{DOMAIN}")] == [250, 250, 550]
