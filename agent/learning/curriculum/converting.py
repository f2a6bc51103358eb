"""Families about JSON: a CSV file as JSON and back, a count or a sum over a JSON list."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from agent.learning.curriculum.acting import compute, read, script
from agent.learning.curriculum.checks import every, file_is, file_lines, says
from agent.learning.curriculum.csv_changes import files_of, folder_lines, new_file, writing_lines
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.tables import Cell, csv_text, numbers_of, table
from agent.learning.curriculum.task import Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("converting")
TO_JSON = _SAID["to_json"]
TO_CSV = _SAID["to_csv"]
JSON_COUNT = _SAID["json_count"]
JSON_SUM = _SAID["json_sum"]


def csv_to_json(draw: Draw) -> Job:
    """A CSV file as a JSON list of objects."""
    data = table(draw, most=7)
    target = new_file(draw, data, "json", (data.path.rpartition("/")[2].removesuffix(".csv"), "output", "data", ""))
    code = script(
        "import csv",
        "import json",
        data.rows_in_script,
        *folder_lines(target),
        f"json.dump(rows, open({target!r}, 'w'), indent=2)",
        "print(len(rows))",
    )

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, f"I convert {data.path} with a script.")
        return Said(f"The script wrote {out} rows.", f"Wrote {out} rows to {target}.")

    check = every(_json_rows(target, data.columns, data.rows), file_is(data.path, data.text))
    return Job(draw.say(TO_JSON, file=data.path, target=target), files_of(draw, data, target), check, play)


def json_to_csv(draw: Draw) -> Job:
    """A JSON list of objects as a CSV file."""
    data = table(draw, most=6)
    path = data.path.removesuffix(".csv") + ".json"
    target = draw.new_path(
        [path], "csv", draw.any((path.rpartition("/")[2].removesuffix(".json"), "output", "table", ""))
    )
    rows = [dict(zip(data.columns, row, strict=True)) for row in data.rows]
    code = script("import csv", "import json", f"rows = json.load(open({path!r}))", *writing_lines(target))

    def play(_: str) -> Play:
        yield from read(path)
        out = yield from compute(code, f"I convert {path} with a script.")
        return Said(f"The script wrote {out} rows.", f"Wrote {out} rows to {target}.")

    files = {path: _json(draw, rows)} | draw.clutter([path, target])
    wanted = csv_text(data.columns, data.rows).splitlines()
    return Job(draw.say(TO_CSV, file=path, target=target), files, file_lines(target, wanted), play)


def json_figure(draw: Draw) -> Job:
    """How many objects a JSON list has, or the total of one of their numbers."""
    data = table(draw, most=7)
    path = data.path.removesuffix(".csv") + ".json"
    rows = [dict(zip(data.columns, row, strict=True)) for row in data.rows]
    if draw.chance(0.5):
        goal, value = draw.say(JSON_COUNT, file=path), len(rows)
        last, why = "print(len(rows))", "I count the entries with a script."
    else:
        column = draw.any(numbers_of(data))
        goal, value = draw.say(JSON_SUM, file=path, column=column), round(sum(data.numbers(column)), 2)
        total = f"sum(r[{column!r}] for r in rows)"
        last, why = (
            f"print({total if data.whole(column) else f'round({total}, 2)'})",
            f"I add up {column} with a script.",
        )
    code = script("import json", f"rows = json.load(open({path!r}))", last)

    def play(_: str) -> Play:
        yield from read(path)
        out = yield from compute(code, why)
        return Said(f"The script printed {out}.", out)

    return Job(goal, {path: _json(draw, rows)} | draw.clutter([path]), says(value), play)


def _json(draw: Draw, rows: Sequence[object]) -> str:
    if draw.chance(0.5):
        return "[\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]\n"
    return json.dumps(rows, indent=1 if len(rows) > 4 else 2) + "\n"


def _json_rows(path: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> dict[str, object]:
    """The file is a JSON list of these rows, numbers as numbers or as texts."""
    objects = [
        r"\s*,\s*".join(f'"{re.escape(c)}"\\s*:\\s*"?{re.escape(str(v))}"?' for c, v in zip(columns, row, strict=True))
        for row in rows
    ]
    body = r"\s*,\s*".join(rf"\{{\s*{one}\s*\}}" for one in objects)
    return {"file": path, "matches": rf"\A\s*\[\s*{body}\s*\]\s*\Z"}


FAMILIES = (
    Family("csv_to_json", "CSV as JSON", csv_to_json, weight=0.8),
    Family("json_to_csv", "JSON as CSV", json_to_csv),
    Family("json_figure", "a count or a sum over JSON", json_figure, answers=True),
)
