"""What the catalogue holds, as the rest of the memory sees it: rows, what decides their rank, and filters on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.types import MemoryKind, MemoryRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FIELDS = "key, id, text, kind, origin, session, step, goal, created, importance, last_seen, count, recalled, vector"
"""The columns that `row_of` takes."""


@dataclass(frozen=True)
class Row:
    """One record of the index with what folding and use have added to it."""

    key: int
    record: MemoryRecord
    last_seen: float
    """Unix time, seconds, of the latest record that folded into this one."""
    count: int
    """How many records say this."""
    recalled: int
    """How many sessions were shown it before one of their steps."""
    vector: bytes
    """float16 little-endian [dimensions]."""


class Place(NamedTuple):
    """What decides the rank of a record, without its text."""

    key: int
    kind: MemoryKind
    session: str
    step: int
    importance: float
    last_seen: float
    """Unix time, seconds, of the latest record that folded into this one."""
    chars: int
    """How long its text is."""
    vector: bytes
    """float16 little-endian [dimensions]."""


@dataclass(frozen=True)
class Filter:
    """Which records a search may bring back."""

    kinds: frozenset[MemoryKind] | None = None
    session: str | None = None
    exclude_session: str | None = None

    def sql(self) -> tuple[str, tuple[object, ...]]:
        """A condition on `records`, `1` when everything may come back, and its values."""
        parts: list[str] = []
        values: list[object] = []
        if self.kinds is not None:
            parts.append(f"records.kind IN ({','.join('?' * len(self.kinds))})")
            values.extend(sorted(self.kinds))
        if self.session is not None:
            parts.append("records.key IN (SELECT record FROM members WHERE session = ?)")
            values.append(self.session)
        if self.exclude_session is not None:
            parts.append("EXISTS (SELECT 1 FROM members WHERE record = records.key AND session <> ?)")
            values.append(self.exclude_session)
        return " AND ".join(parts) or "1", tuple(values)


def pack(vectors: NDArray[np.float32]) -> list[bytes]:
    """Vectors as they are kept: half precision loses less than the int8 model has left uncertain, at half the size."""
    return [row.tobytes() for row in vectors.astype("<f2")]


def matrix(vectors: Sequence[bytes]) -> NDArray[np.float32]:
    """float32 [len(vectors), dimensions]."""
    import numpy as np

    return np.frombuffer(b"".join(vectors), "<f2").reshape(len(vectors), -1).astype(np.float32)


def shown_fields(r: MemoryRecord) -> tuple[object, ...]:
    """A record's columns, from `id` to `importance`."""
    return (r.id, r.text, r.kind, r.origin, r.session, r.step, r.goal, r.created, r.importance)


def row_of(fields: Sequence[Any]) -> Row:
    """The row with these `FIELDS`."""
    key, ident, text, kind, origin, session, step, goal, created, importance, last_seen, count, recalled, vector = (
        fields
    )
    record = MemoryRecord(ident, text, kind, origin, session, step, goal, created, importance)
    return Row(key, record, last_seen, count, recalled, vector)
