"""Families that need no file: arithmetic, dates, units and texts, computed by a line of Python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, timedelta

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, script
from agent.learning.curriculum.checks import says
from agent.learning.curriculum.contents import rows
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.task import Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings
from agent.types import JSON

_SAID = wordings("reckoning")
SUMS = _SAID["sums"]
PERCENT = _SAID["percent"]
PRICE = _SAID["price"]
STORY = _SAID["story"]
SHARE = _SAID["share"]
MEAN = _SAID["mean"]
TOTAL = _SAID["total"]
DAYS = _SAID["days"]
LATER = _SAID["later"]
WEEKDAY = _SAID["weekday"]
UNITS = _SAID["units"]
TEXT = {
    "reverse": _SAID["text_reverse"],
    "upper": _SAID["text_upper"],
    "length": _SAID["text_length"],
    "letter": _SAID["text_letter"],
}
FACTORS: tuple[tuple[str, str, str], ...] = (
    ("km", "miles", "{} / 1.609344"),
    ("kilometres", "miles", "{} / 1.609344"),
    ("miles", "km", "{} * 1.609344"),
    ("kg", "pounds", "{} / 0.45359237"),
    ("pounds", "kg", "{} * 0.45359237"),
    ("inches", "cm", "{} * 2.54"),
    ("cm", "inches", "{} / 2.54"),
    ("feet", "metres", "{} * 0.3048"),
    ("metres", "feet", "{} / 0.3048"),
    ("degrees Celsius", "Fahrenheit", "{} * 9 / 5 + 32"),
    ("degrees Fahrenheit", "Celsius", "({} - 32) * 5 / 9"),
    ("minutes", "hours", "{} / 60"),
    ("hours", "minutes", "{} * 60"),
    ("days", "hours", "{} * 24"),
    ("weeks", "days", "{} * 7"),
    ("seconds", "minutes", "{} / 60"),
    ("grams", "kg", "{} / 1000"),
    ("litres", "millilitres", "{} * 1000"),
)

OPENINGS = ("Hi! ", "Please work this out. ", "Quick one: ", "A sum for you: ", "I wonder: ", "Help me reckon. ")
"""Now and then before a sum in words."""


def arithmetic(draw: Draw) -> Job:
    """Sums, percentages, prices and shares."""
    if draw.split == "train" and draw.chance(0.35):
        return _word_sum(draw)
    whole = draw.chance(0.6)
    n = draw.whole(12, 9800) if whole else draw.amount(3, 950)
    p, a = draw.whole(2, 95), draw.whole(3, 48)
    thing = draw.pick(names.PRODUCTS)
    kind = draw.whole(0, 6)
    if kind <= 1:
        return _computed(draw.say(PERCENT, p=p, n=n), f"{n} * {p} / 100", n * p / 100)
    if kind == 2:
        return _computed(draw.say(PRICE, p=p, n=n, thing=thing), f"{n} * (100 - {p}) / 100", n * (100 - p) / 100)
    if kind == 3:
        return _computed(draw.say(STORY, a=a, n=n, thing=thing), f"{a} * {n}", a * n)
    if kind == 4:
        return _computed(draw.say(SHARE, a=a, n=n), f"{n} / {a}", n / a)
    if kind == 5:
        numbers = [draw.whole(1, 400) if whole else draw.amount(1, 90) for _ in range(draw.whole(3, 6))]
        spoken = ", ".join(map(str, numbers))
        if draw.chance(0.5):
            spoken = spoken.rpartition(", ")[0] + " and " + str(numbers[-1])
        inner = f"sum([{', '.join(map(str, numbers))}])"
        if draw.chance(0.5):
            return _computed(draw.say(TOTAL, list=spoken), inner, sum(numbers))
        return _computed(draw.say(MEAN, list=spoken), f"{inner} / {len(numbers)}", sum(numbers) / len(numbers))
    return _sum(draw)


def _word_sum(draw: Draw) -> Job:
    """A sum in words, of the sort that life asks for."""
    text, formula, *ranges = draw.any(rows("reckoning", "word_sums"))
    numbers = {name: draw.whole(*map(int, bounds.split("-"))) for name, bounds in zip("abcdefg", ranges, strict=False)}
    expression = formula.format(**numbers)
    return _computed(draw.any(("", "", "", *OPENINGS)) + text.format(**numbers), expression, _value(expression))


def _value(expression: str) -> float:
    """What an expression of ours comes to."""
    return eval(expression, {"__builtins__": {}})  # an expression of `contents/`, never of a user


def _sum(draw: Draw) -> Job:
    a, b, c = draw.whole(2, 9999), draw.whole(2, 999), draw.whole(2, 99)
    signs = {
        "*": ("*", "x", "times", "multiplied by"),
        "+": ("+", "plus"),
        "-": ("-", "minus"),
        "/": ("/", "divided by"),
    }
    sign = draw.any(("*", "*", "+", "-", "/"))
    value: float = {"*": a * b, "+": a + b, "-": a - b, "/": a / b}[sign]
    spoken, expression = f"{a} {draw.any(signs[sign])} {b}", f"{a} {sign} {b}"
    if draw.chance(0.25):
        other = draw.any(("+", "-"))
        expression, spoken = f"{expression} {other} {c}", f"{a} {sign} {b} {other} {c}"
        value = value + c if other == "+" else value - c
    elif draw.chance(0.15):
        expression, spoken, value = f"{b} ** 2", draw.any((f"{b} squared", f"{b} to the power of 2", f"{b}^2")), b**2
    elif draw.chance(0.1):
        expression, spoken, value = f"{a} ** 0.5", draw.any((f"the square root of {a}", f"sqrt({a})")), math.sqrt(a)
    return _computed(draw.say(SUMS, sum=spoken), expression, value)


def dates(draw: Draw) -> Job:
    """Days between two dates, a date some days later, or a weekday."""
    first = date.fromisoformat(draw.date(1990, 2030))
    n = draw.whole(3, 700)
    second = first + timedelta(days=n)
    kind = draw.whole(0, 2)
    if kind == 0:
        goal = draw.say(DAYS, a=_spoken(draw, first), b=_spoken(draw, second))
        code = script(
            "from datetime import date", f"print((date.fromisoformat('{second}') - date.fromisoformat('{first}')).days)"
        )
        return _run(goal, code, "I compute the days with Python.", n)
    if kind == 1:
        goal = draw.say(LATER, a=_spoken(draw, first), n=n)
        code = script(
            "from datetime import date, timedelta", f"print(date.fromisoformat('{first}') + timedelta(days={n}))"
        )
        return _run(goal, code, "I add the days with Python.", second.isoformat())
    goal = draw.say(WEEKDAY, a=_spoken(draw, first))
    code = script("from datetime import date", f"print(date.fromisoformat('{first}').strftime('%A'))")
    return _run(goal, code, "I ask Python for the weekday.", first.strftime("%A"))


def units(draw: Draw) -> Job:
    """A quantity in another unit."""
    more = draw.split == "train" and draw.chance(0.6)
    a, b, formula = draw.any(rows("reckoning", "units") if more else FACTORS)
    n = draw.whole(2, 900) if draw.chance(0.7) else draw.amount(1, 200)
    expression = formula.format(n)
    return _computed(draw.say(UNITS, n=n, a=a, b=b), expression, _value(expression))


def text_work(draw: Draw) -> Job:
    """A word reversed, in capitals, measured."""
    text = draw.any(
        (
            draw.pick(names.WORDS),
            draw.pick(names.CITIES),
            draw.code(),
            f"{draw.pick(names.WORDS)} {draw.pick(names.ANIMALS)}",
            draw.person(),
        )
    )
    spoken = draw.any((f"'{text}'", f'"{text}"', text))
    kind = draw.any(list(TEXT))
    letter = draw.any([c for c in text.lower() if c.isalpha()] or ["a"])
    goal = draw.say(TEXT[kind], text=spoken, letter=draw.any((letter, f"'{letter}'")))
    expressions = {
        "reverse": (f"{text!r}[::-1]", text[::-1]),
        "upper": (f"{text!r}.upper()", text.upper()),
        "length": (f"len({text!r})", len(text)),
        "letter": (f"{text!r}.lower().count({letter!r})", text.lower().count(letter)),
    }
    expression, value = expressions[kind]
    check = {"answer": {"contains": value}} if isinstance(value, str) else says(value)
    if kind == "length" and " " in text:
        check = {"any": [says(value), says(len(text) - text.count(" "))]}
    return _run(goal, f"print({expression})", "Python does that exactly.", value, check)


def _spoken(draw: Draw, day: date) -> str:
    if draw.chance(0.65):
        return day.isoformat()
    month = day.strftime("%B")
    return draw.any((f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}"))


def _computed(goal: str, expression: str, value: float) -> Job:
    rounded = not float(value).is_integer() or "/" in expression or "." in expression
    decimals = 2 if abs(value) >= 1 else 6
    code = f"print(round({expression}, {decimals}))" if rounded else f"print({expression})"
    return _run(goal, code, "I compute that with Python.", value)


def _run(goal: str, code: str, why: str, value: object, check: Mapping[str, JSON] | None = None) -> Job:
    def play(_: str) -> Play:
        out = yield from compute(code, why)
        return Said(f"Python says {out}.", out)

    return Job(goal, {}, check or says(value), play)


FAMILIES = (
    Family("arithmetic", "sums, percentages, prices, shares", arithmetic, answers=True, weight=2.0),
    Family("dates", "days between dates, later dates, weekdays", dates, answers=True, weight=1.2),
    Family("units", "a quantity in another unit", units, answers=True, weight=1.3),
    Family("text_work", "a word reversed, in capitals, measured", text_work, answers=True, weight=1.6),
)
