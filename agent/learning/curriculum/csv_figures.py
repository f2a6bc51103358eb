# ruff: noqa: E501
"""Families that compute a figure from a CSV file: sum, mean, extremes, count, group."""

from __future__ import annotations

from agent.learning.curriculum.acting import compute, read, script
from agent.learning.curriculum.checks import says
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.tables import Table, category_of, numbers_of, table
from agent.learning.curriculum.task import Family, Job, Play, Said
from agent.learning.curriculum.wording import Wording

SUM = Wording(
    train=(
        "What is the (sum|total) of (the|all|) {column} (column|values|) in {file}?",
        "(Compute|Calculate|Work out|Determine|Get|Find) the (sum|total) of (the {column} column|{column}) (in|from) {file}",
        "(Add up|Sum|Sum up|Total) (the {column} column|all {column} values|the {column}) (in|of|from) {file}",
        "What is the total {column} in {file}?",
        "How much is the {column} in {file} (altogether|in total|in all|all together)?",
        "(Open|Read|Take|Look at) {file} and (add up|sum) the {column}",
        "{file}: (total|sum) of {column}?",
        "~sum of {column} in {file}",
        "~total {column} {file}?",
        "What do the {column} values in {file} add up to?",
        "I need the total of the column {column}, (the file is|see|use) {file}",
        "Tell me the (overall|total) {column} (in|of) {file}",
    ),
    heldout=(
        "If you put all the {column} figures of {file} together, what do you get?",
        "(Tally|Total up) {column} across {file}",
        "What does the {column} column of {file} come to?",
        "Give the grand total for {column}, going by {file}",
    ),
)
MEAN = Wording(
    train=(
        "What is the (average|mean) (of the|of|) {column} (column|) in {file}?",
        "(Compute|Calculate|Work out|Determine|Get|Find) the (average|mean) (of the {column} column|of {column}|{column}) (in|from) {file}",
        "What's the average {column} in {file}?",
        "(Open|Read|Take|Look at) {file} and (compute|calculate|tell me) the (average|mean) {column}",
        "{file}: (average|mean) {column}?",
        "~average {column} in {file}",
        "How high is the {column} in {file} on average?",
        "On average, what is the {column} in {file}?",
        "Tell me the (mean|average) of the column {column} (in|of) {file}",
        "I need the average {column}, (the file is|see|use) {file}",
    ),
    heldout=(
        "Taking {file} as a whole, what is a typical {column}? I mean the (arithmetic mean|average)",
        "Average out the {column} (figures|numbers) of {file}",
        "What would the mean {column} be, going by {file}?",
    ),
)
EXTREME = Wording(
    train=(
        "(Which|What) {label} has the {most} {column} in {file}?",
        "(Find|Tell me|Get|Name|Give me) the {label} with the {most} {column} (in|from) {file}",
        "In {file}, which {label} has the {most} {column}?",
        "(Open|Read|Look at|Check) {file} and (tell me|find) the {label} with the {most} {column}",
        "{file}: {label} with the {most} {column}?",
        "~{most} {column} in {file}, which {label}?",
        "(Look at|See) {file}. Which {label} has the {most} {column}?",
        "I want to know (which|what) {label} has the {most} {column}. (Use|See) {file}",
        "Whose {column} is the {most} in {file}? (Give|Name) the {label}",
    ),
    heldout=(
        "Going by {file}, the {most} {column} belongs to which {label}?",
        "Single out the {label} whose {column} is the {most}; the data are in {file}",
        "Rank {file} by {column}: which {label} has the {most} one?",
    ),
)
COUNT = Wording(
    train=(
        "How many (rows|entries|records|lines) (in|of) {file} have {column} {value}?",
        "(Count|Tell me the number of) (the|) (rows|entries|records) (in|of) {file} (where|in which) {column} is {value}",
        "How many (rows|entries) (with|where the) {column} {value} are (in|there in) {file}?",
        "In {file}, how many (rows|entries|records) have the {column} {value}?",
        "How often is the {column} {value} in {file}?",
        "{file}: how many with {column} {value}?",
        "~count {column} = {value} in {file}",
        "(Open|Read|Take|Look at) {file} and count the (rows|entries) with {column} {value}",
        "What is the number of (rows|entries) in {file} where {column} equals {value}?",
    ),
    heldout=(
        "Going by {file}, how frequent are (rows|records) whose {column} reads {value}?",
        "Give me the (count|tally) of {value} under {column} in {file}",
        "{value} as {column}: how many times does {file} have that?",
    ),
)
ROWS = Wording(
    train=(
        "How many (rows|records|entries) (does|has|are in|are there in) {file} (have|)?",
        "(Count|Tell me) (the|how many) (rows|records|entries|data rows) (are|) in {file}, without the header",
        "How many {label}s are (listed|) in {file}?",
        "How many data rows (does|has) {file} (have|)?",
        "~number of records in {file}?",
        "What is the number of entries in {file}?",
    ),
    heldout=("How long is the table in {file}, leaving out its header?", "Give me the tally of records in {file}"),
)
GROUP = Wording(
    train=(
        "Which {category} has the {most} total {column} in {file}?",
        "(Find|Tell me|Work out|Determine) (which|what) {category} has the {most} total {column} (in|from) {file}",
        "In {file}, which {category} has the {most} {column} in total?",
        "(Add up|Sum) the {column} (by|per|for each) {category} in {file}. Which {category} is {most}?",
        "(Group|Total) {file} by {category} and (tell me|say) which one has the {most} {column}",
        "{file}: {category} with the {most} total {column}?",
        "~{category} with {most} summed {column} in {file}?",
        "Per {category}, (add up|sum) the {column} of {file}. Which is the {most}?",
    ),
    heldout=(
        "Break {file} down by {category}: where is the summed {column} the {most}?",
        "After totalling {column} for every {category} of {file}, who comes out {most}?",
    ),
)
PER_GROUP = Wording(
    train=(
        "What is the total {column} of {category} {value} in {file}?",
        "(Compute|Calculate|Add up|Sum|Find|Get) the {column} (of|for) (all rows with|the) {category} {value} in {file}",
        "How much {column} (does|has) the {category} {value} (have|) in {file} in total?",
        "In {file}, what is the total {column} where {category} is {value}?",
        "(Sum|Add up) the {column} of {file}, only for {category} {value}",
        "{file}: total {column} for {category} {value}?",
        "~{value} total {column} in {file}",
        "What does the {column} (for|of) {category} {value} add up to in {file}?",
    ),
    heldout=(
        "Restricting {file} to {category} {value}, what does {column} come to?",
        "Grand total of {column} for {category} {value}, going by {file}?",
    ),
)
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
