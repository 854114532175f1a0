"""``inboundmx users``: who may authenticate to send out.

Knows that a password is asked for, or the first line of standard input; never an argument, which others see. Works on
the file of ``[relay] users``, which a running gateway reads anew by itself.
"""

from __future__ import annotations

import argparse
import getpass
import os
import pwd
import sys
from typing import Any

from inboundmx.cli.asking import CannotAsk
from inboundmx.cli.configuration import Configuration
from inboundmx.cli.printing import complain, safe, say, say_json
from inboundmx.cli.querying import verbs_of
from inboundmx.policy.authenticating import NAME_LIMIT, PASSWORD_LIMIT, SALT_OCTETS, Users, fit_name, made
from inboundmx.storage.users_file import keep, users_of


def register(commands: Any) -> None:
    verbs = verbs_of(commands, "users", "who may authenticate to send out")
    listing = verbs.add_parser("list", help="show their names", description="Shows the names of all users.")
    listing.add_argument("--json", action="store_true", help="a list of names")
    listing.set_defaults(run=_list)
    asked = "the password is asked for, or is the first line of standard input"
    for verb, help, run in (
        ("add", f"add one, or give one a new password; {asked}", _add),
        ("remove", "take one away", _remove),
        ("verify", f"whether a password is a user's; {asked}", _verify),
    ):
        command = verbs.add_parser(verb, help=help, description=f"{help[0].upper()}{help[1:]}.")
        command.add_argument("name", metavar="NAME", help="as he authenticates with: ann, or ann@here.example")
        command.set_defaults(run=run)


def _list(args: argparse.Namespace) -> int:
    names = sorted(_users(_path(args)).keys)
    if args.json:
        say_json(names)
    else:
        say(*map(safe, names), f"{len(names)} users")
    return 0


def _add(args: argparse.Namespace) -> int:
    path = _path(args)
    if not fit_name(args.name):
        raise CannotAsk(f"a name has at most {NAME_LIMIT} characters, no blank and no colon", usage=True)
    keys = dict(_users(path, there=False).keys)
    try:
        keys[args.name] = made(_password(twice=True), os.urandom(SALT_OCTETS))
    except ValueError as error:
        raise CannotAsk(f"{error}; nothing was changed") from None
    _keep(args, path, keys)
    say(f"added: {safe(args.name)}")
    return 0


def _remove(args: argparse.Namespace) -> int:
    path = _path(args)
    keys = dict(_users(path).keys)
    if keys.pop(args.name, None) is None:
        complain(f"there is no user {safe(args.name)}")
        return 1
    _keep(args, path, keys)
    say(f"removed: {safe(args.name)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    if not _users(_path(args)).verify(args.name, _password()):
        complain(f"that is not the password of a user {safe(args.name)}")
        return 1
    say("right")
    return 0


def _path(args: argparse.Namespace) -> str:
    path = Configuration(args.config).settings.relay.users
    if not path:
        raise CannotAsk("[relay] users names no file: write users = file:/etc/inboundmx/users")
    return path


def _users(path: str, there: bool = True) -> Users:
    try:
        return users_of(path)
    except FileNotFoundError:
        if there:
            raise CannotAsk(f"there is no file {path}; inboundmx users add makes it") from None
        return Users({})
    except (OSError, ValueError) as error:
        raise CannotAsk(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _keep(args: argparse.Namespace, path: str, keys: Any) -> None:
    user = Configuration(args.config).settings.gateway.user
    try:
        found = pwd.getpwnam(user) if user else None
        keep(path, keys, None if found is None else (found.pw_uid, found.pw_gid))
    except KeyError:
        raise CannotAsk(f"[gateway] user {user} does not exist on this machine; nothing was changed") from None
    except OSError as error:
        raise CannotAsk(f"{path} cannot be written: {error.strerror or error}; nothing was changed") from None


def _password(twice: bool = False) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline(PASSWORD_LIMIT + 2).removesuffix("\n").removesuffix("\r")
    said = getpass.getpass("Password: ")
    if twice and getpass.getpass("Once more: ") != said:
        raise CannotAsk("these were two different passwords; nothing was changed")
    return said
