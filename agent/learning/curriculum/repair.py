# ruff: noqa: E501
"""Families in which something goes wrong: a failing script, cells that are no numbers, names that are not quite right."""

from __future__ import annotations

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, printed, read, script
from agent.learning.curriculum.checks import every, says
from agent.learning.curriculum.contents import contents, rows
from agent.learning.curriculum.csv_figures import MEAN, SUM
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import FACT, remark, thing
from agent.learning.curriculum.slips import misspelt
from agent.learning.curriculum.tables import csv_text, numbers_of, table
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("repair")
FIX = _SAID["fix"]
BUGS: tuple[tuple[str, str, str, str, str], ...] = (
    ("add", "a, b", "    return a - b", "    return a + b", "{f}(2, 3) == 5"),
    ("total", "numbers", "    return sum(numbers) + 1", "    return sum(numbers)", "{f}([1, 2, 3]) == 6"),
    (
        "average",
        "numbers",
        "    return sum(numbers) / 2",
        "    return sum(numbers) / len(numbers)",
        "{f}([2, 4, 9]) == 5",
    ),
    ("largest", "numbers", "    return min(numbers)", "    return max(numbers)", "{f}([3, 9, 4]) == 9"),
    ("smallest", "numbers", "    return max(numbers)", "    return min(numbers)", "{f}([3, 9, 4]) == 3"),
    ("last", "items", "    return items[0]", "    return items[-1]", "{f}([1, 2, 7]) == 7"),
    ("first", "items", "    return items[1]", "    return items[0]", "{f}([5, 2, 7]) == 5"),
    ("area", "width, height", "    return width + height", "    return width * height", "{f}(3, 4) == 12"),
    ("is_even", "n", "    return n % 2 == 1", "    return n % 2 == 0", "{f}(4) and not {f}(7)"),
    ("shout", "text", "    return text.lower()", "    return text.upper()", "{f}('hi') == 'HI'"),
    ("reverse", "text", "    return text[::1]", "    return text[::-1]", "{f}('abc') == 'cba'"),
    ("count_words", "text", "    return len(text)", "    return len(text.split())", "{f}('one two three') == 3"),
    ("double", "n", "    retrun n * 2", "    return n * 2", "{f}(4) == 8"),
    ("square", "n", "    return n * m", "    return n * n", "{f}(5) == 25"),
    ("greet", "name", "    return 'Hello ' + nane", "    return 'Hello ' + name", "{f}('Ann') == 'Hello Ann'"),
    ("join_words", "words", "    return words.join(' ')", "    return ' '.join(words)", "{f}(['a', 'b']) == 'a b'"),
    ("difference", "a, b", "    return b - a", "    return a - b", "{f}(9, 4) == 5"),
    ("is_adult", "age", "    return age > 18", "    return age >= 18", "{f}(18) and not {f}(17)"),
    ("percent", "part, whole", "    return part / whole", "    return part / whole * 100", "{f}(1, 4) == 25"),
    (
        "sort_up",
        "items",
        "    return sorted(items, reverse=True)",
        "    return sorted(items)",
        "{f}([3, 1, 2]) == [1, 2, 3]",
    ),
    ("strip_text", "text", "    return text.strip", "    return text.strip()", "{f}(' a ') == 'a'"),
    ("to_number", "text", "    return str(text)", "    return int(text)", "{f}('12') == 12"),
    ("celsius", "f", "    return (f + 32) * 5 / 9", "    return (f - 32) * 5 / 9", "{f}(50) == 10"),
    ("unique", "items", "    return list(items)", "    return sorted(set(items))", "{f}([2, 1, 2]) == [1, 2]"),
)
"""Function name, parameters, wrong line, right line, test."""
OTHERS = (
    ("version", "", "    return '1.0'", "{f}() == '1.0'"),
    ("triple", "n", "    return n * 3", "{f}(2) == 6"),
    ("is_empty", "items", "    return len(items) == 0", "{f}([])"),
    ("negate", "n", "    return -n", "{f}(3) == -3"),
)


def fix_script(draw: Draw) -> Job:
    """A function with a bug and a test that fails."""
    name, parameters, wrong, right, test = draw.pick(BUGS, rows("repair", "bugs"))
    function = draw.any((name, f"{name}_{draw.pick(names.WORDS)}"))
    body = [f"def {function}({parameters}):", wrong]
    tests = [f"assert {test.format(f=function)}"]
    imported = [function]
    if draw.chance(0.5):
        other, its, line, claim = draw.any(OTHERS)
        body = (
            [f"def {other}({its}):", line, "", "", *body]
            if draw.chance(0.5)
            else [*body, "", "", f"def {other}({its}):", line]
        )
        tests.insert(draw.whole(0, 1), f"assert {claim.format(f=other)}")
        imported.append(other)
    module = draw.any((name, draw.pick(names.WORDS), "calc", "code", "tools", "main"))
    path, test_path = f"{module}.py", f"test_{module}.py"
    files = {
        path: "\n".join(body) + "\n",
        test_path: f"from {module} import {', '.join(sorted(imported))}\n\n"
        + "\n".join(tests)
        + "\nprint('all tests passed')\n",
    }
    run = script("import sys", "sys.path.insert(0, '.')", f"exec(open({test_path!r}).read())")

    def play(_: str) -> Play:
        yield from read(path)
        yield from read(test_path, f"Now the test in {test_path}.")
        change = {"path": path, "old": wrong.strip(), "new": right.strip()}
        yield Act(f"{function} is wrong: it must be {right.strip()}.", "edit_file", change)
        out = yield from compute(run, f"I run {test_path}.")
        return Said(f"The test says {out}.", f"Fixed {function} in {path}; {test_path} passes.")

    if files[path].count(wrong.strip()) > 1:
        return fix_script(draw)
    judge = script(
        "import runpy, sys", "sys.path.insert(0, '.')", f"runpy.run_path({test_path!r}, run_name='__main__')"
    )
    return Job(
        draw.say(FIX, file=path, test=test_path),
        files,
        every({"python": judge}, {"file": test_path, "equals": files[test_path]}),
        play,
    )


def bad_cells(draw: Draw) -> Job:
    """A figure of a column in which some cells are no numbers: the first script fails, the second leaves them out."""
    data = table(draw, least=5, most=9)
    column = draw.any(numbers_of(data))
    at = data.columns.index(column)
    bad = set(draw.rng.sample(range(len(data.rows)), draw.whole(1, 2)))
    filler = draw.any(("n/a", "-", "unknown", "", "?", "none"))
    rows = [
        tuple(filler if c == at and r in bad else cell for c, cell in enumerate(row)) for r, row in enumerate(data.rows)
    ]
    good = [float(row[at]) for r, row in enumerate(data.rows) if r not in bad]
    mean = draw.chance(0.4)
    value = sum(good) / len(good) if mean else round(sum(good), 2)
    last = "print(round(sum(numbers) / len(numbers), 2))" if mean else "print(round(sum(numbers), 2))"
    first = script("import csv", data.rows_in_script, f"numbers = [float(r[{column!r}]) for r in rows]", last)
    second = script(
        "import csv",
        data.rows_in_script,
        "numbers = []",
        "for r in rows:",
        "    try:",
        f"        numbers.append(float(r[{column!r}]))",
        "    except ValueError:",
        "        pass",
        last,
    )
    shown = f"'{filler}'" if filler else "empty"

    def play(_: str) -> Play:
        yield from read(data.path)
        why = f"I compute the {'average' if mean else 'sum of'} {column} with a script."
        if careless:
            seen = yield Act(why, "run_python", {"code": first})
            del seen
            why = f"A cell of {column} is {shown}, no number. I leave such cells out."
        else:
            why = f"Some cells of {column} are {shown}, I leave them out."
        out = yield from compute(second, why)
        return Said(f"Without these cells it is {out}.", out)

    careless = draw.chance(0.5)
    goal = draw.say(MEAN if mean else SUM, column=column, file=data.path)
    files = {data.path: csv_text(data.columns, rows, data.delimiter)} | draw.clutter([data.path])
    return Job(goal, files, says(value), play)


def wrong_name(draw: Draw) -> Job:
    """A file whose name the goal gets slightly wrong: the error says which one is meant."""
    key, value = thing(draw), draw.code()
    path = draw.text_path()
    lines = [remark(draw) for _ in range(draw.whole(1, 4))]
    lines.insert(draw.whole(0, len(lines)), draw.any(("The {} is {}.", "{}: {}", "- {}: {}")).format(key, value))
    wrong = misspelt(draw, path)
    files = {path: "\n".join(lines) + "\n"} | draw.clutter([path], 1)

    def play(_: str) -> Play:
        seen = yield Act(f"I read {wrong} first.", "read_file", {"path": wrong})
        if path not in seen.text:
            yield Act(f"{wrong} does not exist, I list the files.", "list_files", {})
        yield from read(path, f"{wrong} does not exist, {path} must be meant.")
        return Said(f"{path} says {key} is {value}.", value)

    return Job(draw.say(FACT, key=key, file=wrong), files, says(value), play)


def wrong_column(draw: Draw) -> Job:
    """A column whose name the goal gets slightly wrong: the header says which one is meant."""
    data = table(draw)
    column = draw.any(numbers_of(data))
    real = draw.any(
        (f"{column}_eur", f"unit_{column}", f"total_{column}", f"{column} (2024)", column.upper(), f"{column}_1"),
        [form.format(column) for form in contents("repair", "columns")],
    )
    columns = tuple(real if name == column else name for name in data.columns)
    mean = draw.chance(0.4)
    numbers = data.numbers(column)
    value = sum(numbers) / len(numbers) if mean else round(sum(numbers), 2)
    convert = "int" if data.whole(column) else "float"
    total = "total" if data.whole(column) else "round(total, 2)"
    code = script(
        "import csv",
        data.rows_in_script,
        f"total = sum({convert}(r[{real!r}]) for r in rows)",
        f"print({'round(total / len(rows), 2)' if mean else total})",
    )

    def play(_: str) -> Play:
        yield from read(data.path)
        why = f"There is no column {column}, {real} must be meant."
        seen = yield Act(why, "run_python", {"code": code})
        out = printed(seen)
        return Said(f"The {'average' if mean else 'sum of'} {real} is {out}.", out)

    goal = draw.say(MEAN if mean else SUM, column=column, file=data.path)
    files = {data.path: csv_text(columns, data.rows, data.delimiter)} | draw.clutter([data.path])
    return Job(goal, files, says(value), play)


FAMILIES = (
    Family("fix_script", "a script that fails its test", fix_script, weight=2.2),
    Family("bad_cells", "numbers among cells that are none", bad_cells, weight=0.9),
    Family("wrong_name", "a file name that is not quite right", wrong_name),
    Family("wrong_column", "a column name that is not quite right", wrong_column, weight=1.5),
)
