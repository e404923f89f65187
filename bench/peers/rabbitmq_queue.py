"""RabbitMQ through py-amqp: durable queues, persistent messages, publisher confirms."""

import collections
import time

import amqp

from peers.face import Peer

PREFETCH = 200
PERSISTENT = 2
ACK_EVERY = 100
# A consumer is pushed to, so that nothing has come says little: how long to look.
EMPTY_S = 0.05
PAUSE_S = 0.002


class RabbitmqQueue(Peer):
    """One connection and channel per thread."""

    package = "amqp"
    server = "rabbitmq"
    acks = "at once when the connection ends"
    note = (
        "confirms; batches: publish all, then wait; one consumer, acks of 100 at once"
    )

    def __init__(self, place, kind, name="bench"):
        self._place, self._kind, self._name = place, kind, f"{name}-{kind}"
        self._connection = amqp.Connection(
            host=f"{place.address[0]}:{place.address[1]}",
            userid="guest",
            password="guest",
        )
        self._connection.connect()
        self._in = self._connection.channel()
        self._out = None
        self._in.confirm_select()
        self._in.events["basic_ack"].add(self._confirmed)
        self._in.queue_declare(
            self._name,
            durable=True,
            auto_delete=False,
            arguments={"x-queue-type": kind},
        )
        self._next = 0
        self._open = {}  # tags that are not confirmed yet, in order
        self._here = collections.deque()

    def _confirmed(self, tag, multiple):
        if not multiple:
            self._open.pop(tag, None)
            return
        while self._open and (first := next(iter(self._open))) <= tag:
            del self._open[first]

    def _publish(self, body):
        self._in.basic_publish(
            amqp.Message(body, delivery_mode=PERSISTENT), routing_key=self._name
        )
        self._next += 1
        self._open[self._next] = None

    def send(self, body):
        self._publish(body)
        self.flush()

    def send_many(self, bodies):
        for body in bodies:
            self._publish(body)
        self.flush()

    def send_nowait(self, body):
        self._publish(body)
        if len(self._open) > 1000:
            self.flush()

    def flush(self):
        while self._open:
            self._connection.drain_events(timeout=30)

    def _consume(self):
        self._out = self._connection.channel()
        self._out.basic_qos(0, PREFETCH, False)  # noqa: FBT003
        self._out.basic_consume(self._name, callback=self._here.append)

    def _pop(self, patience):
        """Return what was pushed, or wait that long for it."""
        if self._out is None:
            self._consume()
            patience = max(patience, 0.1)  # the first ones are on their way
        end = time.monotonic() + patience
        while not self._here:
            left = end - time.monotonic()
            if left <= 0:
                return None
            try:
                self._connection.drain_events(timeout=left)
            except TimeoutError:
                return None
        return self._here.popleft()

    def poll(self):
        return self._pop(EMPTY_S)

    def receive(self, wait=0.0):
        return self._pop(max(wait, EMPTY_S))

    def ack(self, message):
        self._out.basic_ack(message.delivery_tag)

    def messages(self, wait):
        last, open_ = None, 0
        while True:
            message = self._pop(PAUSE_S if open_ else max(wait, PAUSE_S))
            if message is not None:
                yield message
                last, open_ = message.delivery_tag, open_ + 1
            if open_ and (message is None or open_ >= ACK_EVERY):
                self._out.basic_ack(last, multiple=True)
                open_ = 0
            elif message is None:
                return

    def body(self, message):
        body = message.body
        return body.encode() if isinstance(body, str) else bytes(body)

    def queue(self, name):
        return RabbitmqQueue(self._place, self._kind, name)

    def close(self):
        self._connection.close()
