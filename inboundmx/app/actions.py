"""What a level does, as an operator writes it. Knows the grammar of ``action``; does not carry anything out."""

from __future__ import annotations

import re

from inboundmx.app.addresses import mailbox
from inboundmx.app.words import Wrong, nearest
from inboundmx.model.verdict import Action
from inboundmx.policy.editing import TAG_LIMIT

VERBS = ("deliver", "header", "tag", "redirect", "quarantine", "hold", "discard", "reject")
# What becomes of the mail; a level says one of them, or none: deliver.
FATES = frozenset({"deliver", "redirect", "quarantine", "hold", "discard", "reject"})
TEXT_LIMIT = 500
_CODE = re.compile(r"[245](?:[0-9]{2}|\.[0-9]+\.[0-9]+)(?![0-9])[ -]")
# What may stand in a header section once alone (RFC 5322 3.6, RFC 2045), what says who did what on the way, and what we
# write ourselves: one more of these would make the mail another one, or a liar of us.
_TAKEN = re.compile(
    r"(?i)date|from|sender|reply-to|to|cc|bcc|message-id|in-reply-to|references|subject|received|return-path"
    r"|mime-version|content-.*|dkim-signature|arc-.*|authentication-results|x-spam-(?:level|score|checks)"
)
_TOKEN = re.compile(r'\s*(?:"([^"]*)"|(,)|([^\s",]+))')
_FIELD = re.compile(r"([!-9;-~]+):\s*(\S.*)")


def actions(text: str) -> tuple[Action, ...]:
    """The value of ``action``: actions joined by commas, texts in double quotes."""
    if text.count('"') % 2:
        raise Wrong('a " has no partner; texts stand in double quotes and hold none')
    found: list[Action] = []
    for words in _clauses(text):
        found.append(_action(words))
    fates = list(dict.fromkeys(action.verb for action in found if action.verb in FATES))
    if len(fates) > 1:
        raise Wrong(f"{fates[0]} and {fates[1]} contradict each other; a level does one of them")
    idle = next((action.verb for action in found if action.verb in ("tag", "header")), "")
    if idle and "discard" in fates:
        raise Wrong(f"discard and {idle} contradict each other: nobody would see it")
    if len(set(found)) < len(found):
        raise Wrong("an action stands there twice")
    return tuple(found)


def _clauses(text: str) -> list[list[tuple[str, bool]]]:
    """Words of each action, with whether the word was quoted."""
    clauses: list[list[tuple[str, bool]]] = [[]]
    at, text = 0, text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Wrong(f"{text[at:]!r} cannot be read")
        at = match.end()
        if match[2]:
            clauses.append([])
        else:
            clauses[-1].append((match[3], False) if match[3] is not None else (match[1], True))
    if not all(clauses):
        raise Wrong(f"an action is missing{' beside a comma' if len(clauses) > 1 else ''}{nearest('', VERBS)}")
    return clauses


def _action(words: list[tuple[str, bool]]) -> Action:
    verb, quoted = words[0]
    if quoted or verb not in VERBS:
        raise Wrong(f"{verb} is no action{nearest(verb, VERBS)}")
    if len(words) > 2:
        raise Wrong(f"{words[2][0]} after {verb} {words[1][0]}: join actions by commas, put texts in double quotes")
    argument = words[1][0] if len(words) == 2 else ""
    if verb == "redirect":
        if not argument:
            raise Wrong("redirect needs an address: redirect spam@example.com")
        return Action("redirect", mailbox(argument))
    if len(words) == 2 and not words[1][1]:
        raise Wrong(f'{argument} after {verb}: join actions by commas, put texts in double quotes: {verb} "{argument}"')
    if not argument.isprintable():
        raise Wrong(f"the text of {verb} must be printable and stand on one line")
    if verb != "tag" and not argument.isascii():
        raise Wrong(f"the text of {verb} may hold ASCII only")
    limit = TAG_LIMIT if verb == "tag" else TEXT_LIMIT
    if len(argument) > limit:
        raise Wrong(f"the text of {verb} has {len(argument)} characters; at most {limit}")
    if verb == "header":
        match = _FIELD.fullmatch(argument)
        if match is None:
            raise Wrong('header needs a field name and a value: header "X-Spam: yes"')
        if _TAKEN.fullmatch(match[1]):
            raise Wrong(f"{match[1]} is not for an action to add; take a name of your own: X-{match[1]}")
        return Action("header", f"{match[1]}: {match[2].strip()}")
    if verb == "tag":
        if not argument.strip():
            raise Wrong('tag needs a text: tag "SPAM:"')
        return Action("tag", argument)
    if verb == "reject":
        if _CODE.match(argument):
            raise Wrong("the text of reject needs no code: 550 5.7.1 is said before it")
        return Action("reject", argument)
    if len(words) == 2:
        raise Wrong(f"{verb} takes no text")
    return Action(verb)  # type: ignore[arg-type]


def written_actions(value: tuple[Action, ...]) -> str:
    return ", ".join(f"redirect {action.argument}" if action.verb == "redirect" else str(action) for action in value)
