"""What costs.py and guards.py count: costs_work.py ROLE PATH DURABILITY COUNT.

The roles of `plain` are done by the queue that one writes by hand with sqlite3.
"""

import logging
import sys
from pathlib import Path

from peers.face import Place
from peers.sqlite3_queue import Sqlite3Queue

import embq

BODY = b"abcdefghij" * 10
MANY = 1000


def send(queue, count):
    for _ in range(count):
        queue.send(BODY)


def send_bounded(queue, count):
    queue.configure(max_messages=10**9, max_bytes=10**12, overflow="reject")
    send(queue, count)


def send_many(queue, count):
    for _ in range(count // MANY):
        queue.send_many([BODY] * MANY)


def receive(queue, count):
    for _ in range(count):
        queue.receive().ack()


def loop(queue, count):
    for number, message in enumerate(queue.messages(wait=0), 1):
        message.ack_nowait()
        if number == count:
            break


def plain_receive(queue, count):
    for _ in range(count):
        queue.ack(queue.poll())


ROLES = {
    "fill": send_many,
    "send": send,
    "send_bounded": send_bounded,
    "send_many": send_many,
    "receive": receive,
    "loop": loop,
    "plain_fill": send_many,
    "plain_send": send,
    "plain_receive": plain_receive,
}


def main():
    # Its word on SQLite's WAL-reset bug is said by the report.
    logging.getLogger("embq").setLevel(logging.ERROR)
    role, path, durability, count = sys.argv[1:]
    if role.startswith("plain"):
        queue = Sqlite3Queue(Place(Path(path).parent), durability)
        ROLES[role](queue, int(count))
        queue.close()
        return
    with embq.open(path, durability=durability) as broker:
        ROLES[role](broker.queue("bench", codec="raw"), int(count))


if __name__ == "__main__":
    main()
