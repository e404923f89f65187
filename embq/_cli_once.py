"""The subcommand of `embq` about results of what is to be done once."""

import sys

import click
import msgspec

from embq._cli_look import NOTHING_THERE
from embq.broker import Broker


@click.command()
@click.argument("scope", required=False)
@click.argument("key", required=False)
@click.option("--delete", is_flag=True, help="Forget it: the next run calls again.")
@click.pass_obj
def idempotency(
    broker: Broker, scope: str | None, key: str | None, *, delete: bool
) -> None:
    """Print the result that is stored for KEY in SCOPE; without them, list the scopes.

    A list has for each scope how many results are stored, and how often one was found.
    Exits with 2 when there is no such result.
    """
    if scope is None:
        for name, counts in broker.stats()["idempotency"].items():
            click.echo(f"{counts['size']:>10} {counts['hits']:>10}  {name}")
        return
    if key is None:
        msg = "a scope needs a key; `embq idempotency` lists the scopes"
        raise click.UsageError(msg)
    once = broker.idempotency(scope)
    if delete:
        there = once.delete(key)
    else:
        found = once.get(key, msgspec.UNSET)
        there = found is not msgspec.UNSET
        if there:
            click.echo(msgspec.json.encode(found))
    if not there:
        sys.exit(NOTHING_THERE)
