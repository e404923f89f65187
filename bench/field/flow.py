"""From producer to consumer: in one process, in several, and how long it takes."""

import random
import threading
import time
from time import monotonic_ns, perf_counter

import cell as cells

from field.parts import BODY, percentile

QUIET_S = 0.2  # a consumer's wait at a time
PER_SECOND = 1000
PROCESSES = 2  # of each kind
LATE_S = 3.0  # how long after the last send a message may still come
OVER_S = 1.0  # consumers among processes end when nothing came for so long
PAUSES_S = 0.003, 0.007  # between the sends that wake


# ---- throughput in one process ----


def pipeline(cell):
    """Run a producer and a consumer thread; with `send`, and with `send_nowait`."""
    found = {"send": _pipe(cell, "send", "a")}
    if cell.contestant.cls.send_nowait:
        found["nowait"] = _pipe(cell, "send_nowait", "b")
    return found


def _pipe(cell, verb, part):
    producer = cell.open(part)
    consumer = cell.another(producer, part)
    sent = []
    over = threading.Event()

    def produce():
        send, n = getattr(producer, verb), 0
        end = perf_counter() + cell.seconds
        while perf_counter() < end:
            send(BODY)
            n += 1
        producer.flush()
        sent.append(n)
        over.set()

    thread = threading.Thread(target=produce)
    start = last = perf_counter()
    thread.start()
    received = 0
    while not over.is_set() or received < sent[0]:
        for _ in consumer.consume(QUIET_S):
            received += 1
            last = perf_counter()
    thread.join()
    return received / (last - start)


# ---- latency ----


def steady(cell):
    """Send 1,000 a second; from before `send` to after `receive`, other thread."""
    producer = cell.open()
    consumer = cell.another(producer)
    count = int(2 * cell.seconds * PER_SECOND)
    times = []

    def consume():
        end = time.monotonic() + count / PER_SECOND + LATE_S
        while len(times) < count and time.monotonic() < end:
            message = consumer.receive(QUIET_S)
            if message is not None:
                times.append(monotonic_ns() - int(consumer.body(message)))
                consumer.ack(message)

    thread = threading.Thread(target=consume)
    thread.start()
    late = _send_steadily(producer, count)
    thread.join()
    us = {f"p{p:g}": percentile(times, p) / 1000 for p in (50, 99, 99.9)}
    return us | {"missing": count - len(times), "late": late}


def _send_steadily(producer, count):
    """Send at the pace; return how much longer it took than it should, as a factor."""
    start = due = monotonic_ns()
    for _ in range(count):
        due += 1_000_000_000 // PER_SECOND
        pause = due - monotonic_ns()
        if pause > 0:
            time.sleep(pause / 1e9)
        producer.send(b"%d" % monotonic_ns())
    return (monotonic_ns() - start) / (due - start)


def wake(cell):
    """Wake a receiver of another process.

    From the call of `send` to the return of `receive`; and from the return of `send`,
    where 0 is: before it.
    """
    producer = cell.open()
    count = max(50, int(200 * cell.seconds))
    child = cell.beside("flow.woken", count=count)
    cells.go(child)
    time.sleep(0.3)
    pause = random.Random(1)
    called, sent = {}, {}
    for number in range(count):
        time.sleep(pause.uniform(*PAUSES_S))
        called[str(number)] = monotonic_ns()
        producer.send(b"%d" % number)
        sent[str(number)] = monotonic_ns()
    stamps = cells.report(child, timeout=count * PAUSES_S[1] + 10 * LATE_S)
    us = [(stamps[n] - called[n]) / 1000 for n in called if n in stamps]
    after = [max(0, stamps[n] - sent[n]) / 1000 for n in sent if n in stamps]
    return {
        "p50": percentile(us, 50),
        "p99": percentile(us, 99),
        "after send p50": percentile(after, 50),
        "after send p99": percentile(after, 99),
        "missing": count - len(us),
    }


def woken(cell):
    """Receive so many, each blocked for; report when."""
    consumer = cell.open()
    count = cell.arguments["count"]
    cells.ready()
    stamps = {}
    end = time.monotonic() + count * PAUSES_S[1] + LATE_S
    while len(stamps) < count and time.monotonic() < end:
        message = consumer.receive(1.0)
        if message is not None:
            stamps[consumer.body(message).decode()] = monotonic_ns()
            consumer.ack(message)
    return stamps


# ---- processes ----


def processes(cell):
    """2 producers and 2 consumers, a process each: throughput, lost, duplicates."""
    cell.open()  # the tables are there before four open them at once
    consumers = [cell.beside("flow.consumer") for _ in range(PROCESSES)]
    producers = [cell.beside("flow.producer", name=n) for n in range(PROCESSES)]
    for child in (*consumers, *producers):
        cells.go(child)
    limit = cell.seconds + 20 * LATE_S
    sent = [cells.report(child, limit) for child in producers]
    received = [cells.report(child, limit) for child in consumers]
    numbers = [n for report in received for n in report["numbers"]]
    there = {f"{n}-{i}" for n, report in enumerate(sent) for i in range(report["sent"])}
    unique = set(numbers)
    took = max(r["last"] for r in received) - min(r["first"] for r in sent)
    return {
        "rate": len(unique) / took,
        "lost": len(there - unique),
        "duplicates": len(numbers) - len(unique),
        "errors": sum(report["errors"] for report in (*sent, *received)),
    }


def producer(cell):
    """Send one by one for the time."""
    peer = cell.open()
    name, sent, errors = cell.arguments["name"], 0, 0
    cells.ready()
    first = time.monotonic()
    while time.monotonic() < first + cell.seconds:
        body = b"%d-%d" % (name, sent)
        try:
            peer.send(body + b" " * (len(BODY) - len(body)))
        except Exception:  # noqa: BLE001 - peers raise many; counted
            errors += 1
        else:
            sent += 1
    return {"sent": sent, "first": first, "errors": errors}


def consumer(cell):
    """Receive until nothing came for a while after the last."""
    peer = cell.open()
    numbers, errors = [], 0
    cells.ready()
    last = started = time.monotonic()
    while time.monotonic() - max(last, started + cell.seconds) < OVER_S:
        try:
            for message in peer.consume(QUIET_S):
                numbers.append(peer.body(message).split()[0].decode())
                last = time.monotonic()
        except Exception:  # noqa: BLE001 - peers raise many; counted
            errors += 1
    return {"numbers": numbers, "last": last, "errors": errors}


# ---- threads ----


def threads(cell):
    """Send one by one from 16 and from 64 threads."""
    return {f"{n} threads": _together(cell, n) for n in (16, 64)}


def _together(cell, count):
    part = f"t{count}"
    first = cell.open(part)
    peers = [first, *(cell.another(first, part) for _ in range(count - 1))]
    barrier = threading.Barrier(count + 1)
    sent, errors = [], []

    def work(peer):
        n = 0
        barrier.wait()
        end = perf_counter() + cell.seconds
        while perf_counter() < end:
            try:
                peer.send(BODY)
                n += 1
            except Exception as error:  # noqa: BLE001 - peers raise many; counted
                errors.append(error)
        sent.append(n)

    workers = [threading.Thread(target=work, args=(peer,)) for peer in peers]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = perf_counter()
    for worker in workers:
        worker.join()
    if errors and not sum(sent):
        raise errors[0]
    return sum(sent) / (perf_counter() - start)
