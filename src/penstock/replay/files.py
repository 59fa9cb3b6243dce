"""Opens log files, plain or compressed, or standard input, and reads them as blocks of whole lines."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from penstock.errors import PenstockError

BLOCK = 1 << 18
"""Bytes read at a time. A line longer than two blocks loses its middle, so that no file can fill the memory."""

Errors = tuple[type[Exception], ...]


class UnreadableFile(PenstockError):
    """A file that cannot be opened, decompressed or understood. name: as the user gave it."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"{name}: {reason}")

    def __reduce__(self) -> tuple[type[UnreadableFile], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class LogFile:
    """One source of lines, open inside `with`. path "-" is standard input. Raises UnreadableFile throughout."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == "-" else path
        self._given = 0

    def __enter__(self) -> LogFile:
        if self.path == "-" and sys.stdin is None:
            raise UnreadableFile(self.name, "it is closed")
        try:
            self._raw: io.BufferedReader = sys.stdin.buffer if self.path == "-" else open(self.path, "rb")  # type: ignore[assignment]
            self.size = os.fstat(self._raw.fileno()).st_size
        except (OSError, ValueError) as error:
            raise UnreadableFile(self.name, _reason(error)) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self.path != "-":
            self._raw.close()

    def position(self) -> int:
        """Bytes read so far of the `size` that the file has on the disk; of a pipe, with size 0, bytes given out."""
        return self._raw.tell() if self._raw.seekable() else self._given

    def blocks(self) -> Iterator[bytes]:
        """Whole lines, each ended by a newline, without the byte order mark that some files begin with."""
        carry, first = b"", True
        for data in self._read():
            cut = data.rfind(b"\n") + 1
            if cut:
                block = carry + data[:cut]
                yield block.removeprefix(b"\xef\xbb\xbf") if first else block
                carry, first = data[cut:], False
            elif len(carry) < BLOCK:
                carry += data
            elif first:
                raise UnreadableFile(self.name, f"not a log: no line ends in its first {len(carry):,} bytes")
        if carry:
            yield carry.removeprefix(b"\xef\xbb\xbf") + b"\n" if first else carry + b"\n"

    def _read(self) -> Iterator[bytes]:
        """Pieces of at least BLOCK bytes, but for the last; what comes before damage is given out before the error."""
        errors: Errors = (OSError, EOFError)
        pieces: list[bytes] = []
        size = 0
        try:
            stream, errors = self._decompressed()
            while piece := stream.read1(BLOCK):
                pieces.append(piece)
                size += len(piece)
                if size >= BLOCK:
                    self._given += size
                    yield b"".join(pieces)
                    pieces, size = [], 0
        except errors as error:
            yield b"".join(pieces)
            raise UnreadableFile(self.name, _reason(error)) from error
        yield b"".join(pieces)

    def _decompressed(self) -> tuple[Any, Errors]:
        """What to read from, chosen by the first bytes and not by the name, and the errors of damaged data."""
        raw, magic = self._raw, self._raw.peek(6)[:6]
        if magic.startswith(b"\x1f\x8b"):
            gzip, zlib = import_module("gzip"), import_module("zlib")
            return gzip.GzipFile(fileobj=raw), (OSError, EOFError, zlib.error)
        if magic.startswith(b"BZh"):
            return import_module("bz2").BZ2File(raw), (OSError, EOFError)
        if magic == b"\xfd7zXZ\0":
            lzma = import_module("lzma")
            return lzma.LZMAFile(raw), (OSError, EOFError, lzma.LZMAError)
        if magic.startswith(b"\x28\xb5\x2f\xfd"):
            return self._zstandard()
        return raw, (OSError,)

    def _zstandard(self) -> tuple[Any, Errors]:
        for module in ("compression.zstd", "zstandard"):  # the first comes with Python 3.14
            try:
                zstd = import_module(module)
            except ImportError:
                continue
            if module == "zstandard":
                return _Frames(self._raw, zstd.ZstdDecompressor()), (OSError, EOFError, zstd.ZstdError)
            return zstd.ZstdFile(self._raw), (OSError, EOFError, zstd.ZstdError)
        raise UnreadableFile(self.name, "compressed with Zstandard: needs Python 3.14 or `pip install penstock[zstd]`")


class _Frames:
    """All frames of a Zstandard file. The module's own readers end quietly where the last frame is cut off."""

    def __init__(self, raw: io.BufferedReader, decompressor: Any) -> None:
        self._raw = raw
        self._decompressor = decompressor
        self._frame: Any = None
        self._rest = b""

    def read1(self, _: int) -> bytes:
        """The next bytes, however many; empty at the end. Takes in little at a time: a frame may be all one byte."""
        while True:
            data = self._rest or self._raw.read(4096)
            if not data:
                if self._frame is not None:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
                return b""
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            text: bytes = self._frame.decompress(data)
            self._rest = b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
            if text:
                return text


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
