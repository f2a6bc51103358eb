# ruff: noqa: E501
"""A family of questions in ordinary words about a text of a few sentences."""

from __future__ import annotations

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import reading
from agent.learning.curriculum.checks import says
from agent.learning.curriculum.contents import rows
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import remark
from agent.learning.curriculum.task import Family, Job
from agent.learning.curriculum.wording import wordings

_SAID = wordings("questions")
PROSE = _SAID["prose"]
PLAIN = _SAID["plain"]
FACTS: tuple[tuple[str, str, str], ...] = (
    ("The {product} is repaired on {day} at {time}.", "when is the {product} repaired", "{day} at {time}"),
    ("{name} has the key to the {word} room.", "who has the key to the {word} room", "{name}"),
    ("The supplier is closed on {day}.", "on which day is the supplier closed", "{day}"),
    ("Order {n} kg of {product} before {day}.", "how much {product} should be ordered", "{n} kg"),
    ("The meeting takes place in {city}.", "where does the meeting take place", "{city}"),
    ("The staff meeting is on {day} at {time}.", "when is the staff meeting", "{day} at {time}"),
    ("{name} will present the {word} project.", "who will present the {word} project", "{name}"),
    ("The {word} bus leaves at {time}.", "at what time does the {word} bus leave", "{time}"),
    ("The {product} goes up to {price} euros.", "what does the {product} cost now", "{price}"),
    ("We are open from {time} on {day}.", "from when are we open on {day}", "{time}"),
    ("{name} moved to {city} last year.", "where did {name} move", "{city}"),
    ("The next training is on {date}.", "when is the next training", "{date}"),
    ("There were {n} people at the party.", "how many people were at the party", "{n}"),
    ("{name} ordered {n} new {product}s.", "how many {product}s did {name} order", "{n}"),
    ("The {word} team won the prize.", "which team won the prize", "{word}"),
    ("The new colour of the {product} is {colour}.", "what is the new colour of the {product}", "{colour}"),
    ("{name} is the new manager of the {city} branch.", "who is the new manager of the {city} branch", "{name}"),
    ("The ticket to {city} costs {price} euros.", "how much is the ticket to {city}", "{price}"),
    ("The {animal} was born on {date}.", "when was the {animal} born", "{date}"),
    ("Please call {name} at {phone}.", "what is the number of {name}", "{phone}"),
    ("The package weighs {n} kg.", "how heavy is the package", "{n} kg"),
    ("Our guest from {city} arrives on {day}.", "on which day does the guest from {city} arrive", "{day}"),
    ("The invoice must be paid by {date}.", "by when must the invoice be paid", "{date}"),
    (
        "The repair of the {product} will cost {price} euros.",
        "how much will the repair of the {product} cost",
        "{price}",
    ),
    ("{name} wrote the book about the {animal}.", "who wrote the book about the {animal}", "{name}"),
    ("The {colour} car belongs to {name}.", "whose car is {colour}", "{name}"),
    ("The exhibition lasts {n} days.", "how long does the exhibition last", "{n} days"),
    ("The {word} course is taught by {name}.", "who teaches the {word} course", "{name}"),
    ("Lunch on {day} is in {city}.", "where is lunch on {day}", "{city}"),
    ("The spare {product} is in the {word} box.", "where is the spare {product}", "the {word} box"),
    ("The code of the {word} door is {code}.", "what is the code of the {word} door", "{code}"),
    ("{name} lives in {city} with a {animal}.", "which animal does {name} have", "{animal}"),
)
"""A sentence, a question it answers, the answer."""


def text_question(draw: Draw) -> Job:
    """A question in ordinary words about a text of a few sentences."""
    words: dict[str, object] = {}
    facts = draw.some(FACTS, draw.whole(2, 6), rows("questions", "facts"))
    lines: list[str] = []
    asked = draw.whole(0, len(facts) - 1)
    question = answer = source = ""
    for at, (sentence, ask, reply) in enumerate(facts):
        words = _words(draw)
        lines.append(sentence.format(**words))
        if at == asked:
            question, answer, source = ask.format(**words), reply.format(**words), lines[-1]
    for _ in range(draw.whole(0, 3)):
        lines.insert(draw.whole(0, len(lines)), remark(draw))
    bullet = draw.any(("", "", "- "))
    title = [f"Notes on {draw.pick(names.UNTITLED)}", ""] if draw.chance(0.4) else []
    joint = " " if not bullet and not title and draw.chance(0.4) else "\n"
    path = draw.text_path()
    vague = draw.chance(0.15) and not draw.part
    question = question[0].upper() + question[1:] if vague else question
    goal = draw.say(PLAIN if vague else PROSE, question=question, file=path)
    goal = goal[0].upper() + goal[1:] if goal.startswith(question) else goal
    text = joint.join([*title, *(bullet + line for line in lines)]) + "\n"
    files = {path: text} | ({} if vague else draw.clutter([path]))
    thought = f"{path} says: {source}"
    return Job(goal, files, says(_tail(answer)), lambda _: reading(path, answer, thought, vague=vague))


def _words(draw: Draw) -> dict[str, object]:
    return {
        "product": draw.pick(names.PRODUCTS), "day": draw.any(names.WEEKDAYS), "time": f"{draw.whole(7, 20)}:{draw.any(('00', '15', '30', '45'))}",
        "name": draw.any((draw.pick(names.FIRST), draw.person())), "word": draw.pick(names.WORDS), "n": draw.whole(2, 400), "city": draw.pick(names.CITIES),
        "price": f"{draw.amount(1, 90):.2f}", "date": draw.date(), "colour": draw.pick(names.COLOURS), "animal": draw.pick(names.ANIMALS),
        "phone": draw.phone(), "code": draw.code(),
    }  # fmt: skip


def _tail(answer: str) -> str:
    """What of an answer must be said: `the garden box` may go without its article."""
    return answer.removeprefix("the ")


FAMILIES = (Family("text_question", "a question about prose", text_question, answers=True, weight=2.0),)
