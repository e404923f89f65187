"""The subcommands of `embq` that look at messages and change nothing."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from embq._cli_admin import Opener
from embq.broker import Broker
from embq.errors import NotFound
from embq.messages import Message

NOTHING_THERE = 2  # what the command exits with

F = TypeVar("F")


def _or_leave(found: F | None) -> F:
    """Give it back, or leave when there is nothing."""
    if not found:
        sys.exit(NOTHING_THERE)
    return found


def add_to(
    cli: click.Group, open_queue: Opener, show: Callable[[Message[Any], bool], None]
) -> None:
    """Add the subcommands.

    Args:
        cli: The group.
        open_queue: Opens a queue that is there, by name.
        show: Prints a message: its body, or (True) all of it as JSON.
    """
    as_json = click.option(
        "--json", "as_json", is_flag=True, help="Whole messages, one a line."
    )

    @cli.command()
    @click.argument("queue")
    @click.option("-n", "--count", default=1, show_default=True, help="How many.")
    @as_json
    @click.pass_obj
    def peek(broker: Broker, queue: str, count: int, *, as_json: bool) -> None:
        """Print the messages of QUEUE that come next; they stay there.

        Exits with 2 when there is none.
        """
        for message in _or_leave(open_queue(broker, queue).peek(count)):
            show(message, as_json)

    @cli.command()
    @click.argument("queue")
    @click.option("-n", "--count", type=int, help="How many at most. Default: all.")
    @click.option("--state", help="Only ready, delayed, blocked or in_flight ones.")
    @click.option("--type", "type_", help="Only those of this type.")
    @click.option("--key", help="Only those of this key.")
    @as_json
    @click.pass_obj
    def browse(
        broker: Broker,
        /,
        queue: str,
        count: int | None,
        *,
        as_json: bool,
        **wanted: Any,
    ) -> None:
        """Print the messages of QUEUE, whatever their state; they stay there."""
        source = open_queue(broker, queue)
        fields = {"type": wanted.pop("type_"), **wanted}
        for message in source.browse(limit=count, **fields):
            show(message, as_json)

    @cli.command()
    @click.argument("queue")
    @click.argument("id")
    @as_json
    @click.pass_obj
    def get(broker: Broker, queue: str, id: str, *, as_json: bool) -> None:  # noqa: A002
        """Print the message ID of QUEUE; it stays there. Exits with 2 without it."""
        show(_or_leave(open_queue(broker, queue).get(id)), as_json)

    @cli.command()
    @click.argument("id")
    @click.pass_obj
    def why(broker: Broker, id: str) -> None:  # noqa: A002
        """Tell where the message ID is, and why it is not handed out.

        Looks in every queue: a message that moved is found by going through them.
        Exits with 2 when no queue has it.
        """
        for name in broker.queues():
            try:
                click.echo(open_queue(broker, name).explain(id))
            except NotFound:
                continue
            return
        _or_leave(None)
