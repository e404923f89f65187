"""What claims found to be damaged: bodies that are not what was sent.

The core settles them (`csrc/damage.c`): nobody is handed one. Here they are logged,
without payload.
"""

import logging

from embq import _native

_log = logging.getLogger("embq")


def report(broker: int) -> None:
    """Log what this process has found since it was asked last."""
    many, notes = _native.damage(broker)
    for queue, message, is_dead in notes:
        where = "waits for its next receive, without a dead-letter queue"
        _log.error(
            "queue %r: message %s is damaged: its body is not what was sent; it %s",
            queue,
            message,
            "is a dead letter now" if is_dead else where,
        )
    if many > len(notes):
        _log.error("%d more messages are damaged", many - len(notes))
