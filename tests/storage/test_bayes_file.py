"""What a filter was trained with, the model made of it, and files that are damaged, shared or in use."""

from __future__ import annotations

import os
import stat
import threading
from array import array
from pathlib import Path
from typing import Any

import pytest
from fakes.checks import FakeClock, FakeOffload

from inboundmx.ports import Unavailable
from inboundmx.prompt import promptly
from inboundmx.storage import bayes
from inboundmx.storage.bayes import BayesFile, Lesson, Totals
from inboundmx.storage.bayes_model import FILE_NAME, Model, number_of
from inboundmx.storage.lessons import lesson
from inboundmx.storage.mail_files import messages
from inboundmx.storage.vocabulary import LOOK_SECONDS, MappedVocabulary

LARGE = 10**6


@pytest.fixture
def file(tmp_path: Path) -> BayesFile:
    return BayesFile(str(tmp_path))


class FakeHealth:
    def __init__(self) -> None:
        self.notes: list[tuple[str, bool, str]] = []

    def noted(self, service: str, well: bool, detail: str) -> None:
        self.notes.append((service, well, detail))


def words(file: BayesFile, name: str, *several: str) -> Lesson:
    return Lesson(name.encode(), array("q", sorted(number_of(file.secret, word) for word in several)))


def model(tmp_path: Path) -> Model:
    return Model(str(tmp_path / FILE_NAME))


def test_words_are_counted_by_messages_of_each_kind(file: BayesFile, tmp_path: Path) -> None:
    assert file.learn([words(file, "a", "buy", "now"), words(file, "b", "buy")], True, 1.0) == ["learned", "learned"]
    assert file.learn([words(file, "c", "now", "lunch")], False, 2.0) == ["learned"]
    assert file.totals() == Totals(2, 1, 3)
    assert file.renew(LARGE) == 3
    assert file.totals() == Totals(2, 1, 0)
    made = model(tmp_path)
    assert (made.spam, made.ham) == (2, 1)
    assert made.counts(["buy", "now", "lunch", "never", "\ud800"]) == [(2, 0), (1, 1), (0, 1)]


def test_a_message_counts_once_and_may_change_sides_or_be_forgotten(file: BayesFile, tmp_path: Path) -> None:
    lesson = words(file, "a", "buy")
    file.learn([lesson], True, 1.0)
    assert file.learn([lesson, lesson], True, 2.0) == ["known", "known"]
    assert file.totals() == Totals(1, 0, 1)
    assert file.learn([lesson], False, 3.0) == ["moved"]
    file.renew(LARGE)
    assert model(tmp_path).counts(["buy"]) == [(0, 1)]
    assert file.forget([b"a", b"a"]) == ["forgotten", "unknown"]
    file.renew(LARGE)
    assert model(tmp_path).counts(["buy"]) == []
    assert file.totals() == Totals(0, 0, 0)


def test_the_newest_of_each_kind_are_kept(file: BayesFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bayes, "MOST_OF_KIND", 3)
    file.learn([words(file, f"h{number}", "x") for number in range(2)], False, 1.0)
    for number in range(5):
        file.learn([words(file, f"s{number}", f"w{number}")], True, float(number))
    assert file.totals()[:2] == (3, 2)
    kept = [list(numbers) for spam, numbers in file.newest(2) if spam]
    assert kept == [list(words(file, "", f"w{number}").numbers) for number in (4, 3)]


def test_of_too_many_words_the_most_frequent_are_kept(file: BayesFile, tmp_path: Path) -> None:
    file.learn(
        [words(file, f"{number}", "often", f"rare{number}", f"seldom{number // 2}") for number in range(8)], True, 1.0
    )
    assert file.renew(16 * 7) == 7
    made = model(tmp_path)
    assert made.counts(["often"]) == [(8, 0)]
    assert len(made.counts(f"seldom{number}" for number in range(4))) == 4
    assert len(made.counts(f"rare{number}" for number in range(8))) == 2


def test_no_word_stands_in_the_files_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    file = BayesFile(str(tmp_path))
    told = lesson(b"Subject: plutonium\nMessage-ID: <quixotic@a.example>\n\nwombat\n", file.secret)
    file.learn([told], True, 1.0)
    file.renew(LARGE)
    file.close()
    for name in (bayes.FILE_NAME, FILE_NAME):
        octets = (tmp_path / name).read_bytes()
        assert not any(word in octets.lower() for word in (b"plutonium", b"wombat", b"quixotic"))
        assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600
    assert model(tmp_path).counts(["wombat", "s:plutonium"]) == [(1, 0), (1, 0)]
    other = tmp_path / "other"
    other.mkdir()
    assert number_of(BayesFile(str(other)).secret, "wombat") != number_of(file.secret, "wombat")


def test_copies_of_a_message_are_the_same(file: BayesFile) -> None:
    letter = b"From: a@a.example\nMessage-ID: <1@a.example>\nSubject: x\n\nHello.\n"
    copy = b"Received: from elsewhere\r\nX-Spam-Level: NONE\r\n" + letter.replace(b"\n", b"\r\n")
    assert lesson(letter, file.secret).identity == lesson(copy, file.secret).identity
    assert lesson(letter.replace(b"<1@", b"<2@"), file.secret).identity != lesson(copy, file.secret).identity
    assert lesson(b"", file.secret).numbers


def test_several_train_at_the_same_time(tmp_path: Path) -> None:
    def train(name: str) -> None:
        file = BayesFile(str(tmp_path))
        for number in range(20):
            file.learn([words(file, f"{name}{number}", "x")], True, 1.0)
            if number % 5 == 0:
                file.renew(LARGE)
        file.close()

    threads = [threading.Thread(target=train, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file = BayesFile(str(tmp_path))
    assert file.totals().spam == 80
    file.renew(LARGE)
    assert model(tmp_path).counts(["x"]) == [(80, 0)]


def test_a_new_file_is_opened_by_many_at_the_same_time(tmp_path: Path) -> None:
    secrets: list[bytes | Unavailable] = []
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        together = threading.Barrier(6)

        def opened(folder: Path = folder, together: threading.Barrier = together) -> None:
            together.wait()
            try:
                file = BayesFile(str(folder))
            except Unavailable as trouble:
                secrets.append(trouble)
            else:
                secrets.append(file.secret)
                file.close()

        threads = [threading.Thread(target=opened) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(secrets)) == number + 1, secrets[-6:]
    assert len(secrets) == 120


@pytest.mark.parametrize(
    "spoil",
    [
        lambda octets: octets[:-1],
        lambda octets: octets[:20],
        lambda octets: b"",
        lambda octets: octets[:-1] + bytes([octets[-1] ^ 1]),
        lambda octets: b"x" + octets[1:],
    ],
)
def test_a_damaged_model_is_not_believed(file: BayesFile, tmp_path: Path, spoil: Any) -> None:
    file.learn([words(file, "a", "buy")], True, 1.0)
    file.renew(LARGE)
    path = tmp_path / FILE_NAME
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError):
        model(tmp_path)
    came: list[Any] = []
    health, clock = FakeHealth(), FakeClock()
    vocabulary = MappedVocabulary(str(tmp_path), clock, FakeOffload(), health)
    promptly(vocabulary.learned(), came.append, came.append)
    assert came[0].check(Unavailable) and "train renew" in came[0].value.reason
    assert health.notes == [(FILE_NAME, False, came[0].value.reason)]
    file.renew(LARGE)
    clock.task.advance(LOOK_SECONDS)
    promptly(vocabulary.learned(), came.append, came.append)
    assert came[1].spam == 1
    assert health.notes[1:] == [(FILE_NAME, True, "")]


def test_a_file_that_is_none_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / bayes.FILE_NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable, match="not a database"):
        BayesFile(str(tmp_path))
    os.unlink(tmp_path / bayes.FILE_NAME)
    os.mkfifo(tmp_path / bayes.FILE_NAME)
    with pytest.raises(Unavailable, match="is no file"):
        BayesFile(str(tmp_path))


def test_a_new_model_is_found_by_itself(file: BayesFile, tmp_path: Path) -> None:
    clock, offload = FakeClock(), FakeOffload()
    came: list[Any] = []
    vocabulary = MappedVocabulary(str(tmp_path), clock, offload, FakeHealth())

    def learned() -> Any:
        came: list[Any] = []
        promptly(vocabulary.learned(), came.append, came.append)
        return came[0]

    assert learned() is None
    file.learn([words(file, "a", "buy")], True, 1.0)
    file.renew(LARGE)
    assert learned() is None and offload.runs == 0
    clock.task.advance(LOOK_SECONDS)
    first = learned()
    assert first.spam == 1
    clock.task.advance(LOOK_SECONDS)
    assert learned() is first and offload.runs == 2
    file.learn([words(file, "b", "buy")], True, 1.0)
    file.renew(LARGE)
    clock.task.advance(LOOK_SECONDS)
    assert learned().counts(["buy"]) == [(2, 0)]
    second = MappedVocabulary(str(tmp_path), clock, offload, FakeHealth())
    assert promptly(second.learned(), came.append, came.append) is None
    assert came[0].spam == 2 and offload.runs == 3
    # What was mapped goes on being what it was.
    assert first.counts(["buy"]) == [(1, 0)]


def test_mail_as_people_keep_it(tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    for place in ("cur", ".Junk/new"):
        (folder / place).mkdir(parents=True)
    (folder / "cur" / "1:2,S").write_bytes(b"Subject: one\n\n1\n")
    (folder / ".Junk" / "new" / "2").write_bytes(b"Subject: two\n\n2\n")
    (folder / ".index").write_bytes(b"no mail")
    (folder / "empty").write_bytes(b"")
    (folder / "dovecot-uidlist").write_bytes(b"3 V1700000000 N2 G00\n1 :1:2,S\n")
    (folder / "dovecot.index.cache").write_bytes(b"\x01\x00\x05\x00Subject: one\n")
    os.mkfifo(folder / "pipe")
    mbox = folder / "box"
    mbox.write_bytes(
        b"From a@a.example Sat\nSubject: three\n\nHe said:\nFrom here on\n\n>From me\n\n"
        b"From b@b.example Sun\nSubject: four\n\n"
        + b"x" * 200_000 + b"\n\n"
    )  # fmt: skip
    complaints: list[str] = []
    found = list(messages(folder, 100_000, complaints.append))
    assert [octets.split(b"\n")[0] for octets in found] == [
        b"Subject: three",
        b"Subject: four",
        b"Subject: two",
        b"Subject: one",
    ]
    assert found[0].endswith(b"From here on\n\nFrom me\n\n")
    assert 100_000 <= len(found[1]) < 200_000
    assert len(next(messages(folder / "cur" / "1:2,S", 10, complaints.append))) == 10
    assert complaints == []
    assert list(messages(folder / "none", 10, complaints.append)) == []
    assert "No such file" in complaints[0]
    assert list(messages(folder / "dovecot-uidlist", 10, complaints.append)) == []
    assert "does not begin with a header field" in complaints[1]
