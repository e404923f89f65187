"""Long backlogs, large bodies, many queues, and the price of waiting."""

import os
import time
from time import perf_counter

import cell as cells

from field.parts import (
    BODY,
    cpu_ns,
    fill,
    one_by_one,
    rate,
    resident_mib,
    size_mib,
    worked_off,
)

SIZES = (100, 1 << 10, 1 << 16, 1 << 20)
CHUNK = 100  # sends, then as many receives: a backlog stays what it is
NEVER = float("inf")
DRAIN_S = 20.0
QUEUES_S = 10.0
IDLE_S = 1.5


def backlog(cell):
    """Send, and receive and ack, at a backlog; then its size; then drained."""
    peer = cell.open()
    count = cell.arguments["count"]
    start = perf_counter()
    fill(peer, count)
    found = {"fill": count / (perf_counter() - start)}
    found |= _steps(peer, cell.seconds)
    if cell.arguments["drain"]:
        found |= _weight(cell, "full")
        start = perf_counter()
        for number, _ in enumerate(peer.consume(0.2), 1):
            if number == count:
                found["drain"] = count / (perf_counter() - start)
            if perf_counter() > start + DRAIN_S:
                break
        time.sleep(0.5)  # an idle moment, in which a keeper may tidy
        if "drain" in found:
            found |= _weight(cell, "drained")
    return found


def _steps(peer, seconds):
    """Send a few, receive and ack as many, and again; messages a second of both."""
    spent, done = {"send": 0.0, "receive": 0.0}, {"send": 0, "receive": 0}
    while sum(spent.values()) < 2 * seconds:
        start = perf_counter()
        for _ in range(CHUNK):
            peer.send(BODY)
        middle = perf_counter()
        done["send"] += CHUNK
        done["receive"] += one_by_one(peer, CHUNK, middle + seconds)
        spent["send"] += middle - start
        spent["receive"] += perf_counter() - middle
    return {key: done[key] / spent[key] for key in spent}


def _weight(cell, when):
    """Memory of who keeps the messages, and what is on the disk."""
    pid = cell.server_pid
    folder = cell.place().folder
    if pid is not None:
        folder = cell.server_folder
    return {
        f"{when} MiB of memory": resident_mib(pid or os.getpid()),
        f"{when} MiB on disk": size_mib(folder),
    }


def bodies(cell):
    """Send one by one, and receive and ack one by one, by the size of the body."""
    found = {}
    for size in SIZES:
        body = (BODY * (size // len(BODY) + 1))[:size]
        peer = cell.open(f"b{size}")
        chunk = max(4, min(200, (4 << 20) // size))
        found[f"send {size}"] = rate(
            lambda peer=peer, body=body: peer.send(body), cell.seconds
        )
        receiver = cell.open(f"r{size}")
        found[f"receive {size}"] = worked_off(
            receiver, one_by_one, chunk, cell.seconds, body=body
        )
    return found


def queues(cell):
    """Make many queues in one place; send to each, and receive and ack from each."""
    if not cell.contestant.cls.queue:
        return {}
    count = cell.arguments["count"]
    first = cell.open()
    start = perf_counter()
    many = []
    for number in range(count):
        many.append(first.queue(f"q{cell.arguments['tag']}-{number}"))
        if perf_counter() - start > QUEUES_S:
            return {"made": number / (perf_counter() - start)}
    made = perf_counter()
    for peer in many:
        peer.send(BODY)
    sent = perf_counter()
    for peer in many:
        one_by_one(peer, 1, NEVER)
    end = perf_counter()
    return {
        "made": count / (made - start),
        "send": count / (sent - made),
        "receive": count / (end - sent),
    }


def idle(cell):
    """CPU of a process blocked in `receive`, and of the server that it waits for."""
    cell.open()
    child = cell.beside("scale.waiting")
    cells.go(child)
    time.sleep(0.5)
    pids = [pid for pid in (child.pid, cell.server_pid) if pid is not None]
    start, cpu = time.monotonic_ns(), sum(map(cpu_ns, pids))
    time.sleep(IDLE_S)
    share = (sum(map(cpu_ns, pids)) - cpu) / (time.monotonic_ns() - start)
    cells.report(child, timeout=10 * IDLE_S)
    return {"% of a core": share * 100}


def waiting(cell):
    """Block in `receive`, for longer than it is looked at."""
    peer = cell.open()
    cells.ready()
    end = time.monotonic() + IDLE_S + 1.0
    while (left := end - time.monotonic()) > 0:
        peer.receive(left)
    return {}
