"""Families that compute a figure from a CSV file: sum, mean, extremes, count, group."""

from __future__ import annotations

from agent.learning.curriculum.acting import compute, read, script
from agent.learning.curriculum.checks import says
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.tables import Table, category_of, numbers_of, table
from agent.learning.curriculum.task import Family, Job, Play, Said
from agent.learning.curriculum.wording import Wording, wordings

_SAID = wordings("csv_figures")
SUM = _SAID["sum"]
MEAN = _SAID["mean"]
EXTREME = _SAID["extreme"]
COUNT = _SAID["count"]
ROWS = _SAID["rows"]
GROUP = _SAID["group"]
PER_GROUP = _SAID["per_group"]
MOST = {"max": ("highest", "largest", "biggest", "greatest", "highest"), "min": ("lowest", "smallest", "lowest")}


def csv_sum(draw: Draw) -> Job:
    return _figure(draw, SUM, "sum", "I add up {column} with a script.", "The sum of {column} is {answer}.")


def csv_mean(draw: Draw) -> Job:
    return _figure(
        draw, MEAN, "mean", "I compute the average {column} with a script.", "The average {column} is {answer}."
    )


def csv_extreme(draw: Draw) -> Job:
    """The label of the row with the largest or smallest number."""
    data = table(draw)
    column, most = draw.any(numbers_of(data)), draw.any(("max", "max", "min"))
    goal = draw.say(EXTREME, label=data.label, most=draw.any(MOST[most]), column=column, file=data.path)
    best = (max if most == "max" else min)(data.numbers(column))
    answer = str(data.column(data.label)[data.numbers(column).index(best)])
    code = script(
        "import csv",
        data.rows_in_script,
        f"best = {most}(rows, key=lambda r: float(r[{column!r}]))",
        f"print(best[{data.label!r}], best[{column!r}])",
    )
    others = [str(label) for label in data.column(data.label) if str(label) not in answer]

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, f"I find the row with the {most} {column}.")
        return Said(f"{answer} has {column} {out.rpartition(' ')[2]}.", answer)

    return Job(goal, _files(draw, data), says(answer, never=others), play)


def csv_count(draw: Draw) -> Job:
    """How many rows have a value in a column, or how many there are at all."""
    data = table(draw, most=14)
    column = category_of(data)
    value = str(draw.any(data.column(column)))
    if draw.chance(0.25):
        goal = draw.say(ROWS, file=data.path, label=data.label)
        code, count = script("import csv", data.rows_in_script, "print(len(rows))"), len(data.rows)
        why = "I count the rows with a script."
    else:
        goal = draw.say(COUNT, column=column, value=value, file=data.path)
        code = script("import csv", data.rows_in_script, f"print(sum(r[{column!r}] == {value!r} for r in rows))")
        count = data.column(column).count(value)
        why = f"I count the rows where {column} is {value}."

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, why)
        return Said(f"The script counted {out}.", out)

    return Job(goal, _files(draw, data), says(count), play)


def csv_group(draw: Draw) -> Job:
    """The category with the largest or smallest total."""
    data = table(draw, least=5)
    column, category = draw.any(numbers_of(data)), category_of(data)
    most = draw.any(("max", "max", "min"))
    totals: dict[str, float] = {}
    for name, number in zip(data.column(category), data.numbers(column), strict=True):
        totals[str(name)] = totals.get(str(name), 0) + number
    best = (max if most == "max" else min)(totals, key=lambda name: totals[name])
    if sorted(round(t, 2) for t in totals.values()).count(round(totals[best], 2)) > 1:
        return csv_group(draw)
    goal = draw.say(GROUP, category=category, most=draw.any(MOST[most]), column=column, file=data.path)
    code = script(
        "import csv",
        data.rows_in_script,
        "totals = {}",
        "for r in rows:",
        f"    totals[r[{category!r}]] = totals.get(r[{category!r}], 0) + float(r[{column!r}])",
        f"best = {most}(totals, key=totals.get)",
        "print(best, round(totals[best], 2))",
    )

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, f"I add up {column} for each {category}.")
        return Said(f"{best} has a total {column} of {out.rpartition(' ')[2]}.", best)

    others = [name for name in totals if name not in best]
    return Job(goal, _files(draw, data), says(best, never=others), play)


def csv_part_sum(draw: Draw) -> Job:
    """The total of one category."""
    data = table(draw, least=5)
    column, category = draw.any(numbers_of(data)), category_of(data)
    value = str(draw.any(data.column(category)))
    pairs = zip(data.column(category), data.numbers(column), strict=True)
    total = round(sum(number for name, number in pairs if name == value), 2)
    goal = draw.say(PER_GROUP, column=column, category=category, value=value, file=data.path)
    code = script(
        "import csv",
        data.rows_in_script,
        f"total = sum({_number(data, column)} for r in rows if r[{category!r}] == {value!r})",
        f"print({'total' if data.whole(column) else 'round(total, 2)'})",
    )

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, f"I add up {column} where {category} is {value}.")
        return Said(f"The total {column} of {value} is {out}.", out)

    return Job(goal, _files(draw, data), says(total), play)


def _figure(draw: Draw, wording: Wording, figure: str, why: str, thus: str) -> Job:
    data = table(draw)
    column = draw.any(numbers_of(data))
    numbers = data.numbers(column)
    value = sum(numbers) / (len(numbers) if figure == "mean" else 1)
    total = "total" if data.whole(column) else "round(total, 2)"
    code = script(
        "import csv",
        data.rows_in_script,
        f"total = sum({_number(data, column)} for r in rows)",
        f"print({total if figure == 'sum' else 'round(total / len(rows), 2)'})",
    )

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, why.format(column=column))
        return Said(thus.format(column=column, answer=out), out)

    goal = draw.say(wording, column=column, file=data.path)
    return Job(goal, _files(draw, data), says(round(value, 2) if figure == "sum" else value), play)


def _number(data: Table, column: str) -> str:
    return f"{'int' if data.whole(column) else 'float'}(r[{column!r}])"


def _files(draw: Draw, data: Table) -> dict[str, str]:
    return {data.path: data.text} | draw.clutter([data.path])


FAMILIES = (
    Family("csv_sum", "the sum of a CSV column", csv_sum, answers=True, weight=1.3),
    Family("csv_mean", "the mean of a CSV column", csv_mean, answers=True),
    Family("csv_extreme", "the row with the largest or smallest number", csv_extreme, answers=True, weight=1.2),
    Family("csv_count", "how many CSV rows have a value", csv_count, answers=True, weight=1.2),
    Family("csv_group", "the group with the largest or smallest total", csv_group, answers=True, weight=1.2),
    Family("csv_part_sum", "the total of one group", csv_part_sum, answers=True),
)
