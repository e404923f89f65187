"""Messages of the specification as a consumer has them, and the verbs that settle them.

See `model.py`.
"""

# ruff: noqa: D102, EM102, PYI034, TRY003  (short is clear here)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import model_input
from model_input import FIELDS, duration_ms

from embq import errors

if TYPE_CHECKING:
    from model import ModelQueue
    from model_file import Entry


class ModelMessage:
    """One delivery of a message, and the verbs that settle it."""

    def __init__(self, queue: ModelQueue, entry: Entry) -> None:
        self._queue, self._file, self._stored = queue, queue.file, queue.stored
        self.id, self.body, self.receipt = entry.id, entry.body, entry.receipt or b""
        self.history, self.queue = list(entry.history), queue.name
        self.settled = False
        self.priority, self._expires_ms = entry.priority, entry.expires_ms
        self.receive_count = entry.receive_count
        self.retry_count = self.receive_count - 1
        for name in FIELDS:
            setattr(self, name, entry.fields.get(name))

    @property
    def data(self) -> Any:
        return model_input.decode(self._stored.options, self.body)

    @property
    def expires_at(self) -> Any:
        """When it perishes."""
        return model_input.datetime_of(self._expires_ms)

    def _held(self) -> Entry:
        self._queue.check()
        entry = self._queue._current(self)
        if entry is None:
            raise errors.LeaseLost(f"message {self.id}: settled, or claimed again")
        return entry

    def _settle(self, outcome: str) -> Entry:
        entry, self.settled = self._held(), True
        entry.receipt = None
        self._stored.counts[outcome] += 1
        return entry

    def ack(self) -> None:
        del self._stored.entries[self._settle("acked").row]

    def ack_nowait(self) -> None:
        """Stage an ack; a failure is for `flush`."""
        try:
            self.ack()
        except (errors.LeaseLost, errors.NotFound) as error:
            self._queue.broker.unawaited = error

    def nack(self, delay: float | None = None, error: str | None = None) -> None:
        """Failed: wait by the retry policy or `delay`, or be dead-lettered."""
        delay_ms = None if delay is None else duration_ms(delay, "delay")
        entry = self._settle("nacked")
        if self._file.is_last(self._stored, entry):
            return self._file.bury(self._stored, entry, "max_receives", error)
        entry.error = error or entry.error
        if delay_ms is None:
            retry = self._stored.options.retry  # without its jitter
            delay_ms = model_input.backoff_ms(retry, entry.receive_count)
        return self._file.wait(entry, due_ms=self._file.clock.wall_ms + delay_ms)

    def reject(self, reason: str) -> None:
        """Hopeless: to the dead letters at once."""
        self._file.bury(self._stored, self._settle("rejected"), "rejected", reason)

    def extend(self, seconds: float) -> None:
        """Hold this message until `seconds` from now."""
        entry, more_ms = self._held(), duration_ms(seconds, "seconds")
        entry.suspect &= entry.owner is not None  # late, but its holder lives
        entry.owner = self._queue.broker
        entry.deadline_ms = self._file.clock.boot_ms + more_ms

    def __enter__(self) -> ModelMessage:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not self.settled and error is None:
            self.ack()
        elif not self.settled:
            self.nack(error=f"{type(error).__name__}: {error}")
