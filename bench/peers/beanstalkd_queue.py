"""beanstalkd through greenstalk; one connection per thread."""

import greenstalk

from peers.face import Peer

LEASE_S = 60


class BeanstalkdQueue(Peer):
    """Its protocol has no batches."""

    package = "greenstalk"
    server = "beanstalkd"
    acks = "lease; at once when the connection ends"
    note = "put, reserve, delete; -f 0 syncs each write"

    def __init__(self, place, name="bench"):
        self._place = place
        self._client = greenstalk.Client(
            place.address, encoding=None, use=name, watch=name
        )

    def send(self, body):
        self._client.put(body, ttr=LEASE_S)

    def poll(self):
        return self.receive(0)

    def receive(self, wait=0.0):
        # Whole seconds: the protocol has no others.
        try:
            return self._client.reserve(timeout=0 if not wait else max(1, round(wait)))
        except greenstalk.TimedOutError:
            return None

    def ack(self, message):
        self._client.delete(message)

    def body(self, message):
        return message.body

    def queue(self, name):
        return BeanstalkdQueue(self._place, name)

    def close(self):
        self._client.close()
