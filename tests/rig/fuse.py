"""A file system over FUSE that hands every call on to a folder: just enough for SQLite.

It speaks the kernel's protocol (linux/fuse.h) on /dev/fuse by itself, so that the tests
need no package. Run as a script it mounts itself, says "mounted", and serves until its
input ends.

    python fuse.py FOLDER MOUNT_POINT
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from stat import S_IMODE, S_ISREG

LOOKUP, FORGET, GETATTR, SETATTR, UNLINK = 1, 2, 3, 4, 10
OPEN, READ, WRITE, STATFS, RELEASE, FSYNC = 14, 15, 16, 17, 18, 20
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, FSYNCDIR = 25, 26, 27, 28, 29, 30
CREATE, BATCH_FORGET = 35, 42
HEAD = struct.Struct("<IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, pad
MOST = 1 << 17  # bytes of a write
ROOT = 1


class Passing:
    """The file system: nodes are paths, handles are descriptors."""

    def __init__(self, folder: Path, device: int) -> None:
        self.folder, self.device = folder, device
        self.paths = {ROOT: folder}
        self.nodes = {folder: ROOT}
        self.calls: dict[int, Callable[[int, bytes], bytes]] = {
            LOOKUP: lambda node, data: self.entry(self.child(node, data)),
            GETATTR: lambda node, _: self.attributes(self.paths[node]),
            SETATTR: self.change,
            UNLINK: self.unlink,
            OPEN: self.open,
            READ: self.read,
            WRITE: self.write,
            STATFS: lambda _node, _data: self.room(),
            RELEASE: self.release,
            FSYNC: self.sync,
            FLUSH: lambda _node, _data: b"",
            INIT: lambda _node, _data: struct.pack(
                "<IIIIHHII32x", 7, 31, MOST, 0, 8, 8, MOST, 1
            ),
            OPENDIR: lambda _node, _data: struct.pack("<QII", 0, 0, 0),
            READDIR: lambda _node, _data: b"",
            RELEASEDIR: lambda _node, _data: b"",
            FSYNCDIR: lambda _node, _data: b"",
            CREATE: self.create,
        }

    def child(self, node: int, data: bytes) -> Path:
        """Give the path that a name of a folder means."""
        return self.paths[node] / os.fsdecode(data.split(b"\0")[0])

    # ---- what goes over the wire ----

    @staticmethod
    def packed(path: Path) -> bytes:
        """Pack fuse_attr."""
        s = path.stat()
        times = (int(s.st_atime), int(s.st_mtime), int(s.st_ctime), 0, 0, 0)
        return struct.pack(
            "<QQQQQQIIIIIIIIII",
            *(s.st_ino, s.st_size, s.st_blocks, *times[:3], *times[3:]),
            *(s.st_mode, s.st_nlink, s.st_uid, s.st_gid, 0, 4096, 0),
        )

    def attributes(self, path: Path) -> bytes:
        """Pack fuse_attr_out, valid for no time."""
        return struct.pack("<QII", 0, 0, 0) + self.packed(path)

    def entry(self, path: Path) -> bytes:
        """Pack fuse_entry_out, valid for no time."""
        attributes = self.packed(path)
        node = self.nodes.setdefault(path, len(self.nodes) + ROOT)
        self.paths[node] = path
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + attributes

    # ---- calls ----

    def open(self, node: int, data: bytes) -> bytes:
        """Open for reading and writing, whatever is asked for."""
        del data
        return struct.pack("<QII", os.open(self.paths[node], os.O_RDWR), 0, 0)

    def create(self, node: int, data: bytes) -> bytes:
        """Make a file and open it."""
        _flags, mode, _umask, _ = struct.unpack_from("<IIII", data)
        path = self.child(node, data[16:])
        fd = os.open(path, os.O_RDWR | os.O_CREAT, S_IMODE(mode))
        return self.entry(path) + struct.pack("<QII", fd, 0, 0)

    def change(self, node: int, data: bytes) -> bytes:
        """Set mode or size; times stay as they are."""
        valid, _, _, size = struct.unpack_from("<IIQQ", data)
        (mode,) = struct.unpack_from("<I", data, 68)
        if valid & 1:
            self.paths[node].chmod(S_IMODE(mode))
        if valid & 8:
            os.truncate(self.paths[node], size)
        return self.attributes(self.paths[node])

    def unlink(self, node: int, data: bytes) -> bytes:
        """Remove a file; one made later is another node."""
        path = self.child(node, data)
        path.unlink()
        self.nodes[Path(f"{path}\0{len(self.nodes)}")] = self.nodes.pop(path, 0)
        return b""

    def read(self, node: int, data: bytes) -> bytes:
        """Read from a handle."""
        del node
        handle, offset, size = struct.unpack_from("<QQI", data)
        return os.pread(handle, size, offset)

    def write(self, node: int, data: bytes) -> bytes:
        """Write to a handle."""
        del node
        handle, offset, size = struct.unpack_from("<QQI", data)
        return struct.pack("<II", os.pwrite(handle, data[40 : 40 + size], offset), 0)

    def sync(self, node: int, data: bytes) -> bytes:
        """Sync a handle."""
        del node
        os.fsync(struct.unpack_from("<Q", data)[0])
        return b""

    def release(self, node: int, data: bytes) -> bytes:
        """Close a handle."""
        del node
        os.close(struct.unpack_from("<Q", data)[0])
        return b""

    def room(self) -> bytes:
        """Pack fuse_kstatfs."""
        s = os.statvfs(self.folder)
        counts = (s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree)
        return struct.pack("<QQQQQIIII24x", *counts, s.f_bsize, 255, s.f_frsize, 0)

    # ---- serving ----

    def serve(self) -> None:
        """Answer until the file system is unmounted."""
        while True:
            try:
                request = os.read(self.device, MOST + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                raise
            _, call, unique, node, *_ = HEAD.unpack_from(request)
            if call in (FORGET, BATCH_FORGET):
                continue
            failed, answer = 0, b""
            try:
                if call in self.calls:
                    answer = self.calls[call](node, request[HEAD.size :])
                else:
                    failed = errno.ENOSYS
            except OSError as error:
                failed = error.errno or errno.EIO
            head = struct.pack("<IiQ", 16 + len(answer), -failed, unique)
            os.write(self.device, head + answer)


def main(folder: str, mount_point: str) -> None:
    """Mount, serve, unmount."""
    assert not S_ISREG(Path(folder).stat().st_mode)
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    words = [word.encode() for word in ("rig", mount_point, "fuse.rig")]
    if libc.mount(*words, 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    serving = threading.Thread(target=Passing(Path(folder), device).serve, daemon=True)
    serving.start()
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    sys.stdin.read()
    libc.umount2(mount_point.encode(), 2)  # MNT_DETACH
    os.close(device)


if __name__ == "__main__":
    main(*sys.argv[1:])
