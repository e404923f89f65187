"""A process beside the one that measures. It says "ready", then acts, then reports.

child.py receive PATH COUNT       stamps of COUNT receives, each blocked, as JSON
child.py pipe PATH COUNT          the same of lines on stdin
child.py send PATH SECONDS        begins at a line on stdin; how many, how many Busy
child.py work PATH                begins at a line on stdin; how many, and when the last
child.py drain PATH               messages() with ack_nowait until nothing is left
child.py turn PATH                send, receive, ack now and then, until a line on stdin
child.py first PATH               how many seconds until a first message was sent
child.py pieces PATH BOUNDS       sends for so many seconds as a line on stdin says; the
                                  CPU time of each; again. BOUNDS 1: a bounded queue
child.py many PATH COUNT          KiB of memory of each of COUNT new queues in use
"""

import json
import logging
import os
import resource
import sys
import threading
import time
from pathlib import Path

import embq

BODY = bytes(range(100))
BEGUN = time.perf_counter()
PAUSE_S = 0.0005
#: What never is reached.
BOUNDS = {"max_messages": 10**9, "max_bytes": 10**12, "overflow": "reject"}


def ready():
    print("ready", flush=True)


def receive(queue, count):
    stamps = {}
    ready()
    for _ in range(int(count)):
        message = queue.receive(wait=None)
        stamps[message.body.decode()] = time.monotonic_ns()
        message.ack()
    print(json.dumps(stamps), flush=True)


def pipe(_, count):
    stamps = {}
    ready()
    while len(stamps) < int(count):
        lines = os.read(0, 100).split()
        now = time.monotonic_ns()
        stamps |= {line.decode(): now for line in lines}
    print(json.dumps(stamps), flush=True)


def send(queue, seconds):
    sent = busy = 0
    ready()
    sys.stdin.readline()
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        try:
            queue.send(BODY)
            sent += 1
        except embq.Busy:
            busy += 1
    print(json.dumps({"sent": sent, "busy": busy}), flush=True)


def work(queue):
    count, last = 0, 0.0
    ready()
    sys.stdin.readline()
    for message in queue.messages(wait=0.5):
        message.ack_nowait()
        count += 1
        last = time.monotonic()
    print(json.dumps({"count": count, "last": last}), flush=True)


def drain(queue):
    count = 0
    for message in queue.messages(wait=0):
        message.ack_nowait()
        count += 1
    print(count, flush=True)


def turn(queue):
    ready()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set())).start()
    while not ended.is_set():
        queue.send(BODY)
        queue.receive().ack()
        time.sleep(PAUSE_S)


def first(queue):
    queue.send(BODY)
    took = time.perf_counter() - BEGUN
    ready()
    sys.stdin.readline()
    print(took, flush=True)


def pieces(queue, bounds):
    if int(bounds):
        queue.configure(**BOUNDS)
    ready()
    for line in sys.stdin:
        count, begun, spent = 0, time.perf_counter(), time.thread_time()
        end = begun + float(line)
        while time.perf_counter() < end:
            queue.send(BODY)
            count += 1
        print((time.thread_time() - spent) / count, flush=True)


def many(_, count):
    with embq.open(sys.argv[2], durability="normal") as broker:
        before = resident_kib()
        queues = [broker.queue(f"q{n}", codec="raw") for n in range(int(count))]
        for queue in queues:
            queue.send(BODY)
            queue.receive().ack()
        grown = resident_kib() - before
    ready()
    sys.stdin.readline()
    print(grown / int(count), flush=True)


def resident_kib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


ROLES = {
    "receive": receive,
    "pipe": pipe,
    "send": send,
    "work": work,
    "drain": drain,
    "turn": turn,
    "first": first,
    "many": many,
    "pieces": pieces,
}


NORMAL = ("receive", "pipe", "work", "turn", "first", "many", "pieces")


def main():
    # Its word on SQLite's WAL-reset bug is said by the report.
    logging.getLogger("embq").setLevel(logging.ERROR)
    role, path, *arguments = sys.argv[1:]
    durability = "normal" if role in NORMAL else "full"
    with embq.open(path, durability=durability) as broker:
        queue = broker.queue("bench", codec="raw")
        ROLES[role](queue, *arguments)


if __name__ == "__main__":
    main()
