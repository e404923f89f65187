"""Beside one computing Python thread, which wants the GIL all the time."""

import contextlib
import threading
from time import perf_counter

import embq
from scenarios.measure import BODY, compare
from scenarios.receiving import drain_rate


def send_nowait(run):
    """Stage and store, alone and beside a computing thread."""
    return _alone_and_beside(run, "beside-nowait", "send_nowait", _stage_rate)


def messages(run):
    """Work off with `messages()`, alone and beside a computing thread."""
    what = "messages() and ack_nowait"
    return _alone_and_beside(run, "beside-messages", what, drain_rate)


def python(run):
    """Count in pure Python: what the GIL leaves to anybody. No promise of embq's."""
    return _alone_and_beside(run, "beside-python", "a loop in Python", _loop_rate, None)


def _alone_and_beside(run, key, what, rate, target=0.4):
    def beside():
        with computing():
            return rate(run)

    samples = run.sample({"beside": beside, "alone": lambda: rate(run)})
    return [
        compare(
            key,
            f"{what}: beside a computing thread / alone",
            "per s",
            samples,
            "beside",
            "alone",
            at_least=target,
        )
    ]


def _loop_rate(run):
    return run.rate(lambda: None)


def _stage_rate(run):
    """Messages stored in a second; a full ring is waited for."""
    with run.queue("normal") as (broker, queue):
        n = 0
        start = perf_counter()
        end = start + run.seconds
        while perf_counter() < end:
            try:
                ticket = queue.send_nowait(BODY)
                n += 1
            except embq.Full:
                ticket.result()
        broker.flush()
        return n / (perf_counter() - start)


@contextlib.contextmanager
def computing():
    """Keep one Python thread computing."""
    over = threading.Event()

    def compute():
        total = 0
        while not over.is_set():
            for i in range(1000):
                total += i * i

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
