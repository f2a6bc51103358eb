# ruff: noqa: E501
"""Families that take rows out of tables and make files of them: look up, select, filter, order, join, to JSON and back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, read, script
from agent.learning.curriculum.checks import every, file_is, file_lines, says
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.tables import Cell, Table, category_of, csv_text, numbers_of, table
from agent.learning.curriculum.task import Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("csv_changes")
CELL = _SAID["cell"]
SELECT = _SAID["select"]
TOTALS = _SAID["totals"]
FILTER = _SAID["filter"]
ORDER = _SAID["order"]
JOIN = _SAID["join"]


def csv_cell(draw: Draw) -> Job:
    """The value of one row in one column."""
    data = table(draw)
    row = draw.any(data.rows)
    columns = [name for name in data.columns if name != data.label]
    column = draw.any(columns)
    name = str(row[data.columns.index(data.label)])
    value = row[data.columns.index(column)]
    code = script(
        "import csv",
        data.rows_in_script,
        "for r in rows:",
        f"    if r[{data.label!r}] == {name!r}:",
        f"        print(r[{column!r}])",
    )

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, f"I look for the row of {name}.")
        return Said(f"The {column} of {name} is {out}.", out)

    return Job(draw.say(CELL, column=column, name=name, file=data.path), files_of(draw, data), says(value), play)


def csv_select(draw: Draw) -> Job:
    """The labels of the rows that pass a test."""
    data = table(draw)
    spoken, test, rows, column = _test(draw, data)
    if not 1 <= len(rows) <= 6 or len(rows) == len(data.rows):
        return csv_select(draw)
    at = data.columns.index(data.label)
    labels = [str(row[at]) for row in rows]
    others = [
        label
        for label in map(str, data.column(data.label))
        if label not in labels and not any(label in x for x in labels)
    ]
    code = script("import csv", data.rows_in_script, f"print(', '.join(r[{data.label!r}] for r in rows if {test}))")

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, f"I select the rows where {column} is {spoken}.")
        return Said(f"These have {column} {spoken}.", out)

    goal = draw.say(SELECT, label=data.label, column=column, test=spoken, file=data.path)
    return Job(goal, files_of(draw, data), says(*labels, never=others), play)


def csv_totals(draw: Draw) -> Job:
    """The total of every category."""
    data = table(draw, least=4, most=9)
    column, category = draw.any(numbers_of(data)), category_of(data)
    totals: dict[str, float] = {}
    for name, number in zip(map(str, data.column(category)), data.numbers(column), strict=True):
        totals[name] = totals.get(name, 0) + number
    convert = "int" if data.whole(column) else "float"
    code = script(
        "import csv",
        data.rows_in_script,
        "totals = {}",
        "for r in rows:",
        f"    totals[r[{category!r}]] = totals.get(r[{category!r}], 0) + {convert}(r[{column!r}])",
        "for name, total in totals.items():",
        f"    print(name, {'total' if data.whole(column) else 'round(total, 2)'})",
    )

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, f"I add up {column} for each {category}.")
        return Said(f"These are the totals by {category}.", out.replace("\n", ", "))

    parts = [f"(?=.*{re.escape(name)}\\W+{_figure(total)})" for name, total in totals.items()]
    check = {"answer": {"matches": r"(?is)\A" + "".join(parts)}}
    return Job(draw.say(TOTALS, column=column, category=category, file=data.path), files_of(draw, data), check, play)


def csv_filter(draw: Draw) -> Job:
    """The rows that pass a test, in a new file."""
    data = table(draw)
    spoken, test, rows, column = _test(draw, data)
    if not rows or len(rows) == len(data.rows):
        return csv_filter(draw)
    target = new_file(draw, data, "csv", ("filtered", "selected", "result", "output", ""))
    said = (
        f"{column} {spoken}"
        if " " in spoken
        else draw.any((f"{column} {spoken}", f"{column} is {spoken}", f"{column} = {spoken}"))
    )
    goal = draw.say(FILTER, file=data.path, test=said, target=target)
    return _rows_job(
        draw,
        data,
        goal,
        target,
        rows,
        [f"rows = [r for r in rows if {test}]"],
        f"I keep the rows where {column} is {spoken}.",
    )


def csv_order(draw: Draw) -> Job:
    """The rows in the order of a column, in a new file."""
    data = table(draw)
    column = draw.any([*numbers_of(data), data.label])
    down = draw.chance(0.4)
    way = (
        draw.any(("from high to low", "descending", "in descending order", "largest first"))
        if down
        else draw.any(("", "ascending", "", "in ascending order"))
    )
    if column == data.label:
        way = "from Z to A" if down else draw.any(("", "alphabetically"))
    at = data.columns.index(column)
    numeric = column != data.label
    rows = sorted(data.rows, key=lambda row: float(row[at]) if numeric else str(row[at]), reverse=down)
    key = f"float(r[{column!r}])" if numeric else f"r[{column!r}]"
    target = new_file(draw, data, "csv", ("sorted", "ranking", "ordered", "result", ""))
    goal = (
        " ".join(draw.say(ORDER, file=data.path, column=column, way=way, target=target).split())
        .replace(" ,", ",")
        .replace(" ;", ";")
    )
    more = ", reverse=True" if down else ""
    return _rows_job(
        draw, data, goal, target, rows, [f"rows.sort(key=lambda r: {key}{more})"], f"I sort the rows by {column}."
    )


def csv_join(draw: Draw) -> Job:
    """A column of a second table, looked up for every row of the first."""
    keys = draw.some(draw.any((names.PRODUCTS, names.FIRST, names.CITIES)), draw.whole(3, 5))
    key = draw.any(("item", "name", "city", "code", "id", "customer"))
    column, own = draw.any(
        (("price", "quantity"), ("email", "total"), ("country", "visits"), ("rate", "hours"), ("size", "count"))
    )
    values = {
        k: draw.email()
        if column == "email"
        else draw.code()
        if column in ("country", "size")
        else f"{draw.amount(1, 90):.2f}"
        for k in keys
    }
    rows = [(draw.any(keys), draw.whole(1, 60)) for _ in range(draw.whole(3, 7))]
    first = draw.path("csv")
    second = draw.new_path([first], "csv")
    target = draw.new_path([first, second], "csv", draw.any(("joined", "merged", "combined", "full", "")))
    code = script(
        "import csv",
        f"rows = list(csv.DictReader(open({first!r})))",
        f"other = {{r[{key!r}]: r for r in csv.DictReader(open({second!r}))}}",
        "for r in rows:",
        f"    r.update(other[r[{key!r}]])",
        *writing_lines(target),
    )

    def play(_: str) -> Play:
        yield from read(first)
        yield from read(second, f"I read {second} as well.")
        out = yield from compute(code, f"I join both tables on {key}.")
        return Said(f"The script wrote {out} rows.", f"Wrote {out} rows to {target}.")

    files = {first: csv_text((key, own), rows), second: csv_text((key, column), list(values.items()))}
    wanted = csv_text((key, own, column), [(k, n, values[k]) for k, n in rows]).splitlines()
    goal = draw.say(JOIN, first=first, second=second, key=key, column=column, target=target)
    return Job(goal, files | draw.clutter([first, second, target], 2), file_lines(target, wanted), play)


def _test(draw: Draw, data: Table) -> tuple[str, str, list[tuple[Cell, ...]], str]:
    """A test of rows: in words, in Python, the rows that pass, and the column."""
    if draw.chance(0.5):
        column = category_of(data)
        value = str(draw.any(data.column(column)))
        rows = [row for row in data.rows if row[data.columns.index(column)] == value]
        return value, f"r[{column!r}] == {value!r}", rows, column
    column = draw.any(numbers_of(data))
    numbers = sorted(data.numbers(column))
    limit = round(numbers[draw.whole(1, len(numbers) - 2)])
    above = draw.chance(0.6)
    spoken = draw.any(
        ("over {}", "above {}", "greater than {}", "of more than {}", "higher than {}")
        if above
        else ("under {}", "below {}", "less than {}", "of less than {}", "lower than {}")
    )
    at = data.columns.index(column)
    rows = [row for row in data.rows if (float(row[at]) > limit if above else float(row[at]) < limit)]
    return spoken.format(limit), f"float(r[{column!r}]) {'>' if above else '<'} {limit}", rows, column


def _rows_job(
    draw: Draw, data: Table, goal: str, target: str, rows: Sequence[Sequence[Cell]], work: Sequence[str], why: str
) -> Job:
    code = script("import csv", data.rows_in_script, *work, *writing_lines(target))

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, why)
        return Said(f"The script wrote {out} rows.", f"Wrote {out} rows to {target}.")

    wanted = {
        "any": [
            file_lines(target, csv_text(data.columns, rows, d).splitlines())
            for d in dict.fromkeys((",", data.delimiter))
        ]
    }
    check = every(wanted, file_is(data.path, data.text))
    return Job(goal, files_of(draw, data, target), check, play)


def writing_lines(target: str) -> list[str]:
    """The lines of a script that write `rows` as CSV."""
    return [
        *folder_lines(target),
        f"with open({target!r}, 'w', newline='') as f:",
        "    writer = csv.DictWriter(f, rows[0].keys())",
        "    writer.writeheader()",
        "    writer.writerows(rows)",
        "print(len(rows))",
    ]


def folder_lines(target: str) -> list[str]:
    folder = target.rpartition("/")[0]
    return ["import os", f"os.makedirs({folder!r}, exist_ok=True)"] if folder else []


def new_file(draw: Draw, data: Table, extension: str, stems: Sequence[str]) -> str:
    return draw.new_path([data.path], extension, draw.any(stems))


def files_of(draw: Draw, data: Table, target: str = "") -> dict[str, str]:
    return {data.path: data.text} | draw.clutter([data.path, target])


def _figure(value: float) -> str:
    from agent.learning.curriculum.checks import number_pattern

    return number_pattern(round(value, 2))


FAMILIES = (
    Family("csv_cell", "one cell of a CSV file", csv_cell, answers=True, weight=1.2),
    Family("csv_select", "the names of rows that pass a test", csv_select, answers=True, weight=1.3),
    Family("csv_totals", "the total of every group", csv_totals, answers=True, weight=1.2),
    Family("csv_filter", "rows that pass a test, in a new file", csv_filter, weight=1.2),
    Family("csv_order", "rows in order, in a new file", csv_order, weight=1.5),
    Family("csv_join", "two CSV files joined", csv_join, weight=1.2),
)
