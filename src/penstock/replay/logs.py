"""Reads log files of every kind into a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from penstock.replay.clf import ClfReader, has_host, looks_common
from penstock.replay.columns import names_a_time
from penstock.replay.files import LogFile, UnreadableFile
from penstock.replay.keys import Part
from penstock.replay.reader import Reader
from penstock.replay.rows import CsvReader, JsonReader, header_of
from penstock.replay.trace import Trace
from penstock.replay.wording import printable

FORMATS = ("auto", "combined", "common", "vhost", "json", "csv")
SAMPLE = 2000
"""Lines at the beginning of a file, as far as its first block has them, that tell its format and its fields."""

Watch = Callable[[int, int], None]
"""Told how many bytes of how many (0: unknown) are read, after each block."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How files are to be read. parts: the key's fields; named: field -> column of JSON and CSV, as the user says."""

    parts: Sequence[Part]
    format: str = "auto"
    named: Mapping[str, str] = field(default_factory=dict)


def read_file(path: str, manner: Manner, trace: Trace, watch: Watch) -> None:
    """Reads one file into the trace. Raises UnreadableFile or FieldError; what was read until then stays."""
    with LogFile(path) as file:
        read_blocks(file.name, file.blocks(), manner, trace, lambda: watch(file.position(), file.size))


def read_blocks(name: str, blocks: Iterable[bytes], manner: Manner, trace: Trace, watch: Callable[[], None]) -> None:
    """Reads blocks of whole lines, all of one format."""
    reader: Reader | None = None
    for block in blocks:
        if reader is None and not block.strip():
            trace.add_blank(block.count(b"\n"))
            continue
        if reader is None:
            reader = open_reader(name, block, manner, trace)
        reader.read(block)
        watch()


def open_reader(name: str, block: bytes, manner: Manner, trace: Trace) -> Reader:
    """A reader for a file that begins with `block`, which is not blank. Raises UnreadableFile for no known format."""
    sample = [line for line in block.lstrip().split(b"\n", SAMPLE)[:SAMPLE] if line.strip()]
    format = _guess(sample, manner.named) if manner.format == "auto" else manner.format
    match format:
        case "json":
            return JsonReader(name, trace, sample, manner.parts, manner.named)
        case "csv":
            return CsvReader(name, trace, sample, manner.parts, manner.named)
        case "combined" | "common" | "vhost":
            return ClfReader(name, trace, sample, manner.parts, vhost=format == "vhost")
    raise UnreadableFile(
        name, f"not an access log in a known format (see --format); it begins with {printable(sample[0], 60)}"
    )


def _guess(sample: Sequence[bytes], named: Mapping[str, str]) -> str:
    """The format that most lines have, as far as they have any; CSV shows by its header alone."""
    common = sum(map(looks_common, sample))
    objects = sum(line.lstrip().startswith(b"{") and line.rstrip().endswith(b"}") for line in sample)
    if objects > common:
        return "json"
    if common:
        return "vhost" if has_host(sample) else "combined"
    if sample and names_a_time(header_of(sample[0]), named):
        return "csv"
    return "unknown"
