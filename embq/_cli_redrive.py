"""The subcommand of `embq` that moves dead letters back."""

import click

from embq._cli_admin import Opener
from embq.broker import Broker


def add_to(cli: click.Group, open_queue: Opener) -> None:
    """Add the subcommand.

    Args:
        cli: The group.
        open_queue: Opens a queue that is there, by name.
    """

    @cli.command()
    @click.argument("queue")
    @click.option("--to", help="The queue where they go. Default: where each one died.")
    @click.option(
        "--where",
        "conditions",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Only those: reason, queue, type, source or key. One field again: either.",
    )
    @click.option("--rate", type=float, help="Messages a second at the most.")
    @click.pass_obj
    def redrive(
        broker: Broker,
        queue: str,
        to: str | None,
        conditions: tuple[str, ...],
        rate: float | None,
    ) -> None:
        """Move the dead letters of QUEUE back; print how many, and how many stayed.

        Interrupted, it is not cancelled: the next process that has the file open goes
        on with it, and so does the same command.
        """
        handle = open_queue(broker, queue).redrive(to, _where(conditions), rate)
        click.echo(f"{handle.wait()} moved, {handle.skipped} skipped")


def _where(words: tuple[str, ...]) -> dict[str, list[str]]:
    """Read FIELD=VALUE; what is no such word is refused."""
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            msg = f"{word!r} is not FIELD=VALUE"
            raise click.UsageError(msg)
        found.setdefault(name, []).append(value)
    return found
