"""What is done while it is killed, with the file as a whole."""

from __future__ import annotations

from rig.play import Play, verb

COPY = "copy.db"


@verb(messages=6, points=50)
def backup(play: Play) -> None:
    """Copy the file with a message held, and another one sent after it."""
    play.open()
    play.claim("t0")
    play.arm()
    play.broker.backup(play.folder / COPY)
    play.send("s0")
