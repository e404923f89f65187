"""What is measured of every contestant: the scenarios of the field.

Each scenario is a function of a module here, run by cell.py in a process of its own.
"""

import dataclasses

from field import limits


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One scenario of the field."""

    title: str
    function: str  # "module.name"
    seconds: float  # of one figure, when the runner's `--seconds` is 1
    unit: str = "msg/s"
    limit: object = None  # what the limit measures beside it
    arguments: dict = dataclasses.field(default_factory=dict)
    once: bool = False  # long: in one round
    embedded: bool = False  # for embedded contestants alone
    quick: bool = True  # part of `--quick`
    long: bool = False  # part of `--long` alone

    @property
    def higher_is_better(self):
        """Rates are; times, sizes and shares are not."""
        return self.unit == "msg/s"


def _backlog(count, title, **options):
    arguments = {"count": count, "drain": count >= 1_000_000}
    return Scenario(
        f"at a backlog of {title}",
        "scale.backlog",
        0.4,
        limit=limits.backlog,
        arguments=arguments,
        **options,
    )


def _queues(count, **options):
    arguments = {"count": count, "tag": count}
    title = f"{count:,} queues: made, one message sent to each, one received from each"
    return Scenario(title, "scale.queues", 0, arguments=arguments, once=True, **options)


#: By the name for `--only`, in the order of the report.
SCENARIOS = {
    "field-verbs": Scenario(
        "each verb by itself", "verbs.alone", 0.25, limit=limits.verbs
    ),
    "field-beside": Scenario(
        "each verb beside a computing thread", "verbs.beside", 0.2
    ),
    "field-pipeline": Scenario(
        "producer and consumer in one process",
        "flow.pipeline",
        0.5,
        limit=limits.pipeline,
    ),
    "field-steady": Scenario(
        "send -> receive at 1,000 sends/s in one process", "flow.steady", 0.7, unit="us"
    ),
    "field-wake": Scenario(
        "send -> receive in another process that waits",
        "flow.wake",
        0.5,
        unit="us",
    ),
    "field-processes": Scenario("2 + 2 processes", "flow.processes", 0.7, unit="msg/s"),
    "field-threads": Scenario("sending from 16 and 64 threads", "flow.threads", 0.3),
    "field-bodies": Scenario(
        "by the size of the body", "scale.bodies", 0.1, limit=limits.bodies
    ),
    "field-backlog-1k": _backlog(1_000, "1,000"),
    "field-backlog-100k": _backlog(100_000, "100,000", once=True, quick=False),
    "field-backlog-1m": _backlog(1_000_000, "1,000,000", once=True, quick=False),
    "field-backlog-10m": _backlog(
        10_000_000, "10,000,000", once=True, quick=False, long=True, embedded=True
    ),
    "field-queues-1k": _queues(1_000, quick=False),
    "field-queues-10k": _queues(10_000, quick=False),
    "field-idle": Scenario(
        "waiting in receive",
        "scale.idle",
        0,
        unit="% of a core",
        once=True,
        quick=False,
    ),
}
