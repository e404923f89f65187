"""Parts of recorded runs that keep results of what is to be done once.

A result is a setting, as images_asked.py has them: of its scope, in place of a queue,
and its key. One that is not there is None.
"""

from __future__ import annotations

import contextlib

from images_work import Run

SCOPE = "results"
#: As the judge reads them.
RESULTS = """
select scope, key, json_extract(result, '$')
from embq_idempotency
where typeof(scope) = 'text' and owner is null
"""


def keeping(run: Run, mode: str, name: str, count: int) -> None:
    """Set, run, run what fails, and delete, each key by this thread alone."""
    once = run.broker(mode).idempotency(SCOPE)

    def fail() -> int:
        raise LookupError

    for i in range(count):
        key = f"{name}{i % 5}"
        there = once.exists(key)
        value = None if i % 4 == 3 and there else i
        if there and value is not None and i % 4 == 1:
            continue  # a run would find it
        if i % 4 == 2 and not there:
            with contextlib.suppress(LookupError):
                once.run(key, fail)
        run.say("set", mode, SCOPE, key, value)
        if value is None:
            assert once.delete(key)
        elif i % 4 == 1:
            assert once.run(key, lambda i=i: i) == i
        else:
            once.set(key, value)
        run.say("was set", SCOPE, key)
