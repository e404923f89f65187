"""Who is measured, and what each promises when `send` returns.

full: the message is synced, so that by the product's own words it survives a power cut.
normal: it survives a killed process; a power cut may take the newest ones.
Only contestants of one group are compared.
"""

import dataclasses
import importlib
import importlib.metadata

from peers import servers


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A product in one setting."""

    durability: str  # "full" or "normal"
    module: str
    peer: str  # the class
    setting: dict = dataclasses.field(default_factory=dict)
    server: str | None = None  # the server's own setting, see servers.py

    @property
    def cls(self):
        """The adapter's class; imports the product."""
        return getattr(importlib.import_module(f"peers.{self.module}"), self.peer)

    def open(self, place):
        """Open a handle."""
        return self.cls(place, **self.setting)

    def about(self):
        """Say what was measured: version, acks, how it is used."""
        cls = self.cls
        version = cls.release or importlib.metadata.version(cls.package)
        server = cls.server and servers.version(cls.server)
        return {
            "durability": self.durability,
            "version": server or version,
            "client": f"{cls.package} {version}" if server else "",
            "acks": cls.acks,
            "note": cls.note,
            "embedded": cls.server is None,
        }


def _embedded(durability, name, setting=None):
    words = "".join(word.capitalize() for word in name.split("_"))
    return Contestant(durability, name, words, setting or {})


def _redis(durability, kind, fsync):
    return Contestant(
        durability, "redis_queue", f"Redis{kind}", server=f"redis-{fsync}"
    )


def _rabbitmq(kind):
    setting = {"kind": kind}
    return Contestant("full", "rabbitmq_queue", "RabbitmqQueue", setting, "rabbitmq")


#: By name, in the order of the tables.
CONTESTANTS = {
    "embq": _embedded("full", "embq_queue", {"durability": "full"}),
    "sqlite3": _embedded("full", "sqlite3_queue", {"durability": "full"}),
    "localqueue": _embedded("full", "localqueue_queue", {"durability": "durable"}),
    "persist-queue": _embedded("full", "persist_queue"),
    "huey": _embedded("full", "huey_queue"),
    "redis list, always": _redis("full", "List", "always"),
    "redis stream, always": _redis("full", "Stream", "always"),
    "beanstalkd -f 0": Contestant(
        "full", "beanstalkd_queue", "BeanstalkdQueue", server="beanstalkd"
    ),
    "rabbitmq classic": _rabbitmq("classic"),
    "rabbitmq quorum": _rabbitmq("quorum"),
    "embq normal": _embedded("normal", "embq_queue", {"durability": "normal"}),
    "sqlite3 normal": _embedded("normal", "sqlite3_queue", {"durability": "normal"}),
    "honker": _embedded("normal", "honker_queue"),
    "localqueue normal": _embedded(
        "normal", "localqueue_queue", {"durability": "relaxed"}
    ),
    "litequeue": _embedded("normal", "litequeue_queue"),
    "redis list, everysec": _redis("normal", "List", "everysec"),
    "redis stream, everysec": _redis("normal", "Stream", "everysec"),
}

#: SQLite from C; its `synchronous`.
LIMITS = {"limit": "FULL", "limit normal": "NORMAL"}
