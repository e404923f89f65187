"""beanstalkd through greenstalk; one connection per thread."""

import greenstalk

from peers.face import Peer

LEASE_S = 60


class Client(greenstalk.Client):
    """A connection that serves many tubes, and knows which one it is turned to."""

    used = watched = "default"

    def turn_to_send(self, name):
        if name != self.used:
            self.use(name)
            self.used = name

    def turn_to_receive(self, name):
        if name != self.watched:
            self.watch(name)
            self.ignore(self.watched)
            self.watched = name


class BeanstalkdQueue(Peer):
    """Its protocol has no batches."""

    package = "greenstalk"
    server = "beanstalkd"
    acks = "lease; at once when the connection ends"
    note = "put, reserve, delete; -f 0 syncs each write"

    def __init__(self, place, name="bench", client=None):
        self._place, self._name = place, name
        self._client = client or Client(place.address, encoding=None)

    def send(self, body):
        self._client.turn_to_send(self._name)
        self._client.put(body, ttr=LEASE_S)

    def poll(self):
        return self.receive(0)

    def receive(self, wait=0.0):
        self._client.turn_to_receive(self._name)
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
        return BeanstalkdQueue(self._place, name, self._client)

    def close(self):
        self._client.close()
