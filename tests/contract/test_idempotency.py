"""What is to be done once: results by scope and key, for a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from embq import errors


def other(site: Any, scope: str = "s", **options: Any) -> Any:
    """The same scope in another process."""
    return site.other().idempotency(scope, **options)


def raised() -> Any:
    """Be a function that fails."""
    text = "it failed"
    raise LookupError(text)


def test_nothing(site: Any) -> None:
    """Of a key that nobody stored there is no result."""
    once = site.broker.idempotency("s")
    assert (once.exists("a"), once.get("a"), once.get("a", 7)) == (False, None, 7)
    assert once.delete("a") is False


@pytest.mark.parametrize(
    "value", [None, False, 0, "", "é\0", [1, {"a": None}], 1.5, 1 << 63, "x" * 100_000]
)
def test_values(site: Any, value: Any) -> None:
    """What JSON can say comes back, None too."""
    once = site.broker.idempotency("s")
    once.set("a", value)
    assert once.exists("a")
    assert once.get("a", "nothing") == value
    assert once.run("a", raised) == value


def test_set_again(site: Any) -> None:
    """The last one counts."""
    once = site.broker.idempotency("s")
    once.set("a", 1)
    once.set("a", 2)
    assert once.get("a") == 2
    assert site.broker.stats()["idempotency"]["s"]["size"] == 1


def test_delete(site: Any) -> None:
    """A result that was deleted is not there, and says so once."""
    once = site.broker.idempotency("s")
    once.set("a", 1)
    assert [once.delete("a"), once.delete("a")] == [True, False]
    assert not once.exists("a")
    assert once.run("a", lambda: 2) == 2


def test_run(site: Any) -> None:
    """The function is called once; who comes later gets its result."""
    once = site.broker.idempotency("s")
    calls: list[int] = []
    assert [once.run("a", lambda: calls.append(1)) for _ in range(3)] == [None] * 3
    assert calls == [1]
    assert once.exists("a")


def test_the_result_is_what_is_stored(site: Any) -> None:
    """The first caller too gets what JSON makes of it."""
    once = site.broker.idempotency("s")
    assert once.run("a", lambda: (1, (2,))) == [1, [2]]


def test_a_failure_is_not_stored(site: Any) -> None:
    """Its exception is the caller's, and the next one tries."""
    once = site.broker.idempotency("s")
    with pytest.raises(LookupError, match="it failed"):
        once.run("a", raised)
    assert not once.exists("a")
    assert other(site).run("a", 2) == 2
    assert once.get("a") == 2


def test_what_cannot_be_stored_is_not(site: Any) -> None:
    """The function was called; the key is free."""
    once = site.broker.idempotency("s")
    with pytest.raises(errors.BodyError):
        once.run("a", object)
    with pytest.raises(errors.MessageTooLarge):
        once.run("a", lambda: "x" * (1 << 20))
    with pytest.raises(errors.MessageTooLarge):
        once.set("a", "x" * (1 << 20))
    with pytest.raises(errors.BodyError):
        once.set("a", {1, object()})
    assert once.run("a", lambda: "x") == "x"


def test_scopes_and_keys_are_apart(site: Any) -> None:
    """A result is of its scope and key, whatever they begin with."""
    for scope in ("s", "st", "1"):
        for key in ("a", "ta", "1"):
            site.broker.idempotency(scope).set(key, [scope, key])
    for scope in ("s", "st", "1"):
        for key in ("a", "ta", "1"):
            assert site.broker.idempotency(scope).get(key) == [scope, key]


def test_a_scope_is_no_queue(site: Any) -> None:
    """Dedup ids and results have a table in common, and no row."""
    queue, once = site.broker.queue("q"), site.broker.idempotency("1")
    queue.send("x", dedup_id="a")
    assert not once.exists("a")
    once.set("b", 1)
    assert not queue.send("x", dedup_id="b").duplicate
    assert queue.send("x", dedup_id="a").duplicate


# ---- time ----


@pytest.mark.parametrize("ttl", [10, 10.0, timedelta(seconds=10)])
def test_ttl(site: Any, ttl: Any) -> None:
    """A result is known for its time, by the wall clock."""
    once = site.broker.idempotency("s", ttl=ttl)
    once.set("a", 1)
    assert once.run("b", lambda: 2) == 2
    site.clock.advance(9.9)
    assert (once.get("a"), once.get("b")) == (1, 2)
    site.clock.jump(0.2)
    assert (once.exists("a"), once.get("b")) == (False, None)
    assert not once.delete("a")
    assert once.run("a", lambda: 3) == 3
    site.clock.advance(9.9)
    assert once.get("a") == 3


def test_ttl_of_one(site: Any) -> None:
    """One may be kept for longer, or for ever; a scope keeps for a day."""
    once = site.broker.idempotency("s")
    for key, ttl in (("hour", 3600), ("ever", None)):
        once.set(key, key, ttl=ttl)
    once.set("day", "day")
    site.clock.advance(3601)
    assert [once.exists(key) for key in ("hour", "day", "ever")] == [False, True, True]
    site.clock.advance(90_000)
    assert [once.exists(key) for key in ("hour", "day", "ever")] == [False, False, True]
    site.clock.advance(50 * 365 * 86_400)
    assert once.get("ever") == "ever"


def test_for_ever(site: Any) -> None:
    """A scope may keep what is stored until it is deleted."""
    once = site.broker.idempotency("s", ttl=None)
    once.run("a", lambda: 1)
    site.clock.advance(50 * 365 * 86_400)
    assert once.get("a") == 1
    assert once.delete("a")


def test_what_is_in_flight_does_not_end(site: Any) -> None:
    """A function may take longer than its result is kept, and than any clock says."""
    there, here = other(site, ttl=5), site.broker.idempotency("s", ttl=5)
    there.begin("a")
    site.clock.advance(1000)
    with pytest.raises(errors.Busy):
        here.run("a", raised, timeout=0)
    assert there.end("a", 1) == 1
    assert here.get("a") == 1


# ---- processes ----


def test_processes_share(site: Any) -> None:
    """What one process stored is known to the others."""
    here, there = site.broker.idempotency("s"), other(site)
    here.set("a", 1)
    assert (there.exists("a"), there.get("a"), there.run("a", 9)) == (True, 1, 1)
    assert there.run("b", 2) == 2
    assert here.run("b", raised) == 2
    assert there.delete("a")
    assert not here.exists("a")


def test_in_flight(site: Any) -> None:
    """What another is at is not there yet, and is not done twice."""
    here, there = site.broker.idempotency("s"), other(site)
    there.begin("a")
    assert not here.exists("a")
    assert here.get("a", "none") == "none"
    assert not here.delete("a")
    with pytest.raises(errors.Busy):
        here.run("a", raised, timeout=0)
    with pytest.raises(errors.Busy):
        here.run("a", raised, timeout=0.01)
    assert here.run("b", lambda: 2, timeout=0) == 2  # another key is free
    assert there.end("a", 1) == 1
    assert here.run("a", raised, timeout=0) == 1


def test_a_function_within_its_own_key(site: Any) -> None:
    """It would wait for itself."""
    once = site.broker.idempotency("s")
    with pytest.raises(errors.Busy):
        once.run("a", lambda: once.run("a", raised, timeout=0.01))
    assert once.run("a", lambda: 1) == 1


def test_the_other_failed(site: Any) -> None:
    """Its key is free."""
    here, there = site.broker.idempotency("s"), other(site)
    there.begin("a")
    there.fail("a")
    assert here.run("a", lambda: 2) == 2


def test_the_other_died(site: Any) -> None:
    """Its key is free when its death is noticed."""
    queue = site.broker.queue("q")
    process = site.other()
    process.idempotency("s").begin("a")
    held = process.queue("q")
    queue.send("x")
    held.receive()
    site.kill(process, queue, in_flight=0)
    assert site.broker.idempotency("s").run("a", lambda: 2) == 2


def test_the_other_closed(site: Any) -> None:
    """What a broker has in flight when it closes is free."""
    process = site.other()
    process.idempotency("s").begin("a")
    process.close()
    assert site.broker.idempotency("s").run("a", lambda: 2) == 2


def test_set_takes_it(site: Any) -> None:
    """A result that is set while another is at it is the result."""
    here, there = site.broker.idempotency("s"), other(site)
    there.begin("a")
    here.set("a", "set")
    assert here.get("a") == "set"
    assert there.end("a", "done") == "set"
    assert here.get("a") == "set"
    assert site.broker.stats()["idempotency"]["s"]["size"] == 1


def test_set_and_gone_again(site: Any) -> None:
    """What was done then is not stored, and this is said."""
    here = site.broker.idempotency("s")

    def interfere() -> int:
        here.set("a", "set")
        assert here.delete("a")
        return 1

    with pytest.raises(errors.LeaseLost):
        here.run("a", interfere)
    assert not here.exists("a")
    assert here.run("a", lambda: 2) == 2


def test_another_began_meanwhile(site: Any) -> None:
    """The one that was taken the key from disturbs the other in nothing."""
    here, there = site.broker.idempotency("s"), other(site)

    def interfere() -> int:
        here.set("a", "set")
        here.delete("a")
        there.begin("a")
        return 1

    with pytest.raises(errors.LeaseLost):
        here.run("a", interfere)
    with pytest.raises(errors.Busy):
        here.run("a", raised, timeout=0)
    assert there.end("a", 2) == 2
    assert here.get("a") == 2


# ---- counting ----


def test_stats(site: Any) -> None:
    """Size and hits of each scope are told."""
    one, two = site.broker.idempotency("one"), site.broker.idempotency("two", ttl=10)
    for key in "abc":
        one.set(key, key)
        two.run(key, lambda: 1)
    found = [one.get("a"), one.exists("b"), one.run("c", raised), one.get("d")]
    assert found == ["a", True, "c", None]
    assert one.delete("a")
    counts = site.broker.stats()["idempotency"]
    assert counts == {"one": {"size": 2, "hits": 3}, "two": {"size": 3, "hits": 0}}


# ---- what is passed ----

NO_NAMES = ["", "x" * 256, "a\0b", "\0", 1, None, b"a", "\ud800"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_odd_names(site: Any, name: Any) -> None:
    """CASE 42: scopes and keys are texts of 1 to 255 bytes without NUL."""
    once = site.broker.idempotency("s")
    with pytest.raises(errors.InvalidArgument):
        site.broker.idempotency(name)
    for verb in (
        lambda: once.get(name),
        lambda: once.exists(name),
        lambda: once.set(name, 1),
        lambda: once.delete(name),
        lambda: once.run(name, raised),
    ):
        with pytest.raises(errors.InvalidArgument):
            verb()


def test_long_names(site: Any) -> None:
    """255 bytes are a name."""
    once = site.broker.idempotency("é" * 127 + "x")
    once.set("k" * 255, 1)
    assert once.get("k" * 255) == 1
    assert once.get("k" * 254) is None


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), "1", True, 1e12])
def test_odd_times(site: Any, ttl: Any) -> None:
    """CASE 43: a ttl is a time of more than nothing."""
    once = site.broker.idempotency("s")
    with pytest.raises(errors.InvalidArgument):
        site.broker.idempotency("s", ttl=ttl)
    with pytest.raises(errors.InvalidArgument):
        once.set("a", 1, ttl=ttl)
    assert not once.exists("a")


def test_schema(site: Any) -> None:
    """Results are checked when they are stored, and when they are read."""
    plain = site.broker.idempotency("s")
    typed = site.broker.idempotency("s", schema=dict[str, int])
    typed.set("a", {"x": 1})
    assert typed.get("a") == {"x": 1}
    with pytest.raises(errors.BodyError):
        typed.set("b", {"x": "secret"})
    with pytest.raises(errors.BodyError):
        typed.run("b", lambda: {"x": "secret"})
    assert not plain.exists("b")
    plain.set("b", {"x": "secret"})
    for read in (lambda: typed.get("b"), lambda: typed.run("b", raised)):
        with pytest.raises(errors.BodyError) as caught:
            read()
        assert "secret" not in str(caught.value)


def test_closed(site: Any) -> None:
    """A scope of a broker that is closed is closed."""
    once = site.broker.idempotency("s")
    site.broker.close()
    for verb in (
        lambda: once.get("a"),
        lambda: once.exists("a"),
        lambda: once.set("a", 1),
        lambda: once.delete("a"),
        lambda: once.run("a", raised),
    ):
        with pytest.raises(errors.Closed):
            verb()
