"""What becomes of a message that nobody settles in time, or at all."""

from __future__ import annotations

import gc
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from conftest import CoreSite

import embq
from embq.errors import LeaseExpiredWarning, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clock import ClockFile

LATE = "outlived its lease by 3.5 s: held for 33.5 s"
SETTLE = {
    "ack": lambda message: message.ack(),
    "nack": lambda message: message.nack(),
    "reject": lambda message: message.reject("no"),
    "extend": lambda message: message.extend(60),
    "with": lambda message: message.__enter__().__exit__(None, None, None),
}


@pytest.fixture
def site(clock: ClockFile, path: Path) -> Iterator[CoreSite]:
    """A file of the core, whose time the test moves; the model does not warn."""
    made = CoreSite(clock, path)
    yield made
    made.close()


@pytest.fixture
def queue(site: CoreSite) -> embq.Queue[Any]:
    """A queue with a message."""
    made: embq.Queue[Any] = site.broker.queue("q", visibility_timeout=30)
    made.send("x")
    return made


def take(queue: embq.Queue[Any]) -> embq.Message[Any]:
    """Receive what is there."""
    message = queue.receive()
    assert message is not None
    return message


@pytest.mark.parametrize("settle", SETTLE.values(), ids=SETTLE.keys())
def test_settling_late_is_warned_of(
    site: CoreSite, queue: embq.Queue[Any], settle: Any
) -> None:
    """It holds, as nobody else came, and the warning says how late it was."""
    message = take(queue)
    site.clock.advance(33.5)
    with pytest.warns(LeaseExpiredWarning, match=f"^queue 'q': .*{LATE}") as caught:
        settle(message)
    assert caught[0].filename == __file__
    assert queue.stats()["in_flight"] == (settle is SETTLE["extend"])


@pytest.mark.parametrize("settle", SETTLE.values(), ids=SETTLE.keys())
def test_settling_in_time_is_not(
    site: CoreSite, queue: embq.Queue[Any], settle: Any
) -> None:
    """Until the last millisecond nothing is said."""
    message = take(queue)
    site.clock.advance(29.999)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settle(message)


def test_one_warning_for_a_queue(site: CoreSite, queue: embq.Queue[Any]) -> None:
    """A slow consumer is told once, not for every message."""
    queue.send_many([1, 2])
    taken = queue.receive_many(3)
    site.clock.advance(31)
    with pytest.warns(LeaseExpiredWarning, match=r"^queue 'q': "):
        taken[0].ack()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        taken[1].extend(1)
        site.clock.advance(2)
        taken[1].ack()


def extend_and_be_late(site: CoreSite, message: embq.Message[Any]) -> None:
    """Extend by 10 s, without a warning, and ack 12 s later, with one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message.extend(10)
    site.clock.advance(12)
    with pytest.warns(LeaseExpiredWarning, match=r"by 2\.0 s, though it was extended"):
        message.ack()


def test_a_retry_that_was_extended(site: CoreSite, queue: embq.Queue[Any]) -> None:
    """The lease of a retry is known once it was extended, and not before."""
    take(queue).nack(delay=0)
    message = take(queue)
    site.clock.advance(33.5)
    extend_and_be_late(site, message)


def test_a_lost_retry_in_a_failing_block(
    site: CoreSite, queue: embq.Queue[Any]
) -> None:
    """Of a retry nobody knows when its lease was over, so nothing is made up."""
    take(queue).nack(delay=0)
    message = take(queue)
    message.ack()
    message._settled = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError), message:
            raise KeyError


def test_a_warning_that_is_an_error(site: CoreSite, queue: embq.Queue[Any]) -> None:
    """Under `-W error` it is raised after the verb was done, which is not repeated."""
    message = take(queue)
    site.clock.advance(33.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LeaseExpiredWarning):
            message.ack()
    assert message._settled
    assert queue.depth() == 0


def test_an_extended_lease(site: CoreSite, queue: embq.Queue[Any]) -> None:
    """`extend` moves what is late, and the warning says that it was extended."""
    message = take(queue)
    message.extend(100)
    site.clock.advance(99)
    extend_and_be_late(site, message)


def test_a_lost_lease_in_a_failing_block(
    site: CoreSite, queue: embq.Queue[Any]
) -> None:
    """A lost lease that the block's own exception hides is warned of."""
    message = take(queue)
    site.clock.advance(33.5)
    take(queue).ack()
    with (
        pytest.warns(LeaseExpiredWarning, match=LATE) as caught,
        pytest.raises(KeyError),
        message,
    ):
        raise KeyError
    assert caught[0].filename == __file__


def test_a_lost_lease_that_is_raised(site: CoreSite, queue: embq.Queue[Any]) -> None:
    """`LeaseLost` says enough: no warning beside it."""
    message = take(queue)
    site.clock.advance(33.5)
    take(queue).ack()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LeaseLost), message:
            pass


def test_extend_that_lost_the_lease_ends_the_block(
    site: CoreSite, queue: embq.Queue[Any]
) -> None:
    """After `extend` raised `LeaseLost`, leaving the block does not raise it again."""
    message = take(queue)
    site.clock.advance(31)
    with message:
        other = take(queue)
        with pytest.raises(LeaseLost):
            message.extend(10)
    other.ack()


def test_unsettled_messages_are_warned_of(queue: embq.Queue[Any]) -> None:
    """A message that is dropped unsettled is a `ResourceWarning`; a settled one not."""
    with pytest.warns(ResourceWarning, match="collected unsettled"):
        del_after(take(queue))


def del_after(message: embq.Message[Any]) -> None:
    """Let go of the message."""
    del message
    gc.collect()


@pytest.mark.parametrize("settle", ["ack", "ack_nowait", "with", "auto", "passed over"])
def test_settled_messages_are_not(
    site: CoreSite, queue: embq.Queue[Any], settle: str
) -> None:
    """Whatever settled it, nothing is said when it is dropped."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if settle == "auto":
            queue.receive(auto_ack=True)
        elif settle == "passed over":
            assert site.broker.queue("q", schema=int).receive() is None
        elif settle == "with":
            with take(queue):
                pass
        else:
            getattr(take(queue), settle)()
        gc.collect()
