"""Where goals come from: JSON lines, JSON, CSV with a template, a folder of those, or standard input."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from agent.types import JSON, WhetstoneError

SUFFIXES = (".jsonl", ".json", ".csv")
_PLACEHOLDER = re.compile(r"\{([^{}\n]{1,80})\}")


@dataclass(frozen=True)
class Place:
    """Where a row stands: its name for a person, the id it has if it gives none, the folder its paths start from."""

    name: str
    id: str
    folder: Path


Given = tuple[Place, Callable[[], JSON]]
"""A goal as it was given; calling it raises WhetstoneError where it cannot be read."""


def given_goals(source: Path | str, template: str | None) -> Iterator[Given]:
    """The goals of a source (see `agent.goalfile.read_goals`), not yet judged.

    Raises WhetstoneError for a source that cannot be read at all, and for a template where nothing of it is CSV.
    """
    if str(source) == "-":
        _refuse_unused(template, "standard input")
        yield from _lines(sys.stdin.buffer.read(), "standard input", "goal", Path.cwd())
        return
    path = Path(source).expanduser()
    if not path.is_dir():
        if path.suffix.lower() != ".csv":
            _refuse_unused(template, str(path))
        yield from _file(path, template)
        return
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise WhetstoneError(f"the folder {path} holds no goal files: they end in {', '.join(SUFFIXES)}")
    if all(file.suffix.lower() != ".csv" for file in files):
        _refuse_unused(template, f"the folder {path}")
    for file in files:
        yield from _file(file, template)


def _refuse_unused(template: str | None, name: str) -> None:
    if template is not None:
        raise WhetstoneError(
            f"a template makes goals of CSV rows and {name} has none: leave --template out, or give a .csv file"
        )


def _file(path: Path, template: str | None) -> Iterator[Given]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise WhetstoneError(f"the goals {path} cannot be read: {error.strerror}") from error
    folder = path.absolute().parent
    if path.suffix.lower() == ".csv":
        yield from _csv(_text(raw, str(path)), path, folder, template)
    elif path.suffix.lower() == ".json":
        whole = _json(raw, str(path))
        for number, item in enumerate(cast("list[JSON]", whole) if isinstance(whole, list) else [whole], start=1):
            yield Place(f"{path}, goal {number}", f"{path.stem}-{number}", folder), partial(_itself, item)
    else:
        yield from _lines(raw, str(path), path.stem, folder)


def _lines(raw: bytes, name: str, stem: str, folder: Path) -> Iterator[Given]:
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            place = Place(f"{name}, line {number}", f"{stem}-{number}", folder)
            yield place, partial(_json, line, "the line")


def _csv(text: str, path: Path, folder: Path, template: str | None) -> Iterator[Given]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = reader.fieldnames or []
    if template is None and "goal" not in columns:
        raise WhetstoneError(
            f"{path} has no column 'goal': give the goal's text with --template, as in --template 'Describe {{name}}'"
        )
    try:
        for number, record in enumerate(reader, start=1):
            place = Place(f"{path}, line {reader.line_num}", f"{path.stem}-{number}", folder)
            yield place, partial(_from_cells, cast("dict[str | None, Any]", record), template)
    except csv.Error as error:
        raise WhetstoneError(f"{path} is not CSV at line {reader.line_num}: {error}") from error


def _from_cells(record: Mapping[str | None, Any], template: str | None) -> JSON:
    """A row out of a CSV record. Without a template the columns are the row's fields, those with structure as JSON."""
    if None in record:
        raise WhetstoneError(f"it has more cells than columns ({record[None][0]!r} is too many): quote commas")
    cells = {key: str(value or "") for key, value in record.items() if key}
    if template is None:
        structured = ("files", "check", "answer_schema", "budget", "tags", "remembered", "seed")
        return {
            key: _json(cell.encode(), f"the column {key!r}") if key in structured else cell
            for key, cell in cells.items()
            if cell.strip()
        }
    try:
        row = json.loads(template)
    except ValueError:
        row = template
    filled = _filled(row if isinstance(row, dict) else {"goal": template}, cells)
    return ({"id": cells["id"]} if cells.get("id") else {}) | filled


def _itself(item: JSON) -> JSON:
    return item


def _filled(value: JSON, cells: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {_filled(key, cells): _filled(item, cells) for key, item in cast("dict[str, JSON]", value).items()}
    if isinstance(value, list):
        return [_filled(item, cells) for item in cast("list[JSON]", value)]
    if not isinstance(value, str):
        return value

    def cell(found: re.Match[str]) -> str:
        if found[1] not in cells:
            raise WhetstoneError(f"the template names {{{found[1]}}} and the columns are {', '.join(cells)}")
        return cells[found[1]]

    return _PLACEHOLDER.sub(cell, value)


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WhetstoneError(f"{name} is not UTF-8 text: save it as UTF-8") from error


def _json(raw: bytes, name: str) -> JSON:
    def refuse(word: str) -> JSON:
        raise ValueError(f"{word} is not a JSON value")

    try:
        return json.loads(_text(raw, name), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise WhetstoneError(f"{name} is not valid JSON: {error}") from error
