"""What is remembered, and what goes."""

from __future__ import annotations

from inboundmx.net.dns_cache import Cache


def key(name: str) -> tuple[str, str]:
    return (name, "A")


def test_until_its_time_is_over() -> None:
    cache: Cache[str] = Cache()
    cache.put(key("a"), "one", 10.0, 1)

    assert cache.get(key("a"), 9.9) == "one"
    assert cache.get(key("a"), 10.0) is None
    assert len(cache) == 0


def test_the_least_used_goes_first() -> None:
    cache: Cache[str] = Cache(entries=2)
    cache.put(key("a"), "a", 10.0, 1)
    cache.put(key("b"), "b", 10.0, 1)
    cache.get(key("a"), 0.0)
    cache.put(key("c"), "c", 10.0, 1)

    assert [cache.get(key(name), 0.0) for name in "abc"] == ["a", None, "c"]


def test_octets_are_bounded_too() -> None:
    cache: Cache[str] = Cache(octets=100)
    for name in "abcd":
        cache.put(key(name), name, 10.0, 40)
    assert [cache.get(key(name), 0.0) for name in "abcd"] == [None, None, "c", "d"]

    cache.put(key("c"), "new", 10.0, 60)
    assert [cache.get(key(name), 0.0) for name in "cd"] == ["new", "d"]
    cache.put(key("huge"), "huge", 10.0, 101)
    assert len(cache) == 0
    cache.put(key("a"), "a", 10.0, 100)
    assert cache.get(key("a"), 0.0) == "a"
