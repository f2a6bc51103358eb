"""What a person is shown of memory: records, search results with the parts of their scores, counts, comparisons."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from agent.sanitize import for_terminal
from agent.types import MemoryRecord, Recalled, ago
from agent.view.lines import one_line

if TYPE_CHECKING:
    from memory.derivation import Verification
    from memory.documents import Added
    from memory.overview import Stats
    from memory.rows import Row

_TEXT_CHARS = 400
_SHOWN_IDS = 10
_PARTS = (
    "dense: likeness of meaning; lexical: the query's words; neighbour: beside another hit; redundancy: said above"
    " already; docs/memory.md has the weights"
)


def show_rows(rows: Iterable[Row], stream: TextIO, *, as_json: bool = False) -> None:
    """One line for each record: id, time, how often it was said and recalled, origin, text."""
    from memory.overview import row_data

    for row in rows:
        if as_json:
            print(json.dumps(row_data(row)), file=stream)
            continue
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.record.created))
        uses = f"said {row.count}x, recalled {row.recalled}x"
        print(f"{_id(row.record)}  {when}  {uses:<24} {_origin(row.record)}: {one_line(row.record.text)}", file=stream)


def show_found(found: Sequence[Recalled], stream: TextIO, *, as_json: bool = False) -> None:
    """The records of a search, best first, each with its origin, its age and the sum that its score is."""
    from memory.record import trust

    if as_json:
        for hit in found:
            scored = {"score": hit.score, "parts": dict(hit.parts), "trust": trust(hit.record.origin)}
            print(json.dumps(asdict(hit.record) | scored), file=stream)
        return
    for place, hit in enumerate(found, start=1):
        age = ago(time.time() - hit.record.created)
        print(f"{place}. {_origin(hit.record)}, {age}  [{_id(hit.record)}]", file=stream)
        for line in _cut(for_terminal(hit.record.text)).splitlines():
            print(f"     {line}", file=stream)
        print(f"   {hit.score:.3f} = {_sum(hit.parts)}", file=stream)
    if found:
        print(_PARTS, file=stream)


def show_documents(paths: Sequence[str], stream: TextIO, *, as_json: bool = False) -> None:
    for path in paths:
        print(json.dumps({"path": path}) if as_json else for_terminal(path), file=stream)


def show_added(added: Added, stream: TextIO, *, as_json: bool = False) -> None:
    """What became of the files that were to be indexed."""
    if as_json:
        print(json.dumps(asdict(added)), file=stream)
        return
    for path, reason in added.skipped:
        print(f"left out: {for_terminal(path)}: {for_terminal(reason)}", file=stream)
    print(
        f"{len(added.added)} file(s) indexed in {added.passages} passages, {len(added.unchanged)} unchanged, "
        f"{len(added.skipped)} left out",
        file=stream,
    )


def show_stats(stats: Stats, stream: TextIO, *, as_json: bool = False) -> None:
    if as_json:
        print(json.dumps(asdict(stats) | {"folder": str(stats.folder)}), file=stream)
        return
    rows = {
        "records": f"{stats.records}, said {stats.said} times, recalled {stats.recalled} times",
        "kinds": _counts(stats.kinds),
        "origins": _counts(stats.origins),
        "sessions": str(stats.sessions),
        "documents": str(stats.documents),
        "oldest": "none" if stats.oldest is None else ago(time.time() - stats.oldest),
        "newest": "none" if stats.newest is None else ago(time.time() - stats.newest),
        "size": f"{stats.bytes / 2**20:.1f} MiB in {stats.folder}",
        "embedder": stats.embedder,
    }
    for name, value in rows.items():
        print(for_terminal(f"{name:<10} {value}"), file=stream)


def show_verification(found: Verification, stream: TextIO, *, as_json: bool = False) -> None:
    """Whether memory is what the journals say, and the ids of the records that are not."""
    if as_json:
        print(json.dumps({"ok": found.ok} | asdict(found)), file=stream)
        return
    if found.ok:
        print(f"{found.records} records, each as the journals and documents say", file=stream)
        return
    kinds = {
        "missing": found.missing,
        "in no journal or document": found.unexpected,
        "not as the journals say": found.different,
        "with a wrong vector": found.wrong_vectors,
    }
    for name, ids in kinds.items():
        if ids:
            more = f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
            print(for_terminal(f"{len(ids)} {name}: {', '.join(ids[:_SHOWN_IDS])}{more}"), file=stream)
    print("`memory rebuild` makes it anew", file=stream)


def _origin(record: MemoryRecord) -> str:
    """`note by model in session 2026…, step 3`; a document's passage tells its file and lines in the text itself."""
    if record.kind == "document":
        return f"document by {for_terminal(record.origin)}"
    place = f"in session {record.session}, step {record.step}"
    return for_terminal(f"{record.kind} by {record.origin} {place}")


def _id(record: MemoryRecord) -> str:
    return for_terminal(record.id[:12])


def _sum(parts: Mapping[str, float]) -> str:
    """`dense .412 + lexical .300 - redundancy .031`; parts worth nothing are left out."""
    text = ""
    for name, value in parts.items():
        if abs(value) >= 0.0005:
            sign = "-" if value < 0 else "+"
            text += f" {sign} {for_terminal(name)} {abs(value):.3f}" if text else f"{for_terminal(name)} {value:.3f}"
    return text or "0"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_CHARS else f"{text[:_TEXT_CHARS]}… (`--json` has all of it)"
