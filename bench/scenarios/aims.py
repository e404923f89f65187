"""The aims that need the field.

embq against the queue that one writes by hand, and a producer with a consumer against
the limit.
"""

from scenarios.measure import compare

EMBQ, PLAIN, LIMIT = "embq normal", "sqlite3 normal", "limit normal"
BACKLOGS = {
    "field-backlog-1k": ("1k", "1,000"),
    "field-backlog-100k": ("100k", "100,000"),
    "field-backlog-1m": ("1m", "1,000,000"),
}


def of_field(name, rounds):
    """Return the aims that a scenario of the field decides, as far as it has both."""
    if name in BACKLOGS:
        key, count = BACKLOGS[name]
        return _against(
            rounds,
            "receive",
            PLAIN,
            f"receive-sqlite3-{key}",
            f"receive+ack at a backlog of {count} / by hand with sqlite3, normal",
            1.8,
        )
    if name == "field-pipeline":
        return _against(
            rounds,
            "nowait",
            LIMIT,
            "pipeline-nowait",
            "producer with send_nowait and consumer / limit",
            0.4,
        )
    return []


def _against(rounds, part, other, key, what, at_least):
    samples = {
        name: [one[part] for one in rounds.get(name, []) if part in one]
        for name in (EMBQ, other)
    }
    if not all(samples.values()):
        return []
    return [compare(key, what, "msg/s", samples, EMBQ, other, at_least=at_least)]
