"""Redis: lists (LMOVE to a list of what is in work, LREM), and streams (groups)."""

import socket

import redis

from peers.face import Peer


class _Redis(Peer):
    package = "redis"
    server = "redis"
    shared = True

    def __init__(self, place, key="bench", client=None):
        self._place, self._key = place, key
        self._redis = client or redis.Redis(unix_socket_path=place.address)

    def queue(self, name):
        return type(self)(self._place, name, self._redis)

    def close(self):
        self._redis.close()


class RedisList(_Redis):
    """The reliable queue of the documentation of LMOVE."""

    acks = "by hand: what is in work is in a list"
    note = "RPUSH; LMOVE or BLMOVE; LREM; batches as pipelines"

    def __init__(self, place, key="bench", client=None):
        super().__init__(place, key, client)
        self._work = f"{key}:work"

    def send(self, body):
        self._redis.rpush(self._key, body)

    def send_many(self, bodies):
        self._redis.rpush(self._key, *bodies)

    def poll(self):
        return self._redis.lmove(self._key, self._work, "LEFT", "RIGHT")

    def receive(self, wait=0.0):
        if not wait:
            return self.poll()
        return self._redis.blmove(self._key, self._work, wait, "LEFT", "RIGHT")

    def receive_many(self, n):
        pipeline = self._redis.pipeline(transaction=False)
        for _ in range(n):
            pipeline.lmove(self._key, self._work, "LEFT", "RIGHT")
        return [body for body in pipeline.execute() if body is not None]

    def ack(self, message):
        self._redis.lrem(self._work, 1, message)

    def ack_many(self, messages):
        pipeline = self._redis.pipeline(transaction=False)
        for body in messages:
            pipeline.lrem(self._work, 1, body)
        pipeline.execute()

    def body(self, message):
        return message


class RedisStream(_Redis):
    """A consumer group; what is acked is deleted, so that the stream stays short."""

    acks = "claimed by others after an idle time (XAUTOCLAIM)"
    note = "XADD; XREADGROUP; XACK and XDEL in one pipeline; batches as pipelines"

    def __init__(self, place, key="bench", client=None):
        super().__init__(place, f"{key}:stream", client)
        self._me = f"{socket.gethostname()}-{id(self)}"
        try:
            self._redis.xgroup_create(self._key, "all", id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def send(self, body):
        self._redis.xadd(self._key, {"b": body})

    def send_many(self, bodies):
        pipeline = self._redis.pipeline(transaction=False)
        for body in bodies:
            pipeline.xadd(self._key, {"b": body})
        pipeline.execute()

    def _read(self, count, block=None):
        found = self._redis.xreadgroup(
            "all", self._me, {self._key: ">"}, count=count, block=block
        )
        if not found:
            return []
        # A list of pairs by protocol 2, a dict by protocol 3.
        if isinstance(found, dict):
            return next(iter(found.values()))[0]
        return found[0][1]

    def poll(self):
        found = self._read(1)
        return found[0] if found else None

    def receive(self, wait=0.0):
        if not wait:
            return self.poll()
        found = self._read(1, max(1, int(wait * 1000)))
        return found[0] if found else None

    def receive_many(self, n):
        return self._read(n)

    def ack(self, message):
        self.ack_many([message])

    def ack_many(self, messages):
        ids = [number for number, _ in messages]
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xack(self._key, "all", *ids)
        pipeline.xdel(self._key, *ids)
        pipeline.execute()

    def body(self, message):
        return message[1][b"b"]
