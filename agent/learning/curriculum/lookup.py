# ruff: noqa: E501
"""Families that look a value up: in notes, in settings of five formats, in logs, among lists of people."""

from __future__ import annotations

import json
from collections.abc import Mapping

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import read, reading
from agent.learning.curriculum.checks import says
from agent.learning.curriculum.contents import contents
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("lookup")
FACT = _SAID["fact"]
VAGUE = _SAID["vague"]
WHO = _SAID["who"]
LOGGED = _SAID["logged"]
THINGS = (
    "door code", "wifi password", "meeting room", "contact person", "phone number", "deadline", "budget", "start date",
    "order number", "invoice number", "tracking number", "locker number", "project name", "team lead", "delivery date",
    "parking space", "serial number", "license key", "account number", "departure time", "gate", "seat", "hotel",
    "flight number", "room number", "alarm code", "supplier", "customer", "version", "backup server", "database name",
    "support email", "opening time", "closing time", "address", "ticket number", "case number", "access code", "owner",
    "booking reference", "membership number", "printer name", "pin", "venue", "keynote speaker", "due date", "price",
)  # fmt: skip
SENTENCES = (
    "The {key} is {value}.", "{Key}: {value}", "- {key}: {value}", "{Key} = {value}", "Please note that the {key} is {value}.",
    "We agreed that the {key} is {value}.", "* The {key} was changed to {value}.", "The new {key} is {value}.",
)  # fmt: skip
REMARKS = (
    "Ask {person} if anything is unclear.", "The {animal} stays at home.", "Bring the {colour} folder.",
    "Lunch is at noon.", "This was discussed on {day}.", "Nothing else changed.", "The {product} still has to be ordered.",
    "{person} takes the minutes.", "Keep this list up to date.", "See you on {day}.", "{person} is away until {day}.",
)  # fmt: skip


def text_value(draw: Draw) -> Job:
    """A fact in a text of a few lines, among other facts and remarks."""
    keys = things(draw, draw.whole(2, 6))
    values = {key: _value_of(draw, key) for key in keys}
    form = sentence(draw) if draw.chance(0.6) else ""
    lines = [stated(form or sentence(draw), key, value) for key, value in values.items()]
    for _ in range(draw.whole(0, 4)):
        lines.insert(draw.whole(0, len(lines)), remark(draw))
    if draw.chance(0.4):
        lines.insert(0, f"{'# ' if draw.chance(0.4) else ''}Notes on {draw.pick(names.UNTITLED)}")
    asked = draw.any(keys)
    path = draw.text_path()
    return _fact_job(draw, path, "\n".join(lines) + "\n", asked, values[asked], "the text file")


def config_value(draw: Draw) -> Job:
    """A setting in an INI, JSON, YAML, TOML or .env file; other sections may have a setting of the same name."""
    form = draw.any(("ini", "json", "yaml", "toml", "env", "ini", "json", "yaml"))
    sections = draw.some(names.SECTIONS, draw.whole(2, 4))
    shared = draw.pick(names.SETTINGS)
    tree: dict[str, dict[str, str]] = {}
    for section in sections:
        keys = {*draw.some(names.SETTINGS, draw.whole(1, 4)), *([shared] if draw.chance(0.6) else [])}
        tree[section] = {key: draw.value() for key in sorted(keys)}
    section = draw.any(sections)
    key = draw.any(list(tree[section]))
    only_here = [own for own in tree[section] if sum(own in other for other in tree.values()) == 1]
    plain = draw.split == "train" and draw.chance(0.6)
    if plain:  # asked for by its key alone, as a setting that is to be changed is
        key, plain = draw.any(only_here or [key]), bool(only_here)
    value = tree[section][key]
    path = draw.path(form if form != "env" else "env", draw.any(("config", "settings", "app", "service", "defaults")))
    spoken = key.replace("_", " ") if draw.chance(0.3) else key
    asked = draw.any((f"{section} {spoken}", f"{spoken} of the {section}", f"{spoken} in the {section} section"))
    asked = f"{section}.{key}" if draw.chance(0.1) else asked
    if form == "env":
        asked = f"{section}_{key}".upper()
    if plain:
        asked = spoken
    found = key if plain else f"{section} {key}"
    return _fact_job(draw, path, written(tree, form), asked, value, f"the {form} file", found=found)


def log_value(draw: Draw) -> Job:
    """The first error or warning of a log."""
    level = draw.any(("ERROR", "WARNING", "ERROR", "CRITICAL"))
    lines, wanted = log_lines(draw, level)
    path = draw.path("log", draw.pick(names.SERVICES))
    spoken = draw.any((level, level.lower(), {"ERROR": "error", "WARNING": "warning", "CRITICAL": "critical"}[level]))
    goal = draw.say(LOGGED, level=spoken, file=path)
    message = wanted.partition(f"{level} ")[2]

    def play(_: str) -> Play:
        if draw_search:
            seen = yield Act(f"I search {path} for {level}.", "search_files", {"pattern": level, "path": path})
            first = seen.text.split("\n")[0].partition(": ")[2]
        else:
            text = yield from read(path)
            first = next(line for line in text.split("\n") if level in line)
        return Said(f"The first {level} line is at {first.split(' ')[1]}.", first)

    draw_search = draw.chance(0.3)
    files = {path: "\n".join(lines) + "\n"}
    return Job(goal, files | draw.clutter([path]), says(message), play)


def person_value(draw: Draw) -> Job:
    """A detail of one of several people in a list."""
    people = draw.people(draw.whole(3, 8))
    kinds = draw.some(("email", "phone number", "badge number", "room", "birthday", "city"), draw.whole(2, 3))
    makers = {
        "phone number": draw.phone,
        "badge number": draw.code,
        "room": lambda: f"{draw.any('ABCDE')}{draw.whole(100, 499)}",
        "birthday": lambda: draw.date(1960, 2004),
        "city": lambda: draw.pick(names.CITIES),
    }
    details = {p: {k: draw.email(p) if k == "email" else makers[k]() for k in kinds} for p in people}
    form = draw.whole(0, 2)
    if form == 0:
        lines = [", ".join((p, *(f"{k}: {v}" for k, v in d.items()))) for p, d in details.items()]
    elif form == 1:
        lines = [" | ".join((p, *d.values())) for p, d in details.items()]
        lines.insert(0, " | ".join(("name", *kinds)))
    else:
        lines = [line for p, d in details.items() for line in (p, *(f"  {k}: {v}" for k, v in d.items()))]
    person, key = draw.any(people), draw.any(kinds)
    path = draw.text_path(draw.any(("contacts", "members", "people", "staff", "team", "phonebook", "guests")))
    name = person.partition(" ")[0] if draw.chance(0.35) else person
    goal = draw.say(WHO, name=name, key=key, file=path)
    value = details[person][key]
    thought = f"The {key} of {person} is {value}."
    return Job(
        goal,
        {path: "\n".join(lines) + "\n"} | draw.clutter([path]),
        says(value),
        lambda _: reading(path, value, thought),
    )


def _fact_job(draw: Draw, path: str, text: str, key: str, value: str, kind: str, found: str = "") -> Job:
    """A question for a value, whose file is named or only described."""
    vague = draw.chance(0.15) and not draw.part
    files = {path: text}
    extension = path.rpartition(".")[2]
    clutter = {
        name: content
        for name, content in draw.clutter([path]).items()
        if not vague or name.rpartition(".")[2] not in (extension, "txt", "md")
    }
    goal = draw.say(VAGUE if vague else FACT, key=key, file=kind if vague else path)
    thought = draw.any((f"{path} says {found or key} is {value}.", f"The {found or key} is {value}."))
    return Job(goal, files | clutter, says(value), lambda _: reading(path, value, thought, vague=vague))


def log_lines(draw: Draw, level: str, *, hits: int = 0) -> tuple[list[str], str]:
    """Lines of a log with some of the level, and the first of these."""
    service = draw.pick(names.SERVICES)
    good = (
        "started",
        "request done in {n} ms",
        "user {word} logged in",
        "{n} records loaded",
        "cache cleared",
        "job {n} queued",
    )
    bad = (
        "connection to {word} refused", "disk {word} is at {n} percent", "request {code} timed out after {n} s",
        "cannot open {word}.dat", "payment {code} was rejected", "queue {word} is full", "checksum of {code} does not match",
    )  # fmt: skip
    day, hour, minute = draw.date(), draw.whole(0, 20), draw.whole(0, 30)
    count = draw.whole(4, 12)
    where = set(draw.rng.sample(range(1, count), min(count - 1, hits or draw.whole(1, 3))))
    other = "WARNING" if level != "WARNING" else "DEBUG"
    lines: list[str] = []
    for number in range(count):
        minute += draw.whole(0, 2)
        this = level if number in where else draw.any(("INFO", "INFO", "INFO", other))
        form = draw.any(bad if this in (level, "WARNING") else good)
        text = form.format(n=draw.whole(2, 900), word=draw.pick(names.WORDS), code=draw.code())
        lines.append(f"{day} {hour:02}:{minute % 60:02}:{draw.whole(10, 59)} {this} {service}: {text}")
    return lines, lines[min(where)]


def remark(draw: Draw) -> str:
    """A sentence that answers no question."""
    return draw.any(REMARKS, contents("lookup", "remarks")).format(
        person=draw.pick(names.FIRST),
        animal=draw.pick(names.ANIMALS),
        colour=draw.pick(names.COLOURS),
        day=draw.any(names.WEEKDAYS),
        product=draw.pick(names.PRODUCTS),
    )


def written(tree: Mapping[str, Mapping[str, str]], form: str) -> str:
    """Sections of settings in one of the formats."""
    if form == "json":
        return json.dumps(tree, indent=2) + "\n"
    lines: list[str] = []
    for section, settings in tree.items():
        if form == "env":
            lines += [f"{section}_{key}".upper() + f"={value}" for key, value in settings.items()]
        elif form == "yaml":
            lines += [f"{section}:", *(f"  {key}: {value}" for key, value in settings.items())]
        else:
            quote = '"' if form == "toml" else ""
            lines += [f"[{section}]", *(f"{key} = {quote}{value}{quote}" for key, value in settings.items()), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def things(draw: Draw, count: int) -> list[str]:
    """Different details that notes may state."""
    return draw.some(THINGS, count, contents("lookup", "things"))


def thing(draw: Draw) -> str:
    """A detail that notes may state."""
    return draw.pick(THINGS, contents("lookup", "things"))


def sentence(draw: Draw) -> str:
    """A way in which notes state a detail, for `stated`."""
    return draw.any(SENTENCES, contents("lookup", "sentences"))


def stated(form: str, key: str, value: str) -> str:
    """The sentence of a detail and its value."""
    return form.format(key=key, Key=key[:1].upper() + key[1:], value=value)


def _value_of(draw: Draw, key: str) -> str:
    """A value of the sort that the key leads one to expect."""
    if any(word in key for word in ("person", "lead", "speaker", "owner", "customer")):
        return draw.person()
    if "date" in key or key == "deadline":
        return draw.any((draw.date(), f"{draw.whole(1, 28)} {draw.pick(names.MONTHS).capitalize()}"))
    if "time" in key:
        return f"{draw.whole(6, 22)}:{draw.any(('00', '10', '15', '30', '45'))}"
    if key == "phone number":
        return draw.phone()
    if "email" in key:
        return draw.email()
    if key in ("budget", "price"):
        return f"{draw.amount(5, 9000):.2f}"
    if key in ("project name", "hotel", "venue", "supplier"):
        return f"{draw.pick(names.COLOURS).capitalize()} {draw.pick(names.ANIMALS).capitalize()}"
    if key == "address":
        return f"{draw.whole(1, 199)} {draw.pick(names.LAST)} Street, {draw.pick(names.CITIES)}"
    return draw.code()


FAMILIES = (
    Family("text_value", "a fact in a text", text_value, answers=True, weight=1.5),
    Family("config_value", "a setting in an INI, JSON, YAML, TOML or env file", config_value, answers=True, weight=2.4),
    Family("log_value", "the first error of a log", log_value, weight=1.2),
    Family("person_value", "a detail of one person in a list", person_value, answers=True, weight=1.2),
)
