"""localqueue: PyO3 and SQLite, with receipts, leases and bounded retries."""

from localqueue import DeliveryPolicy, DurabilityMode, Empty, SimpleQueue

from peers.face import Peer


class Raw:
    """A serializer that leaves bytes as they are."""

    def dumps(self, data):
        return data

    def loads(self, data):
        return data


class LocalqueueQueue(Peer):
    """One handle per process."""

    package = "localqueue"
    shared = True
    acks = "lease"
    note = "a serializer that passes bytes on; its blocking get polls at 10 to 250 ms"

    def __init__(self, place, durability, name="bench"):
        self._place, self._durability = place, durability
        self._queue = SimpleQueue(
            str(place.folder),
            name,
            delivery=DeliveryPolicy(),
            durability=DurabilityMode(durability),
            serializer=Raw(),
        )
        self.send = self._queue.put
        self.send_many = self._queue.put_many
        self.ack = self._queue.ack

    def poll(self):
        try:
            return self._queue.get_nowait()
        except Empty:
            return None

    def receive(self, wait=0.0):
        if not wait:
            return self.poll()
        try:
            return self._queue.get(timeout=wait)
        except Empty:
            return None

    def body(self, message):
        return message.data

    def queue(self, name):
        return LocalqueueQueue(self._place, self._durability, name)

    def close(self):
        self._queue.close()
