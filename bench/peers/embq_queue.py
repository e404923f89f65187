"""embq itself, raw bodies."""

import embq
from peers.face import Peer


class EmbqQueue(Peer):
    """The queue of this project."""

    release = embq.__version__  # the checkout's: it is not installed
    shared = True
    acks = "lease; at once after a death"
    note = "codec raw; the loop is `messages()` with `ack_nowait`"

    def __init__(self, place, durability, broker=None, name="bench"):
        self._broker = broker or embq.open(
            place.folder / "queue.db", durability=durability
        )
        self._queue = self._broker.queue(name, codec="raw")
        self._place, self._durability = place, durability
        # The verbs themselves, so that the face costs nothing.
        self.send = self._queue.send
        self.send_many = self._queue.send_many
        self.receive = self._queue.receive
        self.poll = self._queue.receive
        self.receive_many = self._queue.receive_many
        self.ack_many = self._queue.ack_many
        self.flush = self._broker.flush

    def send_nowait(self, body):
        try:
            self._ticket = self._queue.send_nowait(body)
        except embq.Full:
            self._ticket.result()
            self._ticket = self._queue.send_nowait(body)

    def ack(self, message):
        message.ack()

    def body(self, message):
        return message.body

    def messages(self, wait):
        for message in self._queue.messages(wait=wait):
            yield message
            try:
                message.ack_nowait()
            except embq.Full:
                self._broker.flush()
                message.ack_nowait()
        self._broker.flush()

    def queue(self, name):
        return EmbqQueue(self._place, self._durability, self._broker, name)

    def close(self):
        self._broker.close()
