"""An SMTP reply as a value. Knows RFC 5321 4.2 and RFC 3463; does not know who says it."""

from __future__ import annotations

from inboundmx.model.record import record


@record(frozen=True, slots=True)
class Reply:
    """``code`` 200 to 599; ``enhanced`` as in "5.1.1", empty where the RFCs use none (greeting, EHLO, 354).

    ``text`` is printable; a line break in it makes a multi-line reply. ``then_close``: the connection ends after it.
    Raises ValueError when code and enhanced code speak of different classes (451 with 5.x.x).
    """

    code: int
    enhanced: str
    text: str
    then_close: bool = False

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"no SMTP reply has the code {self.code}")
        if self.enhanced and int(self.enhanced[0]) != self.code // 100:
            raise ValueError(f"{self.code} and {self.enhanced} speak of different classes")

    @property
    def positive(self) -> bool:
        return self.code < 400

    @property
    def temporary(self) -> bool:
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        return self.code >= 500

    def __str__(self) -> str:
        """The reply as one line for logs and notices."""
        head = f"{self.code} {self.enhanced}" if self.enhanced else str(self.code)
        return f"{head} {self.text}".replace("\n", " / ")


@record(frozen=True, slots=True)
class Replies:
    """Answers to the final dot where the client asked for one to each recipient (PRDR, draft-hall-prdr): ``each``, in
    the order in which they were accepted, and ``last`` for the message."""

    each: tuple[Reply, ...]
    last: Reply

    @property
    def positive(self) -> bool:
        return self.last.positive
