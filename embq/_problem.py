"""`Problem`: one thing that is wrong with a file."""

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a file.

    Attributes:
        code: The kind of problem, one word for programs.
        where: The table, index or queue.
        what: What is wrong, for people; without payload.
        hint: What to do about it.
        mend: What `Broker.repair` would do; "": nothing.
    """

    code: str
    where: str
    what: str
    hint: str
    mend: str = ""
