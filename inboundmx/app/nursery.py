"""The nursery: has what a worker takes, once, and forks a worker whenever it is told to.

Knows the supervisor's channel and its own children. Does not know mail, and has no reactor, thread or file that a child
could not have as well: a worker is there in milliseconds instead of a second, shares the memory of all that is loaded,
and needs nothing on the disk that the gateway's user might not be allowed to read.

It is forked by the process that becomes the supervisor, which has loaded the same; ``python -m inboundmx.app.nursery``
where that cannot be, because a reactor is there already.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import sys

from inboundmx.app import worker
from inboundmx.app.channel import receive, send
from inboundmx.app.spawning import CHANNEL
from inboundmx.app.starting import become_user


def main(end: socket.socket) -> int:
    """Its life, and that of each of its children; the exit status."""
    # These are for the supervisor, and go to a whole group of processes. We end when it has.
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    assert "twisted.internet.reactor" not in sys.modules, "children would share it"
    end = _alone_with(end)
    child = _nurse(end)
    return 0 if child is None else worker.main(child)


def settle() -> None:
    """Before a fork: nothing of what is loaded will ever be garbage, and pages that the collector does not touch stay
    shared."""
    gc.collect()
    gc.freeze()


def _alone_with(end: socket.socket) -> socket.socket:
    """Lets go of all else that was open where we come from, such as sockets that systemd gave to the supervisor."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if end.fileno() != CHANNEL:
        os.dup2(end.detach(), CHANNEL)
        end = socket.socket(fileno=CHANNEL)
    end.set_inheritable(False)
    os.closerange(CHANNEL + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return end


def _nurse(end: socket.socket) -> socket.socket | None:
    """Returns None when the supervisor is gone; in a child, its own channel."""
    woken, waker = socket.socketpair()
    for each in (woken, waker):
        each.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    waiting = select.poll()
    for each in (end, woken):
        waiting.register(each, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in waiting.poll()]
        if woken.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                woken.recv(4096)
            _tell_of_the_dead(end)
        if end.fileno() not in ready:
            continue
        try:
            said, descriptors = receive(end)
        except (EOFError, OSError):
            return None
        if said["do"] == "become":
            become_user(said["user"])
            continue
        try:
            pid = os.fork()
        except OSError:
            pid = -1
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for own in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(own, signal.SIG_DFL)
            for each in (end, woken, waker):
                each.close()
            return socket.socket(fileno=descriptors[0])
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            send(end, {"forked": said["life"], "pid": pid})
        except OSError:
            return None


def _tell_of_the_dead(end: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        with contextlib.suppress(OSError):
            send(end, {"ended": pid, "status": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    settle()
    sys.exit(main(socket.socket(fileno=CHANNEL)))
