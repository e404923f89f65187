"""What the measurements of the field share: bodies, filling, timing."""

import contextlib
import threading
import time
from pathlib import Path
from time import perf_counter

BODY = b"abcdefghij" * 10  # 100 B; letters, since some peers take text alone
FILL_S = 40.0  # a backlog that takes longer to fill is not measured


class TooSlow(Exception):
    """A preparation takes longer than the whole run has time for."""


def fill(peer, count, body=BODY, limit=FILL_S):
    """Put so many messages in, as fast as the peer can."""
    start = perf_counter()
    send_many = peer.send_many
    step = min(count, max(1, min(1000, (8 << 20) // len(body))))
    done = 0
    while done < count:
        n = min(step, count - done)
        if send_many is not None and n > 1:
            send_many([body] * n)
        elif peer.send_nowait is not None:
            for _ in range(n):
                peer.send_nowait(body)
        else:
            for _ in range(n):
                peer.send(body)
        done += n
        spent = perf_counter() - start
        if spent > 1.0 and spent / done * count > limit:
            msg = f"{count:,} messages would take {spent / done * count:.0f} s to fill"
            raise TooSlow(msg)
    peer.flush()


def rate(call, seconds, each=1):
    """Call it for a time; return how many messages a second, `each` to a call."""
    n = 0
    start = perf_counter()
    end = start + seconds
    while perf_counter() < end:
        call()
        n += each
    return n / (perf_counter() - start)


def worked_off(peer, work, chunk, seconds, *, body=BODY, around=contextlib.nullcontext):
    """Fill, work off, and again; return messages a second of the working alone.

    The backlog is the same for all, whatever their speed. `around` is entered for the
    working alone. What is not worked off when the time is over stays.
    """
    n, spent = 0, 0.0
    while spent < seconds:
        fill(peer, chunk, body)
        with around():
            start = perf_counter()
            n += work(peer, chunk, start + seconds - spent)
            spent += perf_counter() - start
    return n / spent


def one_by_one(peer, count, end):
    """Receive and ack so many, one at a time; or what there is time for."""
    for done in range(count):
        if perf_counter() > end:
            return done
        peer.ack(must(peer.receive(0.0)))
    return count


def by_hundred(peer, count, end):
    """Receive and ack so many, a hundred at a time; or what there is time for."""
    done = 0
    while done < count and perf_counter() < end:
        found = must(peer.receive_many(100))
        peer.ack_many(found)
        done += len(found)
    return done


def by_loop(peer, count, end):
    """Receive and ack so many in the prefetch loop; or what there is time for."""
    done = 0
    while done < count:
        for _ in peer.messages(0.0):
            done += 1
            if done % 16 == 0 and perf_counter() > end:
                return done
    return done


def must(message):
    """Insist that there is a message, or a list of them."""
    if not message:
        msg = "a message is missing"
        raise RuntimeError(msg)
    return message


def percentile(values, percent):
    """Return the value that so many percent do not exceed; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@contextlib.contextmanager
def computing():
    """Keep one Python thread computing, which wants the GIL all the time."""
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


def cpu_ns(pid):
    """CPU time of another process: the clock that its pid names."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def resident_mib(pid):
    """Memory of a process that is in RAM, and its own."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    return None


def size_mib(folder):
    """How much all files of a folder take."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_socket()]
    return sum(p.stat().st_size for p in files) / (1 << 20)
