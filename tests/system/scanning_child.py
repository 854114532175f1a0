"""Our clients of clamd and spamd in a process of their own: FOLDER with files body0 ..., and a job as JSON."""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall

from inboundmx.model.message import SMALL_BODY, Body
from inboundmx.net.clock import ReactorClock
from inboundmx.net.offload import ThreadOffload
from inboundmx.net.scanners import ScanningServices
from inboundmx.ports import TooLarge, Unavailable
from inboundmx.spool.bodies import BodyContents

reactor: Any = installed
folder = Path(sys.argv[1])
job = json.loads(sys.argv[2])
ticks: list[float] = []


class Health:
    def noted(self, service: str, well: bool, detail: str) -> None:
        pass


def body(number: int) -> Body:
    path = folder / f"body{number}"
    with path.open("rb") as file:
        head = file.read(SMALL_BODY)
    size = path.stat().st_size
    return Body(size, head, path.name if size > SMALL_BODY else None, b"")


async def one(ask: Any, number: int) -> tuple[Any, float]:
    started = time.monotonic()
    try:
        outcome = await ask(body(number))
    except TooLarge:
        outcome = "TooLarge"
    except Unavailable as trouble:
        outcome = f"Unavailable: {trouble.reason}"
    return outcome, round(time.monotonic() - started, 3)


async def everything() -> dict[str, Any]:
    nothing: Any = None
    services = ScanningServices(reactor, ReactorClock(reactor), offload, BodyContents(str(folder)), Health(), nothing)
    max_size, seconds = job.get("max_size", 25 * 2**20), job.get("seconds", 20.0)
    if job["kind"] == "clamd":
        ask = services.viruses(job["servers"], max_size, seconds).scan
    else:
        scorer = services.spam(job["servers"], max_size, job.get("attempts", 1), job.get("at_once", 2), seconds)
        trace = job.get("trace", "").encode()

        async def ask(what: Body) -> Any:
            return await scorer.score(what, trace)

    started = time.monotonic()
    if job.get("side_by_side"):
        found = await DeferredList([Deferred.fromCoroutine(one(ask, number)) for number in range(job["bodies"])])
        results = [result for _, result in found]
    else:
        results = [await one(ask, number) for number in range(job["bodies"])]
    return {
        "outcomes": [outcome for outcome, _ in results],
        "seconds": [seconds for _, seconds in results],
        "total": round(time.monotonic() - started, 3),
        "lag": max((later - earlier for earlier, later in pairwise(ticks)), default=0.0),
    }


def end(result: Any) -> None:
    sys.stdout.write(json.dumps(result))
    offload.close().addBoth(lambda _: reactor.stop())


offload = ThreadOffload(reactor.callFromThread)
LoopingCall(lambda: ticks.append(time.monotonic())).start(0.01)
reactor.callWhenRunning(
    lambda: Deferred.fromCoroutine(everything()).addCallbacks(end, lambda failure: (failure.printTraceback(), end({})))
)
reactor.run()
