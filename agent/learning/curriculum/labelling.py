# ruff: noqa: E501
"""Families that put a label on a text: its sentiment, its intent, its topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import read, write
from agent.learning.curriculum.checks import file_lines, says
from agent.learning.curriculum.contents import groups
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.task import Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("labelling")
LABEL = _SAID["label"]
LABEL_LINES = _SAID["label_lines"]
GOOD = (
    "I love this {p}.", "The {p} works great.", "Excellent quality, I am very happy with the {p}.", "Best {p} I ever bought.",
    "Fantastic service and a wonderful {p}.", "Highly recommended, the {p} is perfect.", "What a delightful {p}, we use it every day.",
    "The {p} is beautiful and easy to use.", "Five stars, the {p} arrived early and works well.", "Really pleased, the {p} is superb.",
    "I am impressed, the {p} is better than I hoped.", "A great {p} for a fair price, thank you!", "The {p} made my day.",
    "Friendly staff and an amazing {p}.", "We enjoyed the {p} very much.", "So glad I bought the {p}, it is brilliant.",
)  # fmt: skip
BAD = (
    "I hate this {p}.", "The {p} broke after two days.", "Terrible quality, I am very disappointed with the {p}.", "Worst {p} I ever bought.",
    "Awful service and a useless {p}.", "Do not buy it, the {p} is a waste of money.", "What a horrible {p}, it never worked.",
    "The {p} is ugly and hard to use.", "One star, the {p} arrived late and damaged.", "Really annoyed, the {p} is poor.",
    "I am upset, the {p} is worse than I feared.", "A bad {p} for far too much money, never again!", "The {p} ruined my day.",
    "Rude staff and a dreadful {p}.", "We regret buying the {p}.", "I want my money back, the {p} is junk.",
)  # fmt: skip
INTENTS = {
    "refund": (
        "I want my money back for the {p}.",
        "Please refund order {n}.",
        "The {p} is broken, give me a refund.",
        "How do I get my money back for order {n}?",
        "Return the payment for the {p}, please.",
        "I am owed {n} euros for the {p} that I sent back.",
        "Kindly pay back what I spent on the {p}.",
    ),
    "delivery": (
        "Where is my parcel {n}?",
        "When will the {p} be delivered?",
        "My delivery is late, the {p} has not come.",
        "Has order {n} been shipped yet?",
        "The courier did not bring the {p}.",
        "How long does shipping of the {p} take?",
        "Parcel {n} still has not reached me.",
    ),
    "account": (
        "I cannot log in any more.",
        "Please reset my password.",
        "How do I change my email address?",
        "Please close my account.",
        "My login does not work since {day}.",
        "I forgot the password of my profile.",
        "Can you unlock my user profile?",
    ),
    "order": (
        "I would like to buy {n} of the {p}.",
        "Please send me two more of the {p}.",
        "Can I order the {p} in {c}?",
        "We need a new {p}, please place an order.",
        "Add a {p} to my order.",
        "I want to purchase {n} pieces of the {p}.",
        "Put me down for one {p}, please.",
    ),
    "complaint": (
        "Your staff was very rude to me.",
        "This is the third time that something goes wrong.",
        "I am not happy with how I was treated.",
        "The service on {day} was awful.",
        "I must complain about the noise.",
        "Nobody answered me for a week, that is unacceptable.",
        "Your clerk shouted at me on {day}.",
    ),
}
TOPICS = {
    "sports": (
        "The team won the match with three goals.",
        "She set a new record in the marathon.",
        "The coach praised the goalkeeper after the game.",
        "The final of the tennis cup is on {day}.",
        "The striker was injured before the league game.",
        "Swimmers from {city} took the gold medal.",
    ),
    "food": (
        "Bake the cake for forty minutes at 180 degrees.",
        "Add salt, garlic and olive oil to the pasta.",
        "The soup tastes best with fresh bread.",
        "This restaurant serves excellent fish.",
        "Whisk the eggs with sugar and a little flour.",
        "A ripe cheese goes well with grapes.",
    ),
    "travel": (
        "Our flight to {city} leaves at nine.",
        "The hotel in {city} is close to the beach.",
        "We took the night train to {city}.",
        "Pack your passport and a map of {city}.",
        "The tour through {city} starts at the old bridge.",
        "We booked two nights in a hostel near {city}.",
    ),
    "weather": (
        "Tomorrow it will rain in the north.",
        "Strong winds and snow are expected on {day}.",
        "The temperature rises to thirty degrees.",
        "After the storm the sky clears up.",
        "Fog in the morning, sunshine in the afternoon.",
        "It will be cloudy with some showers on {day}.",
    ),
    "technology": (
        "The new phone has a faster processor.",
        "Install the update and restart the computer.",
        "The software crashed because of a bug.",
        "Robots now assemble the batteries.",
        "The chip doubles the memory of the laptop.",
        "Engineers released a patch for the operating system.",
    ),
    "finance": (
        "The bank raised the interest rate.",
        "Shares fell by three percent on {day}.",
        "The company reports a higher profit.",
        "Inflation makes loans more expensive.",
        "Investors sold bonds after the tax reform.",
        "The budget shows a deficit of two billion.",
    ),
    "health": (
        "Drink enough water and sleep eight hours.",
        "The doctor prescribed new medicine.",
        "A daily walk lowers the blood pressure.",
        "The vaccine protects against the flu.",
        "Nurses treat the patients with antibiotics.",
        "Too much sugar harms the teeth.",
    ),
    "music": (
        "The band plays its new songs on {day}.",
        "She practises the violin every morning.",
        "The orchestra performed a symphony.",
        "His album reached the top of the charts.",
        "The choir sang an old melody in {city}.",
        "She tuned her guitar before the concert.",
    ),
}


def label_text(draw: Draw) -> Job:
    """The sentiment, the intent or the topic of a short text."""
    kind, what, labels, right, lines = _labelled(draw, draw.whole(1, 2))
    path = draw.text_path(draw.any((what, "message", "text", draw.pick(names.STEMS))))
    spoken = _either(draw, labels)

    def play(_: str) -> Play:
        yield from read(path)
        return Said(f"It sounds like {right}.", right)

    goal = draw.say(LABEL, what=what, file=path, labels=spoken, kind=kind)
    check = says(right, never=[label for label in labels if label != right])
    return Job(goal, {path: " ".join(lines) + "\n"} | draw.clutter([path]), check, play)


def label_lines(draw: Draw) -> Job:
    """A label for every line of a file, in another file."""
    kind, what, labels, _, _ = _labelled(draw, 1, most=2)
    answers: list[str] = []
    lines: list[str] = []
    count = draw.whole(3, 5) if draw.split == "train" else 3
    while len(lines) < count:
        _, _, _, right, text = _labelled(draw, 1, kind=kind, labels=labels)
        if text[0] not in lines:
            lines += text
            answers.append(right)
    path = draw.text_path(f"{what}s")
    target = draw.new_path([path], "txt", draw.any(("labels", "tags", "result", kind)))

    def play(_: str) -> Play:
        yield from read(path)
        each = ", ".join(f"'{_start(line)}' {label}" for line, label in zip(lines, answers, strict=True))
        yield from write(target, "\n".join(answers) + "\n", f"Line by line: {each}.")
        return Said("Every line has its label.", f"Wrote {len(lines)} labels to {target}.")

    goal = draw.say(LABEL_LINES, what=what, file=path, labels=_either(draw, labels), kind=kind, target=target)
    return Job(goal, {path: "\n".join(lines) + "\n"} | draw.clutter([path, target]), file_lines(target, answers), play)


def _start(line: str) -> str:
    """The first words of a line, without a comma or full stop after them."""
    return " ".join(line.split()[:4]).rstrip(",.!?")


def _labelled(
    draw: Draw, count: int, *, kind: str = "", labels: Sequence[str] = (), most: int = 4
) -> tuple[str, str, list[str], str, list[str]]:
    """Kind of label, what is labelled, the labels to choose from, the right one, and a text."""
    kind = kind or draw.any(("sentiment", "sentiment", "intent", "topic"))
    if kind == "sentiment":
        right = draw.any(("positive", "negative"))
        pool = GOOD if right == "positive" else BAD
        if draw.split == "heldout":
            filled = [t.format(p=draw.pick(names.PRODUCTS)) for t in draw.some(pool, count)]
        else:
            filled = [_filled(draw, t) for t in draw.some(pool, count, groups("labelling", "sentiment")[right])]
        return kind, "review", ["positive", "negative"], right, filled
    pools = _pools(draw, INTENTS if kind == "intent" else TOPICS, kind)
    chosen = list(labels) or draw.rng.sample(list(pools), draw.whole(2, most))
    right = draw.any(chosen)
    texts = draw.rng.sample(pools[right], min(count, len(pools[right])))
    filled = [_filled(draw, t) for t in texts]
    return kind, "request" if kind == "intent" else "text", chosen, right, filled


def _filled(draw: Draw, text: str) -> str:
    return text.format(
        p=draw.pick(names.PRODUCTS),
        n=draw.whole(2, 9999),
        day=draw.any(names.WEEKDAYS),
        c=draw.pick(names.COLOURS),
        city=draw.pick(names.CITIES),
    )


def _pools(draw: Draw, pools: Mapping[str, Sequence[str]], kind: str) -> dict[str, Sequence[str]]:
    """The split's texts by label: the last two of each are held out, and training has more, of more labels."""
    if draw.split == "heldout":
        return {label: texts[-2:] for label, texts in pools.items()}
    more = groups("labelling", kind)
    return {label: (*pools.get(label, ())[:-2], *more.get(label, ())) for label in dict.fromkeys((*pools, *more))}


def _either(draw: Draw, labels: Sequence[str]) -> str:
    return draw.any(
        (", ".join(labels[:-1]) + f" or {labels[-1]}", ", ".join(labels[:-1]) + f" or {labels[-1]}", " / ".join(labels))
    )


FAMILIES = (
    Family("label_text", "the sentiment, intent or topic of a text", label_text, answers=True, weight=2.0),
    Family("label_lines", "a label for every line", label_lines, weight=2.2),
)
