"""How long a message, and an ack, takes; and what waiting costs."""

import json
import os
import random
import threading
import time
from time import monotonic_ns

from scenarios.measure import BODY, percentile, plain, start_child

ACK_SENDERS = 16
SENDS_PER_SECOND = 1000


def wake(run):
    """From the return of `send` to the return of `receive` in another process.

    Beside it a pipe, written and read in the same way: what the machine needs to wake a
    process at all. Both depend on the pauses between sends: after 5 ms of sleep the
    same commit takes several times what it takes in a loop, embq's or any other.
    """
    samples = run.sample(
        {"queue": lambda: _wake_us(run), "pipe": lambda: _pipe_us(run)}
    )
    what = "send returns -> receive returns in another process"
    p50, p99 = zip(*samples["queue"], strict=True)
    pipe_p50, pipe_p99 = zip(*samples["pipe"], strict=True)
    return [
        plain("wake-p50", f"{what}, p50", "us", p50, at_most=75),
        plain("wake-p99", f"{what}, p99", "us", p99, at_most=1000),
        plain("wake-pipe-p50", "the same through a pipe, p50", "us", pipe_p50),
        plain("wake-pipe-p99", "the same through a pipe, p99", "us", pipe_p99),
    ]


def idle(run):
    """CPU of a process that is blocked in `receive`."""
    samples = run.sample({"share": lambda: _idle_percent(run)})
    what = "blocked receiver, idle"
    return [plain("idle", what, "% of a core", samples["share"], at_most=0.2)]


def steady(run):
    """1,000 sends a second, with a consumer in the process, at `normal`."""
    samples = run.sample({"us": lambda: _steady_us(run)})["us"]
    what = "send -> receive at 1,000 sends/s, normal, same process"
    return [
        plain("steady-p50", f"{what}, p50", "us", [p50 for p50, _ in samples]),
        plain(
            "steady-p99",
            f"{what}, p99",
            "us",
            [p99 for _, p99 in samples],
            at_most=1000,
        ),
    ]


def ack(run):
    """Ack beside 16 threads that send at `full`."""
    samples = run.sample({"us": lambda: _ack_us(run)})["us"]
    what = f"ack beside {ACK_SENDERS} threads sending at full"
    return [
        plain(
            "ack-p50", f"{what}, p50", "us", [p50 for p50, _ in samples], at_most=100
        ),
        plain("ack-p99", f"{what}, p99", "us", [p99 for _, p99 in samples]),
    ]


def _wake_us(run):
    with run.queue("normal") as (broker, queue):
        child = start_child("receive", broker.path, _wakes(run))
        return _woken_us(run, child, queue.send)


def _pipe_us(run):
    with run.queue("normal") as (broker, _):
        child = start_child("pipe", broker.path, _wakes(run))

        def write(body):
            os.write(child.stdin.fileno(), body + b"\n")

        return _woken_us(run, child, write)


def _wakes(run):
    return max(50, int(200 * run.seconds))


def _woken_us(run, child, send):
    """p50 and p99 of the way from here to the child, which is blocked again by then."""
    pause = random.Random(1)
    sent = {}
    for number in range(_wakes(run)):
        time.sleep(pause.uniform(0.003, 0.007))
        send(b"%d" % number)
        sent[str(number)] = monotonic_ns()
    received = json.loads(child.communicate()[0])
    times = [received[n] - sent[n] for n in sent]
    return percentile(times, 50) / 1000, percentile(times, 99) / 1000


def _idle_percent(run):
    with run.queue("normal") as (broker, queue):
        child = start_child("receive", broker.path, 1)
        time.sleep(0.5)
        # The clock of another process's CPU time, in ns: /proc/PID/stat counts in steps
        # of 10 ms, more than there is to see.
        clock = (~child.pid << 3) | 2
        start, cpu = monotonic_ns(), time.clock_gettime_ns(clock)
        time.sleep(5 * run.seconds)
        cpu = time.clock_gettime_ns(clock) - cpu
        share = cpu / (monotonic_ns() - start)
        queue.send(b"0")
        child.communicate()
    return share * 100


def _steady_us(run):
    count = int(2 * run.seconds * SENDS_PER_SECOND)
    times = []

    def consume(queue):
        for _ in range(count):
            message = queue.receive(wait=None)
            times.append(monotonic_ns() - int(message.body))
            message.ack()

    with run.queue("normal") as (_, queue):
        consumer = threading.Thread(target=consume, args=(queue,))
        consumer.start()
        due = monotonic_ns()
        for _ in range(count):
            due += 1_000_000_000 // SENDS_PER_SECOND
            time.sleep(max(0, due - monotonic_ns()) / 1e9)
            queue.send(b"%d" % monotonic_ns())
        consumer.join()
    return percentile(times, 50) / 1000, percentile(times, 99) / 1000


def _ack_us(run):
    over = threading.Event()
    times = []

    def send(queue):
        while not over.is_set():
            queue.send(BODY)

    with run.queue("full") as (broker, queue):
        done = broker.queue("done", codec="raw")
        count = int(300 * run.seconds)
        done.send_many([BODY] * count)
        held = done.receive_many(count)
        senders = [
            threading.Thread(target=send, args=(queue,)) for _ in range(ACK_SENDERS)
        ]
        for sender in senders:
            sender.start()
        try:
            for message in held:
                time.sleep(0.003)
                start = monotonic_ns()
                message.ack()
                times.append(monotonic_ns() - start)
        finally:
            over.set()
            for sender in senders:
                sender.join()
    return percentile(times, 50) / 1000, percentile(times, 99) / 1000
