"""A segment's file: found or made, checked, and opened.

    name -> path -> descriptor, checked -> header, compared -> Opened, which the engine maps

The first to open a name makes the file whole, under no name, and then gives it the name; whoever loses that race
takes the winner's. From then on nothing in the header changes: every process copies what it needs from it, so that what
may be scribbled there later decides nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self

from penstock._backend import native
from penstock.errors import SegmentError
from penstock.segment.header import Header
from penstock.segment.options import Segment
from penstock.written import UNREADABLE

MAGIC = b"penstock segment"
VERSION = 1
_PRELUDE = struct.Struct("<16sIIQ16s16s")
"""MAGIC, VERSION, bytes of the JSON after it, bytes of the whole file, the boot it is of, a digest of these and the
JSON."""
PAGE = 4096
HEADER_MOST = 1 << 20
_LOCK = struct.Struct("hhqqi")


class Described(Protocol):
    """What a file says of itself: a limiter's Header, or a guard's."""

    @property
    def birth_ns(self) -> int: ...
    def packed(self) -> bytes: ...
    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        """One of penstock.written.UNREADABLE for other bytes."""

    def table_bytes(self) -> int:
        """Bytes that the file has after its header."""


class Opened(NamedTuple):
    """A segment's file, open and checked; what an engine needs to map it.

    header: of the kind that was asked for. fd: the engine's from then on. header_bytes: where its tables begin.
    birth_ns: of the header. look_only: map it as it is, and change nothing.
    """

    fd: int
    header_bytes: int
    birth_ns: int
    header: Any
    look_only: bool = False


def check_system() -> None:
    """SegmentError where processes cannot share a segment at all."""
    if not native:
        raise SegmentError("a shared segment needs penstock's compiled core, and the plain-Python reference is in use")
    from penstock._core import CAN_SHARE

    if not CAN_SHARE:
        raise SegmentError(
            f"shared segments are there on Linux only, and this is {sys.platform}; without shared= each process limits"
            " for itself, with sync= they share their limits through Redis"
        )


def boot() -> bytes:
    """16 bytes that are others each time the machine is started: birth_ns means nothing after that."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError) as error:
        raise SegmentError(f"cannot tell when the machine was started: {error}") from None


def join(
    segment: Segment,
    make: Callable[[], Described],
    differs: Callable[[Any], str | None],
    fill: Callable[[Opened], None] | None = None,
    kind: type[Described] = Header,
) -> Opened:
    """Opens the segment, or makes it.

    make: the header of a new one. differs: what is wrong with one that is there, if anything. fill: puts into a new
    one, before anybody can find it, what it begins with; the descriptor it is given is its own. kind: of header. Raises
    SegmentError, with the file's side of it, for a file that is not ours or not such a segment; nothing was changed
    then.
    """
    check_system()
    path, now = segment.path, boot()
    for _ in range(100):
        fd = _open(path, os.O_RDWR)
        if fd is None:
            fd = _made(path, make(), now, segment.group)
            try:
                if fill is not None:
                    fill(_read(fd, path, kind)._replace(fd=os.dup(fd)))
                if _named(fd, path):
                    return _read(fd, path, kind)
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            continue
        try:
            check_owner(fd, path, segment.group)
            if _prelude(fd, path).boot != now:  # nobody can have it open: it is of before the machine was started anew
                _remove_stale(fd, path)
                os.close(fd)
                continue
            opened = _read(fd, path, kind)
            if wrong := differs(opened.header):
                raise SegmentError(f"{path} was made with other settings: {wrong}")
        except BaseException:
            os.close(fd)
            raise
        return opened
    raise SegmentError(f"{path} is made and removed again faster than it can be opened")


def look(path: str) -> Opened:
    """Opens a segment to look at it only. Raises SegmentError."""
    check_system()
    fd = _open(path, os.O_RDONLY)
    if fd is None:
        raise SegmentError(f"there is no segment {path}")
    try:
        if _prelude(fd, path).boot != boot():
            raise SegmentError(f"{path} is of before this machine was last started; nobody uses it any more")
        opened = _read(fd, path)._replace(look_only=True)
        if not opened.header.agrees():
            raise SegmentError(f"{path} is of a penstock that computes otherwise with the same limits")
        return opened
    except BaseException:
        os.close(fd)
        raise


def locked(fd: int, byte: int, *, wait: bool = False) -> bool:
    """Takes a lock on one byte of the file for this descriptor; it goes with the descriptor."""
    import fcntl  # here, because not every system has it

    lock = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, lock)
    except BlockingIOError:
        return False
    return True


def unlocked(fd: int, byte: int) -> None:
    """Gives such a lock back."""
    import fcntl

    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, byte, 1, 0))


# ---- the file ----


def _open(path: str, how: int) -> int | None:
    """The file if it is there, and no link. Raises SegmentError."""
    try:
        return os.open(path, how | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise SegmentError(f"cannot open {path}: {reason}") from None


def check_owner(fd: int, path: str, group: bool) -> None:
    """SegmentError unless it is a plain file that nobody else has a part in, but the group where that was asked for."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise SegmentError(f"will not use {path}: it is not a plain file")
    if found.st_mode & (0o117 if group else 0o177):
        allowed = "0660" if group else "0600"
        raise SegmentError(
            f"will not use {path}: its mode is {stat.S_IMODE(found.st_mode):04o}, so others could read or change it; it"
            f" must be {allowed} at most"
        )
    if found.st_uid != os.geteuid() and not (group and found.st_gid in (os.getegid(), *os.getgroups())):
        owner = f"user {found.st_uid}" + (f" and group {found.st_gid}" if group else "")
        raise SegmentError(f"will not use {path}: it belongs to {owner}, and this process runs as user {os.geteuid()}")


class _Prelude(NamedTuple):
    """A file's first bytes, checked: the JSON after them, the bytes of the whole file, the boot it is of."""

    packed: bytes
    whole: int
    boot: bytes

    @property
    def start(self) -> int:
        """Where the tables begin."""
        return -(-(_PRELUDE.size + len(self.packed)) // PAGE) * PAGE

    def written(self) -> bytes:
        """As the file has it, the JSON included."""
        fields = MAGIC, VERSION, len(self.packed), self.whole, self.boot
        return _PRELUDE.pack(*fields, self.digest()) + self.packed

    def digest(self) -> bytes:
        """Of all of it."""
        said = _PRELUDE.pack(MAGIC, VERSION, len(self.packed), self.whole, self.boot, b"")
        return hashlib.blake2b(said + self.packed, digest_size=16).digest()


def _made(path: str, header: Described, now: bytes, group: bool) -> int:
    """A new segment's file, whole but without a name."""
    prelude = _Prelude(header.packed(), 0, now)
    prelude = prelude._replace(whole=prelude.start + header.table_bytes())
    try:
        fd = os.open(os.path.dirname(path), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        kind = ", which cannot hold files without a name" if error.errno in (errno.EOPNOTSUPP, errno.EISDIR) else ""
        raise SegmentError(f"cannot make {path} in {os.path.dirname(path)}{kind}: {error.strerror}") from None
    try:
        os.fchmod(fd, 0o660 if group else 0o600)
        os.posix_fallocate(fd, 0, prelude.whole)  # so that no page is missing later
        os.pwrite(fd, prelude.written(), 0)
    except OSError as error:
        os.close(fd)
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise SegmentError(f"cannot make {path}: {error.strerror}") from None
        free = os.statvfs(os.path.dirname(path))
        there = f"{prelude.whole} bytes, and {os.path.dirname(path)} has {free.f_bavail * free.f_frsize}"
        raise SegmentError(f"cannot make {path}: it needs {there}; lower capacity=") from None
    return fd


def _named(fd: int, path: str) -> bool:
    """Gives the file its name; False when there is one of that name."""
    try:  # with a folder's descriptor the link is followed to the file, which is what is to be named
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
        try:
            os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(folder)
    except FileExistsError:
        return False
    except OSError as error:
        raise SegmentError(f"cannot make {path}: {error.strerror}") from None
    return True


def _remove_stale(fd: int, path: str) -> None:
    """Removes this file, if it still has this name: one process does, and the others that have it open wait."""
    from penstock._core import OPEN_BYTE

    locked(fd, OPEN_BYTE, wait=True)
    found = os.fstat(fd)
    try:
        there = os.stat(path, follow_symlinks=False)
        if (there.st_ino, there.st_dev) == (found.st_ino, found.st_dev):
            os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SegmentError(
            f"cannot remove {path}, which is of before this machine was last started: {error.strerror}"
        ) from None


def _prelude(fd: int, path: str) -> _Prelude:
    """The first bytes of a file of ours; SegmentError for others."""
    start = os.pread(fd, _PRELUDE.size, 0)
    if len(start) != _PRELUDE.size or not start.startswith(MAGIC):
        raise SegmentError(f"{path} is not a penstock segment")
    _, version, count, whole, of, digest = _PRELUDE.unpack(start)
    if version != VERSION:
        raise SegmentError(
            f"{path} is of layout {version}; this penstock speaks {VERSION}. Remove it, or use another name"
        )
    prelude = _Prelude(os.pread(fd, min(count, HEADER_MOST), _PRELUDE.size), whole, of)
    if prelude.digest() != digest or len(prelude.packed) != count:
        raise SegmentError(f"{path} is damaged: its header does not have its digest. Remove it")
    return prelude


def _read(fd: int, path: str, kind: type[Described] = Header) -> Opened:
    """The header of the file, checked against the file and against itself. Raises SegmentError."""
    prelude = _prelude(fd, path)
    size, whole = os.fstat(fd).st_size, prelude.whole
    if size != whole:
        raise SegmentError(f"{path} has {size} bytes and was made with {whole}: it was cut off or grew. Remove it")
    try:
        header = kind.unpacked(prelude.packed)
    except UNREADABLE as error:
        raise SegmentError(f"{path} has a header that this penstock cannot read: {error}. Remove it") from None
    if prelude.start + header.table_bytes() != size:
        raise SegmentError(f"{path} was laid out by another build of penstock. Remove it, or use another name")
    return Opened(fd, prelude.start, header.birth_ns, header)
