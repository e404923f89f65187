"""The subcommands of `embq` that are about a queue as a whole."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from embq import _cli_file
from embq._times import milliseconds
from embq.broker import Broker
from embq.queue import Queue

_SECONDS = {"visibility_timeout", "delay", "ttl", "dedup_window"}
_COUNTS = {"max_receives", "max_body", "max_messages", "max_bytes"}
_NONE = "none"  # says None on a command line

Opener = Callable[[Broker, str], Queue[Any]]


def add_to(cli: click.Group, open_queue: Opener) -> None:
    """Add the subcommands.

    Args:
        cli: The group.
        open_queue: Opens a queue that is there, by name.
    """

    @cli.command()
    @click.argument("queue")
    @click.argument("options", nargs=-1, metavar="[OPTION=VALUE]...")
    @click.pass_obj
    def declare(broker: Broker, queue: str, options: tuple[str, ...]) -> None:
        """Make QUEUE, with options as `broker.queue()` has them.

        Durations are seconds; "none" is None. Exits with 1 when QUEUE is there with
        other options.
        """
        with _cli_file.creating(broker) as creating:
            creating.queue(queue, **_options(options))

    @cli.command()
    @click.argument("queue")
    @click.argument("options", nargs=-1, required=True, metavar="OPTION=VALUE...")
    @click.pass_obj
    def configure(broker: Broker, queue: str, options: tuple[str, ...]) -> None:
        """Change options of QUEUE, for every process."""
        open_queue(broker, queue).configure(**_options(options))

    @cli.command()
    @click.argument("queue")
    @click.option("--seconds", type=float, help="For so long. Default: until resume.")
    @click.pass_obj
    def pause(broker: Broker, queue: str, seconds: float | None) -> None:
        """Hand out nothing of QUEUE, in any process."""
        until = None
        if seconds is not None:
            now = datetime.now(UTC).timestamp()
            until_s = now + milliseconds(seconds, "seconds") / 1000
            until = datetime.fromtimestamp(until_s, UTC)
        open_queue(broker, queue).pause(until)

    @cli.command()
    @click.argument("queue")
    @click.pass_obj
    def resume(broker: Broker, queue: str) -> None:
        """Hand out messages of QUEUE again."""
        open_queue(broker, queue).resume()

    @cli.command()
    @click.argument("queue")
    @click.confirmation_option("--yes", prompt="Remove all that nobody holds?")
    @click.pass_obj
    def purge(broker: Broker, queue: str) -> None:
        """Remove all messages of QUEUE that nobody holds; print how many."""
        click.echo(open_queue(broker, queue).purge())

    @cli.command()
    @click.argument("queue")
    @click.confirmation_option("--yes", prompt="Remove the queue with all it has?")
    @click.pass_obj
    def delete(broker: Broker, queue: str) -> None:
        """Remove QUEUE with all its messages; print how many."""
        click.echo(broker.delete(queue))

    @cli.command()
    @click.argument("queue")
    @click.argument("id")
    @click.pass_obj
    def cancel(broker: Broker, queue: str, id: str) -> None:  # noqa: A002
        """Remove the message ID from QUEUE. Exits with 1 when somebody holds it."""
        if not open_queue(broker, queue).cancel(id):
            msg = f"message {id} is in flight"
            raise click.ClickException(msg)


def _options(words: tuple[str, ...]) -> dict[str, Any]:
    """Read OPTION=VALUE as the API takes them; what is no such word is refused."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.replace("-", "_")
        if not equals:
            msg = f"{word!r} is not OPTION=VALUE"
            raise click.UsageError(msg)
        found[name] = _value(name, value)
    return found


def _value(name: str, value: str) -> Any:
    if value == _NONE:
        return None
    kind = float if name in _SECONDS else int if name in _COUNTS else str
    try:
        return kind(value)
    except ValueError as error:
        msg = f"{name}: {value!r} is not a number"
        raise click.UsageError(msg) from error
