"""honker: a queue in SQLite, in Rust, with leases and a watcher that polls each ms."""

import asyncio
import itertools
import os

import honker

from peers.face import Peer

_WORKERS = itertools.count()


class HonkerQueue(Peer):
    """One database per process; receives that wait go through its async iterator."""

    package = "honker"
    shared = True
    acks = "lease"
    note = "send_many: one shared transaction; batches by claim_batch and ack_batch"

    def __init__(self, place, db=None, name="bench"):
        self._place = place
        self._db = db or honker.open(str(place.folder / "queue.db"))
        self._queue = self._db.queue(name)
        self._worker = f"{os.getpid()}-{next(_WORKERS)}"
        self._loop = None

    def send(self, body):
        self._queue.enqueue(body.decode())

    def send_many(self, bodies):
        with self._db.transaction() as tx:
            for body in bodies:
                self._queue.enqueue(body.decode(), tx=tx)

    def poll(self):
        return self._queue.claim_one(self._worker)

    def receive(self, wait=0.0):
        job = self._queue.claim_one(self._worker)
        if job is not None or not wait:
            return job
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._claims = self._queue.claim(self._worker)
        try:
            return self._loop.run_until_complete(
                asyncio.wait_for(anext(self._claims), wait)
            )
        except TimeoutError:
            self._claims = self._queue.claim(self._worker)  # a cancelled one is closed
            return None

    def receive_many(self, n):
        return self._queue.claim_batch(self._worker, n)

    def ack(self, message):
        message.ack()

    def ack_many(self, messages):
        self._queue.ack_batch([job.id for job in messages], self._worker)

    def body(self, message):
        return message.payload.encode()

    def queue(self, name):
        return HonkerQueue(self._place, self._db, name)

    def close(self):
        if self._loop is not None:
            self._claims = None
            self._loop.close()
        self._db.close()
