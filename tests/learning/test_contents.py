"""What training goals are made of: it is right, and nothing of it is in a held-out goal."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import pytest

from agent.learning.curriculum import families, labelling, lookup, questions, repair, stopping, task_named
from agent.learning.curriculum.contents import contents, groups, rows
from agent.learning.curriculum.draw import Draw

HELDOUT = Draw(random.Random(0), "heldout")


def test_training_draws_from_the_contents_and_held_out_goals_never_do() -> None:
    more = rows("repair", "bugs")
    trained = Draw(random.Random(0), "train")
    assert {trained.pick(repair.BUGS, more) for _ in range(500)} & set(more)
    assert {HELDOUT.pick(repair.BUGS, more) for _ in range(500)} <= set(HELDOUT.share(repair.BUGS))
    assert set(HELDOUT.some(repair.BUGS, 4, more)) <= set(HELDOUT.share(repair.BUGS))
    assert {HELDOUT.any(stopping.ORDERS, contents("stopping", "orders")) for _ in range(500)} <= set(stopping.ORDERS)


def test_what_is_held_out_is_not_among_them() -> None:
    assert not {bug[0] for bug in HELDOUT.share(repair.BUGS)} & {bug[0] for bug in rows("repair", "bugs")}
    assert not {fact[1] for fact in HELDOUT.share(questions.FACTS)} & {fact[1] for fact in rows("questions", "facts")}
    assert not set(HELDOUT.share(lookup.THINGS)) & set(contents("lookup", "things"))
    for kind, pools in (("intent", labelling.INTENTS), ("topic", labelling.TOPICS)):
        for label, texts in pools.items():
            assert not set(texts[-2:]) & set(groups("labelling", kind)[label])


@pytest.mark.parametrize("bug", rows("repair", "bugs"), ids=lambda bug: bug[0])
def test_a_bug_fails_its_test_and_its_mend_passes(bug: Sequence[str]) -> None:
    name, parameters, wrong, right, test = bug
    assert _passes(name, parameters, right, test)
    assert not _passes(name, parameters, wrong, test)


def _passes(name: str, parameters: str, line: str, test: str) -> bool:
    names: dict[str, Any] = {}
    try:
        exec(f"def {name}({parameters}):\n{line}\n", names)
        return bool(eval(test.format(f=name), names))
    except Exception:
        return False


def test_an_answer_is_a_part_of_its_sentence() -> None:
    for sentence, question, answer in rows("questions", "facts"):
        assert answer in sentence, question


def test_every_sum_in_words_and_every_conversion_comes_to_something() -> None:
    for text, formula, *ranges in rows("reckoning", "word_sums"):
        assert len(set(re.findall(r"\{(\w)\}", text))) == len(ranges), text
        for end in (0, 1):
            numbers = {name: bounds.split("-")[end] for name, bounds in zip("abcdefg", ranges, strict=False)}
            assert isinstance(eval(formula.format(**numbers)), int | float), text
    for a, b, formula in rows("reckoning", "units"):
        assert isinstance(eval(formula.format(7)), int | float), (a, b)


def test_every_letter_states_each_of_its_details_once() -> None:
    for key, sentences in groups("reading", "details").items():
        assert all(sentence.count("{}") == 1 for sentence in sentences), key


def test_a_script_that_is_there_is_run_and_not_written_anew() -> None:
    tasks = [task_named(f"small_script/train/3/{number}") for number in range(40)]
    there = [task.row for task in tasks if any(path.endswith(".py") for path in task.row.files)]
    assert 10 < len(there) < 30
    assert families()["small_script"].seen
