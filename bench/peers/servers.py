"""Servers, each on loopback and in a folder of its own, ended by its pid.

A server that does nothing still takes time from its neighbours (an Erlang VM most), so
it is frozen by SIGSTOP whenever it is not its turn.
"""

import contextlib
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

START_S = 60.0
STOP_S = 15.0

REDIS = "redis-server"
BEANSTALKD = "beanstalkd"
# Not the wrapper in /usr/sbin: that one changes the user and the folder.
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
EPMD = "epmd"
JOB_SIZE_MAX = 4 << 20  # bytes; beanstalkd's default is less than 64 KiB
#: Those that take long to start serve a whole scenario, the others one measurement.
LONG_TO_START = {"rabbitmq"}
PROGRAMS = {"redis": REDIS, "beanstalkd": BEANSTALKD, "rabbitmq": RABBITMQ}


@functools.cache
def version(name):
    """Ask a server's program for its version."""
    program = shutil.which(PROGRAMS[name])
    if program is None:
        return None
    if name == "rabbitmq":
        found = re.search(r"rabbitmq_server-([\d.]+)", str(Path(program).resolve()))
        return found and found[1]
    command = [program, "-v"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found and found[0]


class Server:
    """One running server; frozen except inside `awake`."""

    def __init__(self, kind, folder):
        self.folder = folder
        self.address = None
        self._processes = []  # the last one is the server, or the script that has it
        self.pid = None  # the process whose memory and time count
        self._log = (folder / "server.log").open("w")
        name, _, setting = kind.partition("-")
        program = shutil.which(PROGRAMS[name])
        if program is None:
            msg = f"{PROGRAMS[name]} is not installed"
            raise FileNotFoundError(msg)
        getattr(self, f"_start_{name}")(program, setting)
        self._wait()
        self.pid = _innermost(self._processes[-1].pid, name)
        self._kill(signal.SIGSTOP)

    @contextlib.contextmanager
    def awake(self):
        """Let it run for a measurement."""
        self._kill(signal.SIGCONT)
        try:
            yield self
        finally:
            self._kill(signal.SIGSTOP)

    def end(self):
        """End it and what was started for it, by pid."""
        if self.pid is not None:
            self._kill(signal.SIGCONT)
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                print(f"killed: {process.args[0]}", file=sys.stderr)
                process.kill()
                process.wait()
        self._log.close()

    def _kill(self, number):
        os.kill(self.pid, number)

    def _run(self, command, **environment):
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._processes.append(process)

    def _start_redis(self, program, fsync):
        self.address = str(self.folder / "redis.sock")
        options = {
            "port": 0,
            "unixsocket": self.address,
            "dir": self.folder,
            "save": "",
            "appendonly": "yes",
            "appendfsync": fsync,
        }
        words = [str(f) for k, v in options.items() for f in (f"--{k}", v)]
        self._run([program, *words])

    def _start_beanstalkd(self, program, _):
        port = _free_port()
        self.address = ("127.0.0.1", port)
        size = str(JOB_SIZE_MAX)
        options = ["-l", "127.0.0.1", "-p", str(port), "-z", size, "-f", "0"]
        self._run([program, *options, "-b", self.folder])

    def _start_rabbitmq(self, program, _):
        port, names, distribution = _free_port(), _free_port(), _free_port()
        self.address = ("127.0.0.1", port)
        environment = {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"bench{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            # No busy waiting, which would take the core that the client needs.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none",
        }
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text("loopback_users = none\n")
        # Else it would start as a daemon, and stay.
        self._run([shutil.which(EPMD), "-port", str(names)], **environment)
        self._run([program], **environment)

    def _wait(self):
        """Wait until it answers."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._processes[-1].poll() is not None:
                break
            if self._answers():
                return
            time.sleep(0.05)
        self.end()
        text = (self.folder / "server.log").read_text()[-2000:]
        msg = f"{self._processes[-1].args[0]} did not start: {text}"
        raise RuntimeError(msg)

    def _answers(self):
        family = socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET
        with socket.socket(family) as probe:
            probe.settimeout(1)
            try:
                probe.connect(self.address)
            except OSError:
                return False
        return True


def _innermost(pid, name):
    """Return the pid of the server behind a script: RabbitMQ's is a child of it."""
    if name != "rabbitmq":
        return pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [
        int(child)
        for child in children
        if Path(f"/proc/{child}/comm").read_text().startswith("beam")
    ]
    if len(found) != 1:
        msg = f"which child of {pid} is the Erlang VM? {children}"
        raise RuntimeError(msg)
    return found[0]


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
