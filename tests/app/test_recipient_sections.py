"""[recipients …], skip_checks and for as they are written."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from inboundmx.app.checking import warnings
from inboundmx.app.effective import as_ini, effective
from inboundmx.app.settings import BadSettings, load
from inboundmx.model.settings import RecipientsSettings, Settings
from inboundmx.model.verdict import Action, Level

BASE = """
[domain a.example]
primary = 192.0.2.10
skip_checks = spf
[check spf]
use = spf
[check Pills]
use = headers
header = Subject
value = pills
for = outgoing
"""


def read(folder: Path, text: str) -> Settings:
    path = folder / "in.ini"
    path.write_text(BASE + text)
    return load(str(path))


def test_all_that_may_be_said_of_recipients(tmp_path: Path) -> None:
    (tmp_path / "vip").write_text("# whom we know\nEve@C.example\n\n*@vip.example\n")
    text = (
        "[recipients Bosses]\nmatch = boss@a.example sales.a.example file:vip\ngreylisting = no\nskip_checks = pills\n"
        "level.high.action = quarantine\nlevel.low.threshold = 5\nblocking.incoming_threshold = 50\n"
        "weight.spf.fail = reject\ndescription = they know what they do\n"
    )
    settings = read(tmp_path, text)
    assert settings.recipients == (
        RecipientsSettings(
            "bosses", ("boss@a.example", "*@sales.a.example", f"file:{tmp_path / 'vip'}"), False, ("pills",),
            "they know what they do",
            {Level.HIGH: {"action": (Action("quarantine"),)}, Level.LOW: {"threshold": 5.0}},
            {"incoming_threshold": 50.0}, {("spf", "fail"): "reject"}, ("eve@c.example", "*@vip.example"),
        ),
    )  # fmt: skip
    (tmp_path / "again.ini").write_text(as_ini(effective(settings)))
    assert load(str(tmp_path / "again.ini")).recipients == settings.recipients
    (tmp_path / "vip").write_text("eve@c.example\n")
    assert load(str(tmp_path / "in.ini")).fingerprint != settings.fingerprint, "what its files hold is part of it"


def test_checks_that_are_skipped_or_for_the_other_way_do_not_count(tmp_path: Path) -> None:
    settings = read(tmp_path, "[backup]\nprimaries = 192.0.2.9\n[check r]\nuse = rdns\nfor = incoming\n")
    assert settings.domains["a.example"].skips == {"spf", "pills"}
    assert (settings.outgoing.skips, settings.backed_up.skips) == ({"r"}, {"pills"})


def test_who_skips_the_scanner_for_viruses_is_warned(tmp_path: Path) -> None:
    text = "[check av]\nuse = clamav\n[recipients lab]\nmatch = lab@a.example\nskip_checks = spf av\n"
    found = warnings(read(tmp_path, text), datetime.datetime.now(datetime.UTC))
    assert [each for each in found if "skip_checks" in each] == [
        "[recipients lab] skip_checks names av: its recipients get viruses"
    ]


def test_levels_may_act_otherwise_on_outgoing_mail(tmp_path: Path) -> None:
    settings = read(tmp_path, "[level high]\noutgoing_action = hold\n[level low]\noutgoing_action =\n")
    assert [level.action for level in settings.outgoing.levels] == [
        (Action("deliver"),), (Action("deliver"),), (Action("tag", "SPAM-MED:"),), (Action("hold"),)
    ]  # fmt: skip
    assert settings.domains["a.example"].levels[3].action == (Action("reject"),)
    (tmp_path / "again.ini").write_text(as_ini(effective(settings)))
    assert load(str(tmp_path / "again.ini")).outgoing == settings.outgoing


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[recipients x]\n", "match is missing: whom it is about"),
        ("[recipients x]\nmatch = a@a.example\nskip_checks = sfp\n", "there is no [check sfp]; did you mean spf?"),
        ("[recipients x]\nmatch = a@a.example\nweight.spf.rain = 1\n", "the check spf has no outcome rain"),
        ("[recipients x]\nmatch = a@a.example\nweight.spf = 1\n", "in [recipients …] a weight is written weight.CHECK"),
        ("[recipients x]\nmatch = file:none\n", "none cannot be read: No such file or directory"),
        ("[recipients x]\nmatch = file:bad\n", "bad:2: a b before the @ is no local part"),
        ("[recipients x]\nmatch = a@a.example\nlevel.low.threshold = 9\nlevel.high.threshold = 8\n", "must ascend"),
        ("[recipients x]\nmatch = a@a.example\nprimary = 192.0.2.1\n", "there is no key primary here"),
        ("[recipients x]\nmatch = a@a.example\n[recipients X]\nmatch = b@a.example\n", "named x stands here already"),
        ("[recipients]\nmatch = a@a.example\n", "needs a name: [recipients NAME]"),
        ("[recipients x]\nmatch = a@a.example\nlevel.low.outgoing_action = hold\n", "no key level.low.outgoing_action"),
        ("[recipients x]\nmatch = a@a.example\nblocking.outgoing_notice = yes\n", "no key blocking.outgoing_notice"),
        ("[check y]\nuse = spf\nfor = both ways\n", "both ways is not known here"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "bad").write_text("ann@a.example\na b@c.example\n")
    with pytest.raises(BadSettings) as wrong:
        read(tmp_path, text)
    (problem,) = wrong.value.problems
    assert complaint in str(problem)


def test_a_level_below_those_of_a_stricter_domain_is_no_mistake(tmp_path: Path) -> None:
    settings = read(tmp_path, "[recipients x]\nmatch = a@a.example\nlevel.low.threshold = 35\n")
    assert settings.recipients[0].levels == {Level.LOW: {"threshold": 35.0}}
