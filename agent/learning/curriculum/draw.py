"""The dice of one task: every choice that a family makes goes through a `Draw`, so that a seed fixes the task."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import Literal, TypeVar, cast

from agent.learning.curriculum import names
from agent.learning.curriculum.wider import wider
from agent.learning.curriculum.wording import Wording, phrase

OUTCOME = "Goal: "
"""How the record of a session's outcome begins."""
T = TypeVar("T")
Split = Literal["train", "heldout"]
HELDOUT_EVERY = 4
"""Of each pool of names every so many-th is kept for held-out goals."""
LONG_VALUES = 0.25
"""Share of odd values in training that are longer than any held-out one."""


class Draw:
    """Seeded choices for one task. The same `rng` state and `split` give the same task."""

    def __init__(self, rng: random.Random, split: Split, *, part: bool = False) -> None:
        """`part` says that the task is one part of a chain: goals name their files, and are said without manners."""
        self.rng = rng
        self.split: Split = split
        self.part = part

    def pick(self, pool: Sequence[T], more: Sequence[T] = ()) -> T:
        """One of a pool that is divided between the splits; in training often a name that no pool has.

        `more` are for training only, beside what the pool has for it.
        """
        if more and self.split == "train":
            return self.rng.choice((*self.share(pool), *more))
        return self._wider(pool) or self.rng.choice(self.share(pool))

    def some(self, pool: Sequence[T], count: int, more: Sequence[T] = ()) -> list[T]:
        """Different ones of a pool that is divided between the splits, in training of `more` too."""
        if more and self.split == "train":
            return self.rng.sample((*self.share(pool), *more), count)
        share = self.share(pool)
        some = self.rng.sample(share, min(count, len(share)))
        seen = dict.fromkeys(self._wider(pool) or item for item in some)
        return list(seen) if len(seen) == len(some) else self.some(pool, count)

    def _wider(self, pool: Sequence[T]) -> T | None:
        return cast("T | None", wider(self.rng, pool)) if self.split == "train" else None

    def share(self, pool: Sequence[T]) -> list[T]:
        """The part of a pool that this split may use; small pools are not divided."""
        if len(pool) < 2 * HELDOUT_EVERY:
            return list(pool)
        heldout = self.split == "heldout"
        return [item for at, item in enumerate(pool) if (at % HELDOUT_EVERY == HELDOUT_EVERY - 1) == heldout]

    def any(self, options: Sequence[T], more: Sequence[T] = ()) -> T:
        """One of a pool that is not divided; in training of `more` too."""
        return self.rng.choice((*options, *more) if more and self.split == "train" else options)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def whole(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def amount(self, low: float, high: float) -> float:
        """A number with two decimals, the last of which is not always zero."""
        return round(self.rng.uniform(low, high), 2)

    def say(self, wording: Wording, **values: object) -> str:
        return phrase(self.rng, self.split, wording, plain=self.part, **values)

    def person(self) -> str:
        return f"{self.pick(names.FIRST)} {self.pick(names.LAST)}"

    def people(self, count: int) -> list[str]:
        """Different first names, so that none can be mistaken for another."""
        return [f"{first} {self.pick(names.LAST)}" for first in self.some(names.FIRST, count)]

    def email(self, person: str | None = None) -> str:
        first, _, last = (person or self.person()).lower().partition(" ")
        form = self.any((f"{first}.{last}", f"{first[0]}{last}", f"{first}{self.whole(1, 99)}", f"{last}_{first}"))
        return f"{form}@{self.pick(names.DOMAINS)}"

    def phone(self) -> str:
        form = self.any(("+## ## ### ####", "0## ### ####", "555-####", "(0##) ###-###", "+### ## #######"))
        return "".join(str(self.whole(1, 9)) if c == "#" else c for c in form)

    def date(self, first: int = 2021, last: int = 2026) -> str:
        return f"{self.whole(first, last)}-{self.whole(1, 12):02}-{self.whole(1, 28):02}"

    def code(self) -> str:
        """An odd value that can only be copied: an identifier, a key, a version, an address."""
        upper, both = string.ascii_uppercase, string.ascii_letters
        forms = [
            "AA-####",
            "A##-AAA",
            "####-####",
            "AAA####",
            "#.##.#",
            "xxxx-####",
            "A#A#A#",
            "10.#.##.##",
            "hhhhhhhh",
        ]
        if self.split == "train" and self.chance(LONG_VALUES):
            forms = [
                "hhhhhhhhhhhhhhhh",
                "AAAA-####-####-AA",
                "xxxxxxxx-xxxx-####",
                "bbbbbbbbbbbbbb",
                "####-####-####-####",
            ]
        alphabet = {
            "A": upper,
            "#": "123456789",
            "x": string.ascii_lowercase,
            "h": "0123456789abcdef",
            "b": both + "23456789",
        }
        return "".join(self.rng.choice(alphabet[c]) if c in alphabet and c != "." else c for c in self.any(forms))

    def value(self) -> str:
        """Something that a line of a file may say of something else."""
        kind = self.whole(0, 7)
        if kind == 0:
            return self.person()
        if kind == 1:
            return str(self.whole(2, 99999))
        if kind == 2:
            return self.date()
        if kind == 3:
            return f"{self.pick(names.COLOURS)} {self.pick(names.ANIMALS)}"
        if kind == 4:
            return self.pick(names.CITIES)
        if kind == 5:
            return f"{self.whole(7, 20)}:{self.any(('00', '15', '30', '45'))}"
        return self.code()

    def path(self, extension: str, stem: str = "") -> str:
        """A file's path: a stem, perhaps with a tail, perhaps in a folder."""
        stem = self._wider(names.STEMS) or stem or self.pick(names.STEMS)
        tail = self.rng.random()
        if tail < 0.10:
            stem = f"{stem}_{self.whole(2019, 2026)}"
        elif tail < 0.18:
            stem = f"{stem}-{self.pick(names.MONTHS)}"
        elif tail < 0.24:
            stem = f"{self.pick(names.WORDS)}_{stem}"
        elif tail < 0.28:
            stem = f"{stem}{self.whole(2, 9)}"
        elif tail < 0.31:
            stem = stem.capitalize()
        folder = f"{self.pick(names.FOLDERS)}/" if self.chance(0.2) else ""
        return f"{folder}{stem}.{extension}"

    def text_path(self, stem: str = "") -> str:
        return self.path(self.any(("txt", "txt", "txt", "md")), stem)

    def new_path(self, taken: Sequence[str], extension: str, stem: str = "") -> str:
        """A path that is not taken yet, also not by a file of that name in another folder."""
        used = {path.rpartition("/")[2].lower() for path in taken}
        while True:
            path = self.path(extension, stem)
            if path.rpartition("/")[2].lower() not in used:
                return path
            stem = ""

    def record(self, goal: str) -> str:
        """What memory holds of an earlier session: of another goal, or an answer to this one that is not true now."""
        path, value = self.text_path(), self.value()
        thing = self.pick(names.SETTINGS).replace("_", " ")
        kind = self.whole(0, 5)
        if kind == 0:
            return f"read_file(path={path}) -> ok: {thing}: {value} {' '.join(self.some(names.WORDS, 3))}"
        if kind == 1:
            return f"run_python(code=print({self.whole(2, 99)})) -> ok: stdout: {self.whole(2, 999)} exit status 0"
        asked, answer, tool = self.any(
            (
                (f"What is the {thing} in {path}?", value, f"read_file(path={path})"),
                (f"Write {value} to {path}", f"Wrote {path}.", f"write_file(path={path}, content={value})"),
                (f"How many lines has {path}?", str(self.whole(2, 40)), "run_python(code=from pathlib import Path)"),
            )
        )
        if kind == 2:
            asked, answer = goal, self.value()
        return self.outcome(asked, answer, tool)

    def outcome(self, asked: str, answer: str, step: str = "") -> str:
        """What memory holds of an earlier session's end."""
        check = self.any(("no check", "check passed"))
        ending = f"{OUTCOME}{asked}\nEnding: finished ({check})\nAnswer: {answer}"
        return f"{ending}\nSteps that worked: {step}" if step else ending

    def clutter(self, taken: Sequence[str], most: int = 3) -> dict[str, str]:
        """Small files that have nothing to do with the goal."""
        files: dict[str, str] = {}
        for _ in range(self.any((0, 0, 1, 1, 2, most))):
            path = self.new_path([*taken, *files], self.any(("txt", "md", "log", "json", "csv", "ini")))
            files[path] = self.filler(path)
        return files

    def filler(self, path: str) -> str:
        """A few lines that fit the file's extension."""
        words = self.some(names.WORDS, 5)
        if path.endswith(".json"):
            return f'{{"{words[0]}": "{words[1]}", "{words[2]}": {self.whole(1, 99)}}}\n'
        if path.endswith(".csv"):
            return f"{words[0]},{words[1]}\n" + "".join(f"{self.whole(1, 99)},{self.whole(1, 99)}\n" for _ in range(3))
        if path.endswith(".ini"):
            return f"[{words[0]}]\n{words[1]} = {self.whole(1, 99)}\n"
        return "".join(f"{word} {self.pick(names.ANIMALS)} {self.whole(1, 99)}\n" for word in words[: self.whole(2, 5)])
