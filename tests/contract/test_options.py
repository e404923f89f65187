"""Options: they live in the file, for every process."""

from typing import Any

import pytest

from embq import Backoff, errors


def test_without_options_as_stored(site: Any) -> None:
    """A queue opened without options has those that it was declared with."""
    site.broker.queue("q", max_receives=1, visibility_timeout=7, dead_letter="grave")
    queue = site.other().queue("q")
    queue.send("x")
    assert queue.receive() is not None
    site.clock.advance(8)
    assert queue.receive() is None
    assert site.broker.queue("grave").depth() == 1


def test_the_same_options_again(broker: Any) -> None:
    """Declaring again with the stored options finds the queue."""
    options = {"max_receives": 3, "retry": Backoff(0.5, jitter=False), "codec": "raw"}
    broker.queue("q", **options).send(b"x")
    assert broker.queue("q", **options).depth() == 1


@pytest.mark.parametrize(
    "other",
    [
        {"codec": "raw"},
        {"visibility_timeout": 31.0},
        {"max_receives": 6},
        {"dead_letter": None},
        {"dead_letter": "grave"},
        {"retry": Backoff(2.0)},
        {"max_body": 1000},
    ],
    ids=str,
)
def test_other_options_are_a_mismatch(broker: Any, other: dict[str, Any]) -> None:
    """Options other than the stored are refused, and change nothing."""
    broker.queue("q")
    with pytest.raises(errors.ConfigMismatch):
        broker.queue("q", **other)
    broker.queue("q")
    with pytest.raises(errors.ConfigMismatch):
        broker.queue("q", **other)


def test_another_process_sees_the_mismatch(site: Any) -> None:
    """The options are the file's, not the process's."""
    site.broker.queue("q", max_receives=2)
    other = site.other()
    with pytest.raises(errors.ConfigMismatch):
        other.queue("q", max_receives=3)


@pytest.mark.parametrize(
    "options",
    [
        {"codec": "pickle"},
        {"visibility_timeout": 0},
        {"max_receives": 0},
        {"max_body": 0},
        {"dead_letter": "q"},
    ],
    ids=str,
)
def test_options_that_never_work(broker: Any, options: dict[str, Any]) -> None:
    """CASE 44: an option that could never work is refused, and no queue is made."""
    with pytest.raises(errors.InvalidArgument):
        broker.queue("q", **options)
    with pytest.raises(errors.NotFound):
        broker.send("q", "x")


def test_an_unknown_option_is_a_type_error(broker: Any) -> None:
    """A misspelt option is refused by Python itself."""
    with pytest.raises(TypeError):
        broker.queue("q", max_recieves=3)
