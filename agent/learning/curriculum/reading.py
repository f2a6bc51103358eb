# ruff: noqa: E501
"""Families that need a text to be understood: label it, take things out of it, say what it is about."""

from __future__ import annotations

import json
import re
from itertools import combinations

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, read, script, write
from agent.learning.curriculum.checks import every, says
from agent.learning.curriculum.contents import groups, rows
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import remark
from agent.learning.curriculum.task import Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("reading")
EXTRACT = _SAID["extract"]
EXTRACT_SAY = _SAID["extract_say"]
FIELDS = _SAID["fields"]
ABOUT = _SAID["about"]
SUBJECTS = (
    ("the coffee machine", "is repaired on {day}"), ("the new price list", "starts in {month}"), ("the staff meeting", "is on {day} at {hour}:00"),
    ("the parking lot", "is closed until {day}"), ("the summer rota", "has to be ready by {day}"), ("the opening hours", "change in {month}"),
    ("the delivery of {product}s", "comes on {day}"), ("the heating", "is checked by {person}"), ("the budget", "was cut by {n} percent"),
    ("the website", "gets a new design in {month}"), ("the holiday plan", "is kept by {person}"), ("the fire drill", "takes place on {day}"),
    ("the training course", "begins at {hour}:30"), ("the broken {product}", "is replaced in {month}"), ("the keys", "are with {person}"),
    ("the customer survey", "had {n} answers"), ("the storage room", "must be tidied by {day}"), ("the printer", "needs new ink"),
    ("the trip to {city}", "was moved to {month}"), ("the guest list", "has {n} names"), ("the insurance", "ends in {month}"),
    ("the garden work", "is done by {person}"), ("the audit", "starts on {day}"), ("the lunch menu", "is vegetarian on {day}"),
    ("the new {product}", "costs {n} euros"), ("the backup", "runs every night at {hour}:00"), ("the lift", "is out of order"),
    ("the contract with {person}", "ends in {month}"),
)  # fmt: skip
PATTERNS = {
    "email addresses": r"[\w.+-]+@[\w-]+\.[\w.]*\w",
    "dates": r"\d{4}-\d{2}-\d{2}",
    "amounts": r"\d+\.\d{2}",
    "phone numbers": r"555-\d{4}",
    "order numbers": r"[A-Z]{2}-\d{4}",
}


Details = dict[str, tuple[str, tuple[str, ...]]]
"""What a letter may tell: by its name a value, and the sentences that state it."""
COUNTRIES = (
    "Austria",
    "Brazil",
    "Canada",
    "Denmark",
    "Estonia",
    "France",
    "Ghana",
    "Ireland",
    "Japan",
    "Kenya",
    "Norway",
    "Peru",
    "Spain",
    "Vietnam",
)


def extract_all(draw: Draw) -> Job:
    """All e-mail addresses, dates, amounts or numbers of a kind, as an answer or as a JSON list."""
    things = draw.any(list(PATTERNS))
    makers = {
        "email addresses": draw.email,
        "dates": draw.date,
        "amounts": lambda: f"{draw.amount(2, 900):.2f}",
        "phone numbers": lambda: f"555-{draw.whole(1000, 9999)}",
        "order numbers": lambda: f"{draw.any('ABCDEFGH')}{draw.any('KLMNPQ')}-{draw.whole(1000, 9999)}",
    }
    found = list(dict.fromkeys(makers[things]() for _ in range(draw.whole(2, 5))))
    forms = {
        "email addresses": ("Write to {}.", "{p} uses {} now.", "Contact: {}", "Send the list to {}"),
        "dates": ("The {w} begins on {}.", "{} was a good day.", "Deadline: {}", "{p} is away from {} on."),
        "amounts": ("We paid {} euros to {p}.", "The {w} costs {}.", "Total: {}", "{p} still owes {}."),
        "phone numbers": ("Call {p} at {}.", "Phone: {}", "The number of the {w} is {}.", "New number: {}"),
        "order numbers": ("Order {} has arrived.", "{p} asked about {}.", "Please cancel {}.", "{} is still open."),
    }
    lines = [
        draw.any(forms[things]).format(value, p=draw.pick(names.FIRST), w=draw.pick(names.WORDS)) for value in found
    ]
    for _ in range(draw.whole(0, 3)):
        lines.insert(draw.whole(0, len(lines)), remark(draw))
    text = "\n".join(lines) + "\n"
    path = draw.text_path()
    order = re.findall(PATTERNS[things], text)
    spoken = draw.any(
        {
            "email addresses": ("email addresses", "e-mail addresses", "emails"),
            "amounts": ("amounts", "amounts of money", "prices"),
        }.get(things, (things,))
    )
    start = (
        "import re",
        "from pathlib import Path",
        f"text = Path({path!r}).read_text()",
        f"found = re.findall(r'{PATTERNS[things]}', text)",
    )
    if draw.chance(0.5):
        code = script(*start, "print(', '.join(found))")

        def answer(_: str) -> Play:
            yield from read(path)
            out = yield from compute(code, f"I find the {things} with a pattern.")
            return Said(f"These are the {things}.", out)

        return Job(
            draw.say(EXTRACT_SAY, things=spoken, file=path), {path: text} | draw.clutter([path]), says(*order), answer
        )
    target = draw.new_path([path], "json", draw.any(("result", "output", things.split()[0], "")))
    made = ["import os", f"os.makedirs({target.rpartition('/')[0]!r}, exist_ok=True)"] if "/" in target else []
    code = script("import json", *start, *made, f"json.dump(found, open({target!r}, 'w'))", "print(len(found))")

    def play(_: str) -> Play:
        yield from read(path)
        out = yield from compute(code, f"I find the {things} with a pattern.")
        return Said(f"The script found {out}.", f"Wrote {out} {things} to {target}.")

    items = r"\s*,\s*".join(f'"?{re.escape(item)}"?' for item in order)
    check: dict[str, object] = {"file": target, "matches": rf"\A\s*\[\s*{items}\s*\]\s*\Z"}
    return Job(
        draw.say(EXTRACT, things=spoken, file=path, target=target),
        {path: text} | draw.clutter([path, target]),
        check,
        play,
    )


def extract_fields(draw: Draw) -> Job:
    """A few named details of a short letter, as a JSON object."""
    person, city, day = draw.person(), draw.pick(names.CITIES), draw.date()
    amount, number, product = f"{draw.amount(5, 900):.2f}", draw.code(), draw.pick(names.PRODUCTS)
    email = draw.email(person)
    details: Details = {
        "name": (person, ("My name is {}.", "This is {}.", "Best regards, {}")),
        "city": (city, ("I live in {}.", "Please ship to {}.", "I am writing from {}.")),
        "date": (day, ("I ordered on {}.", "It happened on {}.", "The order is from {}.")),
        "amount": (amount, ("I paid {} euros.", "The bill was {} euros.", "The total was {}.")),
        "order": (number, ("The order number is {}.", "It is about order {}.", "My order: {}")),
        "product": (product, ("I bought a {}.", "The {} is what I mean.", "It is about the {}.")),
        "email": (email, ("You can reach me at {}.", "Answer to {}, please.", "My address is {}")),
    }
    if draw.split == "train":
        details = _more_details(draw, details)
    keys = draw.some(list(details), draw.whole(3, 6))
    lines = [draw.any(details[key][1]).format(details[key][0]) for key in keys]
    wanted = draw.rng.sample(keys, min(len(keys), draw.whole(2, 4)))
    path = draw.text_path(draw.any(("letter", "message", "mail", "request", "order")))
    target = draw.new_path([path], "json", draw.any(("result", "fields", "details", "output", "")))
    content = json.dumps({key: details[key][0] for key in wanted}, ensure_ascii=False)
    spoken = ", ".join(wanted[:-1]) + " and " + wanted[-1]
    spoken = draw.any((spoken, "the " + spoken, ", ".join(wanted)))

    def play(_: str) -> Play:
        yield from read(path)
        yield from write(target, content, f"I write {', '.join(wanted)} as JSON.")
        return Said(f"{target} is written.", f"Wrote {', '.join(wanted)} to {target}.")

    pairs = [{"file": target, "matches": rf'"{key}"\s*:\s*"?{re.escape(details[key][0])}"?\s*[,}}]'} for key in wanted]
    check = every(*pairs, {"file": target, "matches": r"\A\s*\{.*\}\s*\Z"})
    goal = draw.say(FIELDS, fields=spoken, file=path, target=target)
    return Job(
        goal, {path: ("\n" if draw.chance(0.5) else " ").join(lines) + "\n"} | draw.clutter([path, target]), check, play
    )


def _more_details(draw: Draw, details: Details) -> Details:
    """More sorts of details, and more ways of stating each."""
    street = f"{draw.whole(1, 199)} {draw.pick(names.LAST)} {draw.any(('Street', 'Road', 'Lane', 'Avenue'))}"
    more = {
        "phone": draw.phone(), "country": draw.any(COUNTRIES), "company": f"{draw.pick(names.LAST)} {draw.any(('Ltd', 'Inc', 'GmbH', '& Sons'))}",
        "quantity": str(draw.whole(2, 90)), "size": draw.any(("XS", "S", "M", "L", "XL", str(draw.whole(34, 48)))), "colour": draw.pick(names.COLOURS),
        "time": f"{draw.whole(7, 20)}:{draw.any(('00', '15', '30', '45'))}", "street": street, "invoice": draw.code(), "account": draw.code(),
        "department": draw.pick(names.DEPARTMENTS),
    }  # fmt: skip
    values = {key: value for key, (value, _) in details.items()} | more
    forms = {key: said for key, (_, said) in details.items()}
    stated = groups("reading", "details")
    return {key: (value, (*forms.get(key, ()), *stated[key])) for key, value in values.items()}


def about(draw: Draw) -> Job:
    """What a text of a few lines is about: its title and the things it speaks of."""
    facts = draw.some(SUBJECTS, draw.whole(2, 5), rows("reading", "subjects"))
    words = {
        "day": draw.any(names.WEEKDAYS), "month": draw.pick(names.MONTHS).capitalize(), "hour": draw.whole(7, 18), "n": draw.whole(3, 60),
        "person": draw.pick(names.FIRST), "product": draw.pick(names.PRODUCTS), "city": draw.pick(names.CITIES),
    }  # fmt: skip
    subjects = [subject.format(**words) for subject, _ in facts]
    bullet = draw.any(("- ", "", "* ", "- "))
    lines = [
        f"{bullet}{subject[0].upper()}{subject[1:]} {rest.format(**words)}."
        for subject, (_, rest) in zip(subjects, facts, strict=True)
    ]
    topic = draw.pick(names.UNTITLED)
    title = draw.any(
        ("Notes on {}", "{}: what is new", "Report about {}", "News from {}", "{}, notes of the week")
    ).format(topic)
    title = title[0].upper() + title[1:]
    titled = draw.chance(0.75)
    text = "\n".join(([draw.any(("# ", "", "")) + title, ""] if titled else []) + lines) + "\n"
    path = draw.text_path()
    listed = ", ".join(subjects[:-1]) + f" and {subjects[-1]}"
    answer = f"{title}: {listed}." if titled else f"It is about {listed}."

    def play(_: str) -> Play:
        yield from read(path)
        return Said(
            "I name the title and what each line is about." if titled else "I name what each line is about.", answer
        )

    keyed = [subject.removeprefix("the ").split(" of ")[0] for subject in subjects]
    hits = [rf"(?=.*{re.escape(key)})" for key in keyed]
    options = ["".join(half) for half in combinations(hits, (len(hits) + 1) // 2)]
    check: dict[str, object] = {"answer": {"matches": rf"(?is)\A(?:{'|'.join(options)})"}}
    return Job(draw.say(ABOUT, file=path), {path: text} | draw.clutter([path]), check, play)


FAMILIES = (
    Family("extract_all", "all e-mails, dates, amounts of a text", extract_all, weight=1.3),
    Family("extract_fields", "named details of a letter as JSON", extract_fields, weight=2.4),
    Family("about", "what a text is about", about, chains=False, weight=1.5),
)
