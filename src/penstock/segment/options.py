"""Segment: which file limiters share, and who may."""

from __future__ import annotations

import os

from penstock.errors import shown

FOLDER = "/dev/shm"
NAME_MOST = 100


class Segment:
    """Which file limiters share, and who may.

    name: what the processes of one user share by; the file is then /dev/shm/penstock-USER-NAME, USER a number. path: a
    file elsewhere, best on a file system in memory; one of the two. group: whether members of the file's group may use
    it too (mode 0660 instead of 0600); that takes a path. Raises ValueError for a name with other characters than
    letters, digits, ".", "-" and "_".
    """

    __slots__ = ("group", "path")

    def __init__(
        self, name: str | None = None, *, path: str | os.PathLike[str] | None = None, group: bool = False
    ) -> None:
        if (name is None) == (path is None):
            raise ValueError("a segment needs a name or a path, and not both")
        if not isinstance(group, bool):
            raise TypeError(f"group must be a bool, not {type(group).__name__}")
        if group and name is not None:
            raise ValueError("a name is one user's own; a segment for a group needs a path that all its members use")
        self.group = group
        self.path = path_of(name) if path is None else os.path.abspath(os.fsdecode(path))

    def __repr__(self) -> str:
        return f"Segment(path={self.path!r}" + (", group=True)" if self.group else ")")


def path_of(name: str | None) -> str:
    """Where the segment of this name is for this user."""
    if not isinstance(name, str):
        raise TypeError(f"a segment's name must be a str, not {type(name).__name__}")
    legal = 1 <= len(name) <= NAME_MOST and all(c.isascii() and (c.isalnum() or c in ".-_") for c in name)
    if not legal:
        raise ValueError(
            f'a segment\'s name has 1 to {NAME_MOST} letters, digits, ".", "-" and "_", unlike {shown(name)}; for'
            " a file of your own say shared=Segment(path=…)"
        )
    return f"{FOLDER}/penstock-{os.geteuid() if hasattr(os, 'geteuid') else 0}-{name}"


def read_shared(shared: str | os.PathLike[str] | Segment) -> Segment:
    """What `Limiter(shared=…)` was given, as a Segment."""
    if isinstance(shared, Segment):
        return shared
    if isinstance(shared, str):
        return Segment(shared)
    if isinstance(shared, os.PathLike):
        return Segment(path=shared)
    raise TypeError(f"shared must be a name, a path or a Segment, not {type(shared).__name__}")
