"""litequeue: a small queue on Python's sqlite3; done messages stay until pruned."""

from litequeue import LiteQueue

from peers.face import Peer


class LitequeueQueue(Peer):
    """Each thread has a connection; a batch is puts inside its `transaction()`."""

    package = "litequeue"
    acks = "by hand: locked messages are listed, and retried by the user"
    note = "texts; send_many: puts in one `transaction()`"

    def __init__(self, place):
        self._queue = LiteQueue(str(place.folder / "queue.db"), timeout=30)

    def send(self, body):
        self._queue.put(body.decode())

    def send_many(self, bodies):
        with self._queue.transaction():
            for body in bodies:
                self._queue.put(body.decode())

    def poll(self):
        return self._queue.pop()

    def ack(self, message):
        self._queue.done(message.message_id)

    def body(self, message):
        return message.data.encode()

    def close(self):
        self._queue.close()
