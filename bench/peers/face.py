"""The common face of embq and its peers: few verbs, each as fast as the peer has it.

A peer is a class per product, used once per thread that needs a handle of its own. What
it receives is its own kind of message, handed back to `ack` as it is, so that the face
costs a call and nothing else. A verb that a peer does not have is None: the report then
shows "-".
"""

import dataclasses
import time
from pathlib import Path

POLL_S = 0.001  # for peers without a blocking verb: what a careful user would write


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a peer keeps its messages; for servers, an address and a pid as well."""

    folder: Path
    address: str | int | None = None
    pid: int | None = None


class Peer:
    """What every adapter has. A subclass says what it promises."""

    package = None  # the distribution that is measured, for its version
    release = None  # the version, where there is no distribution
    server = None  # the name of the server in servers.py
    shared = False  # whether threads may share one handle
    acks = ""  # what becomes of a message whose consumer dies
    note = ""  # how it is used

    # Verbs that not all have.
    send_many = None  # (bodies): all in one step
    send_nowait = None  # (body): returns before it is stored; `flush` waits for all
    receive_many = None  # (n) -> a list of messages, empty when there is none
    ack_many = None  # (messages)
    messages = None  # (wait) -> yields messages that are acked by the loop
    queue = None  # (name) -> a handle of another queue in the same file or server

    def send(self, body):
        """Return when the message is as safe as the peer's promise says."""
        raise NotImplementedError

    def poll(self):
        """Return a message, or None when there is none now."""
        raise NotImplementedError

    def ack(self, message):
        """Tell that a message is done with."""
        raise NotImplementedError

    def body(self, message):
        """Return what was sent."""
        raise NotImplementedError

    def flush(self):
        """Wait until all of `send_nowait` is stored."""

    def close(self):
        """End; the messages stay."""

    def receive(self, wait=0.0):
        """Return a message, waiting for one; None when none came in time."""
        message = self.poll()
        if message is None and wait:
            end = time.monotonic() + wait
            while message is None and time.monotonic() < end:
                time.sleep(POLL_S)
                message = self.poll()
        return message

    def consume(self, wait):
        """Yield and ack in the fastest way there is, until nothing came for `wait`."""
        if self.messages:
            yield from self.messages(wait)
        elif self.receive_many:
            yield from self._consume_batches(wait)
        else:
            while (message := self.receive(wait)) is not None:
                yield message
                self.ack(message)

    def _consume_batches(self, wait):
        end = time.monotonic() + wait
        while True:
            if found := self.receive_many(100):
                yield from found
                self.ack_many(found)
                end = time.monotonic() + wait
            elif time.monotonic() > end:
                return
            else:
                time.sleep(POLL_S)
