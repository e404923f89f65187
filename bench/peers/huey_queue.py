"""huey: the storage of its SQLite variant, without its consumer."""

from huey.storage import SqliteStorage

from peers.face import Peer


class HueyQueue(Peer):
    """One storage per process, which serialises its threads by a lock."""

    package = "huey"
    shared = True
    acks = "none: removed when it is handed out"
    note = "SqliteStorage.enqueue and dequeue; synchronous is SQLite's default, full"

    def __init__(self, place, name="bench"):
        self._place = place
        self._storage = SqliteStorage(
            name, filename=str(place.folder / "queue.db"), timeout=30
        )
        self.send = self._storage.enqueue
        self.poll = self._storage.dequeue

    def ack(self, message):
        pass

    def body(self, message):
        return bytes(message)

    def queue(self, name):
        return HueyQueue(self._place, name)

    def close(self):
        self._storage.close()
