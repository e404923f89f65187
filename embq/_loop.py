"""`iterate`: the loop of `Queue.messages()`, which claims ahead."""

from collections.abc import Callable, Iterator
from functools import partial

from embq import _handles, _native
from embq._settler import Settler
from embq._sieve import Sieve
from embq.messages import Message, T

_More = Callable[[int, int], list[Message[T]]]


def iterate(
    owner: _handles.Handle,  # outlives the consumer, even in a cycle of garbage
    channel: int,
    settler: Settler,
    sieve: Sieve | None,
    prefetch: int,
    wait_ms: int,
    flags: int,
) -> Iterator[Message[T]]:
    """Hand out messages one by one; at the end give back what was not handed out.

    Args:
        owner: The broker's handle.
        channel: The queue, for C.
        settler: The queue's.
        sieve: The queue's, when it has a view.
        prefetch: How many to claim ahead; 0: as the handling time asks for.
        wait_ms: How long to wait for the next one; -1: for ever.
        flags: `AUTO_ACK` of `_native`, or 0.
    """
    handle = owner.ref
    auto_ack = bool(flags & _native.AUTO_ACK)
    consumer = _handles.consumer_open(handle, channel, prefetch, flags)
    take = _handles.consumer_take
    more: _More[T] = partial(_handles.consumer_next, handle)
    fits = None
    if sieve is not None:
        fits, more = sieve.loop(flags)
    try:
        while batch := more(consumer, wait_ms):
            for message in batch:
                try:
                    taken = take(consumer)
                    if fits and taken > 0 and not fits(message):
                        continue
                except BaseException:
                    # A signal after C's return: taken, and never to be handed out.
                    _native.give_back(handle, channel, [message])
                    raise
                if taken > 0:
                    message._settled = auto_ack  # noqa: SLF001
                    message._home = settler  # noqa: SLF001
                    yield message
    finally:
        _handles.consumer_close(consumer)
