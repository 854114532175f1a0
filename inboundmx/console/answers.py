"""A question over HTTP and its answer, as values. Knows what every answer says beside its content; does not know
routes, nor sockets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Nothing of it is kept, guessed at, put in a frame or allowed to load anything.
ALWAYS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'"),
)


@dataclass(frozen=True, slots=True)
class Question:
    """One request: ``hosts`` and ``credentials`` are the values of its Host and Authorization fields, ``client`` and
    ``local`` the IP addresses of both ends of the connection, empty where it has none."""

    method: str
    path: str
    version: str = "HTTP/1.1"
    hosts: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    client: str = ""
    local: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """``fields`` come beside those that every answer has."""

    code: int
    content: bytes
    type: str
    fields: tuple[tuple[str, str], ...] = ()


def sentence(code: int, text: str, *fields: tuple[str, str]) -> Answer:
    """An answer for people: one line."""
    return Answer(code, f"{text}\n".encode(), "text/plain; charset=utf-8", fields)


def as_json(facts: Mapping[str, Any]) -> Answer:
    return Answer(200, json.dumps(facts).encode("ascii") + b"\n", "application/json")
