"""Families about numbers: files of them, sequences, primes and factorials, and what the clock says."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, read, script
from agent.learning.curriculum.checks import every, file_is, says
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.task import Family, Job, Play, Said
from agent.learning.curriculum.wording import Wording, wordings
from agent.types import JSON

_SAID = wordings("numbers")
NUMBERS = {
    "sum": _SAID["numbers_sum"],
    "mean": _SAID["numbers_mean"],
    "max": _SAID["numbers_max"],
    "min": _SAID["numbers_min"],
    "count": _SAID["numbers_count"],
}
SORTED = _SAID["sorted"]
SEQUENCE = _SAID["sequence"]
SEQUENCE_FILE = _SAID["sequence_file"]
YES_NO = _SAID["yes_no"]
FACTORIAL = _SAID["factorial"]


def numbers_file(draw: Draw) -> Job:
    """A figure of a file of numbers, or the numbers in order."""
    whole = draw.chance(0.7)
    numbers = [draw.whole(1, 999) if whole else draw.amount(1, 200) for _ in range(draw.whole(4, 12))]
    numbers = list(dict.fromkeys(numbers))
    path = draw.path("txt", draw.any(("numbers", "values", "data", "measurements", "results", draw.pick(names.WORDS))))
    convert = "int" if whole else "float"
    load = ("from pathlib import Path", f"numbers = [{convert}(n) for n in Path({path!r}).read_text().split()]")
    files = {path: (" " if draw.chance(0.15) else "\n").join(map(str, numbers)) + "\n"}
    if draw.chance(0.2):
        return _sorted_numbers(draw, path, numbers, files, load)
    kind = draw.any(("sum", "sum", "mean", "max", "min", "count"))
    expressions = {
        "sum": ("sum(numbers)" if whole else "round(sum(numbers), 2)", sum(numbers)),
        "mean": ("round(sum(numbers) / len(numbers), 2)", sum(numbers) / len(numbers)),
        "max": ("max(numbers)", max(numbers)),
        "min": ("min(numbers)", min(numbers)),
        "count": ("len(numbers)", len(numbers)),
    }
    expression, value = expressions[kind]
    code = script(*load, f"print({expression})")

    def play(_: str) -> Play:
        yield from read(path)
        out = yield from compute(code, f"I compute the {kind} with a script.")
        return Said(f"The {kind} is {out}.", out)

    check = says(round(value, 2) if kind == "sum" else value)
    return Job(draw.say(NUMBERS[kind], file=path), files | draw.clutter([path]), check, play)


def sequence(draw: Draw) -> Job:
    """Primes, squares, Fibonacci numbers, a multiplication table, as an answer or in a file."""
    n, k = draw.whole(3, 15), draw.whole(2, 12)
    low = draw.whole(1, 20)
    high = low + draw.whole(5, 20)
    kinds: tuple[tuple[tuple[str, ...], Sequence[str], list[int]], ...] = (
        (
            (f"the first {n} prime numbers", f"the first {n} primes"),
            ("found = [n for n in range(2, 200) if all(n % d for d in range(2, n))]", f"found = found[:{n}]"),
            _primes(200)[:n],
        ),
        (
            (f"the prime numbers below {high + 10}", f"all primes below {high + 10}", f"all primes under {high + 10}"),
            (f"found = [n for n in range(2, {high + 10}) if all(n % d for d in range(2, n))]",),
            _primes(high + 10),
        ),
        (
            (
                f"the squares of the numbers from 1 to {n}",
                f"the squares from 1 to {n}",
                f"the first {n} square numbers",
            ),
            (f"found = [n * n for n in range(1, {n + 1})]",),
            [i * i for i in range(1, n + 1)],
        ),
        (
            (f"the first {n} Fibonacci numbers", f"{n} Fibonacci numbers starting with 1, 1"),
            ("found = [1, 1]", f"while len(found) < {n}:", "    found.append(found[-1] + found[-2])"),
            _fibonacci(n),
        ),
        (
            (f"the even numbers from {low} to {high}", f"all even numbers between {low} and {high}"),
            (f"found = [n for n in range({low}, {high + 1}) if n % 2 == 0]",),
            [i for i in range(low, high + 1) if i % 2 == 0],
        ),
        (
            (f"the odd numbers from {low} to {high}", f"all odd numbers between {low} and {high}"),
            (f"found = [n for n in range({low}, {high + 1}) if n % 2 == 1]",),
            [i for i in range(low, high + 1) if i % 2 == 1],
        ),
        (
            (f"the numbers from {low} to {high}", f"all numbers from {low} to {high}"),
            (f"found = list(range({low}, {high + 1}))",),
            list(range(low, high + 1)),
        ),
        (
            (f"the multiples of {k} up to {k * n}", f"all multiples of {k} up to {k * n}"),
            (f"found = [{k} * n for n in range(1, {n + 1})]",),
            [k * i for i in range(1, n + 1)],
        ),
        (
            (f"the first {n} powers of 2", f"the powers of two up to 2^{n}, from 2^1"),
            (f"found = [2 ** n for n in range(1, {n + 1})]",),
            [2**i for i in range(1, n + 1)],
        ),
        (
            (f"the divisors of {high * 6}", f"all divisors of {high * 6}"),
            (f"found = [n for n in range(1, {high * 6 + 1}) if {high * 6} % n == 0]",),
            [i for i in range(1, high * 6 + 1) if high * 6 % i == 0],
        ),
    )
    spoken, work, numbers = draw.any(kinds)
    what = draw.any(spoken)
    if draw.chance(0.5):
        code = script(*work, "print(', '.join(map(str, found)))")

        def answer(_: str) -> Play:
            out = yield from compute(code, "I compute them with Python.")
            return Said("Python printed them.", out)

        pattern = r"\D+".join(map(str, numbers))
        return Job(draw.say(SEQUENCE, what=what), {}, {"answer": {"matches": rf"(?<!\d){pattern}(?!\d)"}}, answer)
    target = draw.path("txt", draw.any(("numbers", "primes", "squares", "output", "result", "list")))
    made = [f"Path({target.rpartition('/')[0]!r}).mkdir(parents=True, exist_ok=True)"] if "/" in target else []
    code = script(
        "from pathlib import Path",
        *work,
        *made,
        f"Path({target!r}).write_text('\\n'.join(map(str, found)) + '\\n')",
        "print(len(found), 'numbers')",
    )

    def play(_: str) -> Play:
        out = yield from compute(code, "I compute them with Python and write the file.")
        return Said(f"The script wrote {out}.", f"Wrote {out} to {target}.")

    pattern = r"\D+".join(map(str, numbers))
    check: dict[str, JSON] = {"file": target, "matches": rf"\A\D*{pattern}\D*\Z"}
    return Job(draw.say(SEQUENCE_FILE, what=what, file=target), {}, check, play)


def number_facts(draw: Draw) -> Job:
    """Whether a number is prime, a factorial, or what the clock of this machine says."""
    kind = draw.whole(0, 4)
    if kind <= 1:
        n = draw.any((draw.whole(4, 200), draw.any(_primes(300)[3:])))
        prime = n in _primes(300)
        code = f"print(all({n} % d for d in range(2, {n})))"

        def is_prime(_: str) -> Play:
            out = yield from compute(code, f"I test {n} with Python.")
            return Said(f"Python says {out}.", f"Yes, {n} is prime." if out == "True" else f"No, {n} is not prime.")

        return Job(
            draw.say(YES_NO, n=n), {}, {"answer": {"matches": r"(?i)\byes\b" if prime else r"(?i)\bno\b"}}, is_prime
        )
    if kind <= 3:
        n = draw.whole(4, 15)
        code = script("import math", f"print(math.factorial({n}))")

        def factorial(_: str) -> Play:
            out = yield from compute(code, "I compute that with Python.")
            return Said(f"Python says {out}.", out)

        return Job(draw.say(FACTORIAL, n=n), {}, says(math.factorial(n)), factorial)
    wording, lines, pattern = draw.any(CLOCK)

    def clock(_: str) -> Play:
        out = yield from compute(script(*lines), "I ask Python.")
        return Said(f"Python says {out}.", out)

    return Job(draw.say(wording), {}, {"answer": {"matches": pattern}}, clock)


CLOCK: tuple[tuple[Wording, tuple[str, ...], str], ...] = (
    (
        _SAID["clock_date"],
        ("from datetime import date", "print(date.today())"),
        r"\d{4}-\d{2}-\d{2}",
    ),
    (
        _SAID["clock_time"],
        ("from datetime import datetime", "print(datetime.now().strftime('%H:%M'))"),
        r"\d{1,2}:\d{2}",
    ),
    (
        _SAID["clock_version"],
        ("import sys", "print(sys.version.split()[0])"),
        r"3\.\d+",
    ),
)


def _sorted_numbers(draw: Draw, path: str, numbers: Sequence[float], files: dict[str, str], load: Sequence[str]) -> Job:
    down = draw.chance(0.4)
    way = (
        draw.any(("from high to low", "in descending order"))
        if down
        else draw.any(("", "from low to high", "in ascending order"))
    )
    target = draw.new_path([path], "txt", draw.any(("sorted", "ordered", "result")))
    made = [f"Path({target.rpartition('/')[0]!r}).mkdir(parents=True, exist_ok=True)"] if "/" in target else []
    code = script(
        *load,
        f"numbers.sort({'reverse=True' if down else ''})",
        *made,
        f"Path({target!r}).write_text('\\n'.join(map(str, numbers)) + '\\n')",
        "print(len(numbers), 'numbers')",
    )

    def play(_: str) -> Play:
        yield from read(path)
        out = yield from compute(code, "I sort the numbers with a script.")
        return Said(f"The script wrote {out}.", f"Wrote {out} to {target}.")

    pattern = r"\s+".join(re.escape(str(number)) for number in sorted(numbers, reverse=down))
    check = every({"file": target, "matches": rf"\A\s*{pattern}\s*\Z"}, file_is(path, files[path]))
    goal = " ".join(draw.say(SORTED, file=path, way=way, target=target).split()).replace(" ;", ";")
    return Job(goal, files, check, play)


def _primes(below: int) -> list[int]:
    return [n for n in range(2, below) if all(n % d for d in range(2, int(n**0.5) + 1))]


def _fibonacci(count: int) -> list[int]:
    found = [1, 1]
    while len(found) < count:
        found.append(found[-1] + found[-2])
    return found[:count]


FAMILIES = (
    Family("numbers_file", "a figure of a file of numbers", numbers_file, weight=1.2),
    Family("sequence", "primes, squares and other sequences", sequence, weight=1.0),
    Family("number_facts", "primes, factorials, the clock", number_facts, chains=False, weight=0.8),
)
