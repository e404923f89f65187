"""RabbitMQ through py-amqp: durable queues, persistent messages, publisher confirms."""

import collections
import time

import amqp

from peers.face import Peer

PREFETCH = 200
PERSISTENT = 2
ACK_EVERY = 100
STAGED_MAX = 1000  # published and not confirmed
# A consumer is pushed to, so that nothing has come says little: how long to look.
EMPTY_S = 0.05
PAUSE_S = 0.002


class Session:
    """A connection with two channels: one that confirms, one that delivers."""

    def __init__(self, address):
        host, port = address
        self.connection = amqp.Connection(
            host=f"{host}:{port}", userid="guest", password="guest"
        )
        self.connection.connect()
        self.into = self.connection.channel()
        self.into.confirm_select()
        self.into.events["basic_ack"].add(self._confirmed)
        self.out = self.connection.channel()
        self.out.basic_qos(0, PREFETCH, False)  # noqa: FBT003
        self._published = 0
        self._open = {}  # tags that are not confirmed yet, in order

    def _confirmed(self, tag, multiple):
        if not multiple:
            self._open.pop(tag, None)
            return
        while self._open and (first := next(iter(self._open))) <= tag:
            del self._open[first]

    def publish(self, body, queue):
        message = amqp.Message(body, delivery_mode=PERSISTENT)
        self.into.basic_publish(message, routing_key=queue)
        self._published += 1
        self._open[self._published] = None
        return len(self._open)

    def confirm(self):
        while self._open:
            self.connection.drain_events(timeout=30)


class RabbitmqQueue(Peer):
    """One session per thread."""

    package = "amqp"
    server = "rabbitmq"
    acks = "at once when the connection ends"
    note = (
        "confirms; batches: publish all, then wait; one consumer, acks of 100 at once"
    )

    def __init__(self, place, kind, name="bench", session=None):
        self._place, self._kind, self._name = place, kind, f"{name}-{kind}"
        self._session = session or Session(place.address)
        self._session.into.queue_declare(
            self._name,
            durable=True,
            auto_delete=False,
            arguments={"x-queue-type": kind},
        )
        self._here = None
        self.flush = self._session.confirm

    def send(self, body):
        self._session.publish(body, self._name)
        self._session.confirm()

    def send_many(self, bodies):
        for body in bodies:
            self._session.publish(body, self._name)
        self._session.confirm()

    def send_nowait(self, body):
        if self._session.publish(body, self._name) > STAGED_MAX:
            self._session.confirm()

    def _pop(self, patience):
        """Return what was pushed, or wait that long for it."""
        if self._here is None:
            self._here = collections.deque()
            self._session.out.basic_consume(self._name, callback=self._here.append)
            patience = max(patience, 0.1)  # the first ones are on their way
        end = time.monotonic() + patience
        while not self._here:
            left = end - time.monotonic()
            if left <= 0:
                return None
            try:
                self._session.connection.drain_events(timeout=left)
            except TimeoutError:
                return None
        return self._here.popleft()

    def poll(self):
        return self._pop(EMPTY_S)

    def receive(self, wait=0.0):
        return self._pop(max(wait, EMPTY_S))

    def ack(self, message):
        self._session.out.basic_ack(message.delivery_tag)

    def messages(self, wait):
        last, open_ = None, 0
        while True:
            message = self._pop(PAUSE_S if open_ else max(wait, PAUSE_S))
            if message is not None:
                yield message
                last, open_ = message.delivery_tag, open_ + 1
            if open_ and (message is None or open_ >= ACK_EVERY):
                self._session.out.basic_ack(last, multiple=True)
                open_ = 0
            elif message is None:
                return

    def body(self, message):
        body = message.body
        return body.encode() if isinstance(body, str) else bytes(body)

    def queue(self, name):
        return RabbitmqQueue(self._place, self._kind, name, self._session)

    def close(self):
        self._session.connection.close()
