"""Every INI in the documentation is one that works, and every page and heading that is linked to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inboundmx.app.settings import BadSettings, load
from inboundmx.model.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = ("docs/backup-mx.md", "docs/outgoing.md")
SHORTER = ("docs/greylisting.md",)
LINKING = (*PAGES, *SHORTER, "README.md", "docs/reliability.md", "docs/operations.md", "docs/install.md")

_FENCED = re.compile(r"^```ini\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECRET = re.compile(r"file:(\S+)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    found = []
    for page in (*PAGES, *SHORTER):
        for number, text in enumerate(_FENCED.findall((ROOT / page).read_text())):
            found.append((f"{page} {number + 1}", text))
    return found


EXAMPLES = examples()


def loaded(text: str, folder: Path) -> Settings:
    """Passwords in files are looked for beside the INI."""
    for name in _SECRET.findall(text):
        place = folder / name
        place.parent.mkdir(exist_ok=True)
        place.write_text("s3cret\n")
        place.chmod(0o600)
    path = folder / "inboundmx.ini"
    path.write_text(text)
    return load(str(path))


@pytest.mark.parametrize("text", [text for _, text in EXAMPLES], ids=[name for name, _ in EXAMPLES])
def test_it_loads(text: str, tmp_path: Path) -> None:
    settings = loaded(text, tmp_path)

    assert settings.domains or settings.everything or settings.backup.primaries or settings.relay.allow


def test_there_are_examples_on_each_page() -> None:
    for page in PAGES:
        assert sum(name.startswith(page) for name, _ in EXAMPLES) >= 5


def test_an_example_with_a_mistake_would_be_seen(tmp_path: Path) -> None:
    with pytest.raises(BadSettings):
        loaded(EXAMPLES[0][1].replace("primary", "primaries"), tmp_path)


def anchor(heading: str) -> str:
    """As it is made on the pages of usual hosts: lower case, blanks to hyphens, other signs gone."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", LINKING)
def test_links_lead_somewhere(page: str) -> None:
    for link in _LINK.findall((ROOT / page).read_text()):
        if "://" in link:
            continue
        path, _, wanted = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if wanted:
            assert wanted in map(anchor, _HEADING.findall(target.read_text())), link
