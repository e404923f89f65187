"""persist-queue: SQLiteAckQueue, synchronous as is SQLite's default, which is full."""

from persistqueue import Empty, SQLiteAckQueue

from peers.face import Peer


class PersistQueue(Peer):
    """One handle per process, `multithreading=True`; bodies are pickled."""

    package = "persist-queue"
    shared = True
    acks = "at the next start of its only process"
    note = "for one process; its blocking get sees other processes every 10 s"

    def __init__(self, place, name="bench"):
        self._place = place
        self._queue = SQLiteAckQueue(str(place.folder), name=name, multithreading=True)
        self.send = self._queue.put

    def poll(self):
        try:
            return self._queue.get(block=False, raw=True)
        except Empty:
            return None

    def receive(self, wait=0.0):
        if not wait:
            return self.poll()
        try:
            return self._queue.get(timeout=wait, raw=True)
        except Empty:
            return None

    def ack(self, message):
        self._queue.ack(id=message["pqid"])

    def body(self, message):
        return message["data"]

    def queue(self, name):
        return PersistQueue(self._place, name)

    def close(self):
        self._queue.close()
