"""The aims of embq alone: each module is a topic, each function a scenario."""

from scenarios import (
    backlog,
    beside,
    guards,
    latency,
    many,
    once,
    placing,
    processes,
    receiving,
    sending,
)

#: By the name for `--only`, in the order of the report.
SCENARIOS = {
    "send-normal": sending.send_normal,
    "send-full": sending.send_full,
    "send-many": sending.send_many,
    "threads": sending.threads,
    "messages": receiving.messages,
    "syncs": receiving.syncs,
    "beside-nowait": beside.send_nowait,
    "beside-messages": beside.messages,
    "beside-python": beside.python,
    "wake": latency.wake,
    "idle": latency.idle,
    "steady": latency.steady,
    "backlog": backlog.backlog,
    "processes": processes.processes,
    "ack": latency.ack,
    "placing": placing.placing,
    "due": placing.due,
    "leases": placing.leases,
    "expiry": placing.expiry,
    "keys": placing.keys,
    "queues": many.queues,
    "once": once.once,
    "guards": guards.guards,
}
