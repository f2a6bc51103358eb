# ruff: noqa: E501
"""Families of everyday requests: questions about prose, files of numbers, number sequences, small scripts, folders, to-dos."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, read, reading, script, write
from agent.learning.curriculum.checks import every, file_is, says
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.lookup import remark
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import Wording
from agent.types import JSON

PROSE = Wording(
    train=(
        "{question}? (Look in|See|Read|Check|It is in) {file}",
        "{question}? (The answer is|That is|It stands) in {file}",
        "According to {file}, {question}?",
        "(Read|Open|Look at) {file}: {question}?",
        "~{file}: {question}?",
        "(Look in|See|Use) {file} and (tell me|answer|say): {question}?",
        "{question}, according to {file}?",
        "I (want|need) to know: {question}? (See|Use) {file}",
    ),
    heldout=(
        "Going by what {file} says, {question}?",
        "{file} should tell you this: {question}?",
        "{question}? I believe {file} has it",
    ),
)
PLAIN = Wording(
    train=(
        "{question}?",
        "{question}? (It is|It must be|Look) in the (file|notes|text)",
        "(Tell me|Find out): {question}?",
    ),
    heldout=("{question}? The file should say", "Somewhere in the text: {question}?"),
)
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
NUMBERS = {
    "sum": Wording(
        train=(
            "What is the (sum|total) of the numbers in {file}?",
            "(Add up|Sum|Sum up) (the|all|all the) numbers (in|of) {file}",
            "(Calculate|Compute) the (sum|total) of {file}",
            "What do the numbers in {file} add up to?",
            "~sum of numbers in {file}",
            "What is the total in {file}?",
        ),
        heldout=("Tally the figures of {file}", "What does everything in {file} come to?"),
    ),
    "mean": Wording(
        train=(
            "What is the (average|mean) of the numbers in {file}?",
            "(Calculate|Compute|Find) the (average|mean) of (the numbers in|) {file}",
            "What is the average in {file}?",
            "~average of {file}",
        ),
        heldout=("Average out the figures of {file}",),
    ),
    "max": Wording(
        train=(
            "What is the (largest|biggest|highest|greatest) number in {file}?",
            "(Find|Tell me|Give me) the (largest|biggest|highest) (number|value) (in|of) {file}",
            "Which number in {file} is the (largest|biggest|highest)?",
            "What is the maximum of {file}?",
            "~max of {file}",
        ),
        heldout=("Which figure of {file} tops all others?", "What is the record value in {file}? I mean the top one"),
    ),
    "min": Wording(
        train=(
            "What is the (smallest|lowest) number in {file}?",
            "(Find|Tell me|Give me) the (smallest|lowest) (number|value) (in|of) {file}",
            "Which number in {file} is the (smallest|lowest)?",
            "What is the minimum of {file}?",
            "~min of {file}",
        ),
        heldout=("Which figure of {file} is below all others?",),
    ),
    "count": Wording(
        train=(
            "How many numbers are (in|there in) {file}?",
            "(Count|Tell me) (the|how many) numbers (in|are in) {file}",
            "~how many numbers in {file}",
        ),
        heldout=("{file} consists of how many figures?",),
    ),
}
SORTED = Wording(
    train=(
        "Sort the numbers in {file} {way} and (save|write) (them|the result) (to|in) {target}",
        "(Write|Save) the numbers of {file} (sorted|in order) {way} (to|in) {target}",
        "(Order|Sort) {file} numerically {way} into {target}",
    ),
    heldout=("Bring the figures of {file} in order {way}; {target} gets the outcome",),
)
SEQUENCE = Wording(
    train=(
        "What are {what}?",
        "(List|Give me|Show me|Tell me|Print) {what}",
        "(Compute|Calculate) {what}",
        "I need {what}",
        "~{what}",
    ),
    heldout=("Produce {what}", "Might I see {what}?"),
)
SEQUENCE_FILE = Wording(
    train=(
        "(Write|Save|Put) {what} (to|into|in) {file}, one per line",
        "(Create|Make) (a file|) {file} with {what}, one per line",
        "(Write|Save) {what} (to|in) {file}, each on its own line",
        "(Compute|Calculate) {what} and (write|save) them (to|in) {file}, one per line",
        "~{what} > {file}, one per line",
        "(Write|Save) {what} (to|in) {file}",
    ),
    heldout=("{file} should list {what}, a line for each", "Produce {what} as lines of {file}"),
)
YES_NO = Wording(
    train=(
        "Is {n} (a prime number|prime)?",
        "(Check|Tell me|Find out) (if|whether) {n} is (prime|a prime number)",
        "~{n} prime?",
    ),
    heldout=("Would you call {n} a prime?", "{n}: prime or not?"),
)
FACTORIAL = Wording(
    train=(
        "What is the factorial of {n}?",
        "(Compute|Calculate) the factorial of {n}",
        "(Compute|Calculate|What is) {n}!",
        "~factorial of {n}",
        "How much is {n} factorial?",
    ),
    heldout=("Multiply all whole numbers up to {n}; the product?",),
)
SCRIPT = Wording(
    train=(
        "(Write|Create|Make) a (Python|) script {file} that prints {text}",
        "(Write|Create|Make) a Python (script|program) (called|named) {file} that prints {text} and run it",
        "(Write|Create) {file}, a (Python|) program that prints {text}",
        "I need a Python (script|program) {file} (printing|which prints) {text}",
        "(Create|Make) {file} so that running it prints {text}",
    ),
    heldout=("Develop a tiny program {file} whose output is {text}", "Code up {file}; its output should be {text}"),
)
FOLDER = Wording(
    train=(
        "(Create|Make) (a|the) (folder|directory) (called|named|) {folder}",
        "(Create|Make) a (new|) (folder|directory) {folder}",
        "I need a (folder|directory) {folder}",
        "~mkdir {folder}",
        "Add a (folder|directory) (named|called) {folder}",
    ),
    heldout=("Set up a directory by the name of {folder}", "There ought to be a folder {folder}"),
)
INTO = Wording(
    train=(
        "(Create|Make) a (folder|directory) {folder} and (write|put|save) {text} (to|into|in) {file} (in it|inside|there)",
        "(Write|Put|Save) {text} (to|into|in) {file} (in|inside) (a|the) (new|) (folder|directory) {folder}",
        "In the folder {folder}, (create|make) {file} with {text}",
    ),
    heldout=("Within a directory {folder}, let {file} consist of {text}",),
)
MARKS = Wording(
    train=(
        "(Which|What) lines (contain|have|mention) {word} (in the files|)?",
        "(Find|Show me|List) (all|the|all the) {word} (comments|lines|notes|items) (in the files|in my files|here|)",
        "Where (do I have|are|is) {word} in the files?",
        "(Search|Look through) (the|all) files for {word} and (list|show me) the lines",
        "~grep {word}",
        "(Search|Look) for {word} (everywhere|in all files)",
    ),
    heldout=("Gather every {word} that is left in these files", "Where else does it say {word}? Give me the lines"),
)


def text_question(draw: Draw) -> Job:
    """A question in ordinary words about a text of a few sentences."""
    words: dict[str, object] = {}
    facts = draw.some(FACTS, draw.whole(2, 6))
    lines: list[str] = []
    asked = draw.whole(0, len(facts) - 1)
    question = answer = ""
    for at, (sentence, ask, reply) in enumerate(facts):
        words = _words(draw)
        lines.append(sentence.format(**words))
        if at == asked:
            question, answer = ask.format(**words), reply.format(**words)
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
    source = next(line for line in lines if _tail(answer) in line)
    files = {path: text} | ({} if vague else draw.clutter([path]))
    thought = f"{path} says: {source}"
    return Job(goal, files, says(_tail(answer)), lambda _: reading(path, answer, thought, vague=vague))


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
        Wording(
            (
                "What (date|day) is (it|) today?",
                "What is today's date?",
                "(Tell|Give) me the date of today",
                "~today's date?",
                "Which date do we have today?",
            ),
            ("Today is what date?", "State the current date"),
        ),
        ("from datetime import date", "print(date.today())"),
        r"\d{4}-\d{2}-\d{2}",
    ),
    (
        Wording(
            ("What time is it (now|)?", "What is the (current|) time?", "(Tell|Give) me the time", "~time now?"),
            ("How late is it?", "State the current time"),
        ),
        ("from datetime import datetime", "print(datetime.now().strftime('%H:%M'))"),
        r"\d{1,2}:\d{2}",
    ),
    (
        Wording(
            (
                "(Which|What) (version of Python|Python version) (is this|do you use|is installed|runs here)?",
                "(Tell|Give) me the Python version",
                "~python version?",
            ),
            ("State the release of Python in use",),
        ),
        ("import sys", "print(sys.version.split()[0])"),
        r"3\.\d+",
    ),
)


def small_script(draw: Draw) -> Job:
    """A script that prints a given text, written and run."""
    text = draw.any(
        (
            "Hello, world!",
            "hello",
            "Hello World",
            draw.pick(names.WORDS),
            f"{draw.pick(names.WORDS)} {draw.whole(2, 99)}",
            draw.code(),
        )
    )
    path = draw.new_path([], "py", draw.any(("hello", "main", "script", "test", "app", draw.pick(names.WORDS))))
    quoted = draw.any((f"'{text}'", f'"{text}"', text if " " not in text else f"'{text}'"))
    code = f"exec(open({path!r}).read())"

    def play(_: str) -> Play:
        yield from write(path, f"print({text!r})\n", f"I write the script {path}.")
        out = yield from compute(code, f"I run {path} to test it.")
        return Said(f"It prints {out}.", f"Wrote {path}; it prints {out}.")

    judge = script(
        "import contextlib, io, runpy",
        "out = io.StringIO()",
        "with contextlib.redirect_stdout(out):",
        f"    runpy.run_path({path!r}, run_name='__main__')",
        f"assert out.getvalue().strip() == {text!r}",
    )
    return Job(draw.say(SCRIPT, file=path, text=quoted), draw.clutter([path]), {"python": judge}, play)


def folders(draw: Draw) -> Job:
    """A new folder, or a file in one."""
    folder = draw.any(
        (draw.pick(names.FOLDERS), draw.pick(names.WORDS), f"{draw.pick(names.WORDS)}_{draw.whole(1, 30)}")
    )
    if draw.chance(0.5):
        code = script(
            "from pathlib import Path",
            f"Path({folder!r}).mkdir(parents=True, exist_ok=True)",
            f"print(Path({folder!r}).is_dir())",
        )

        def make(_: str) -> Play:
            out = yield from compute(code, f"I make the folder {folder} with Python.")
            return Said(f"Python says {out}.", f"Created the folder {folder}.")

        judge = f"import os\nassert os.path.isdir({folder!r})"
        return Job(draw.say(FOLDER, folder=folder), draw.clutter([]), {"python": judge}, make)
    name = draw.any(("notes.txt", "readme.md", "a.txt", f"{draw.pick(names.WORDS)}.txt"))
    text = draw.any((remark(draw), draw.pick(names.WORDS), draw.code()))
    path = f"{folder}/{name}"

    def play(_: str) -> Play:
        yield from write(path, text, f"I write {path}, the folder is made with it.")
        return Said(f"{path} is written.", f"Wrote {path}.")

    return Job(draw.say(INTO, folder=folder, file=name, text=f"'{text}'"), draw.clutter([]), file_is(path, text), play)


def marked_lines(draw: Draw) -> Job:
    """The lines that hold a mark such as TODO, with file and number."""
    word = draw.any(("TODO", "FIXME", "NOTE", "DONE", "URGENT"))
    files: dict[str, str] = {}
    wanted: list[str] = []
    for _ in range(draw.whole(2, 4)):
        path = draw.new_path(list(files), draw.any(("py", "txt", "md")))
        lines = [
            remark(draw) if not path.endswith(".py") else f"{draw.pick(names.WORDS)} = {draw.whole(1, 99)}"
            for _ in range(draw.whole(2, 4))
        ]
        if draw.chance(0.6) or not wanted:
            task = f"{draw.any(('check', 'order', 'paint', 'update', 'remove'))} the {draw.pick(names.PRODUCTS)}"
            lines.insert(draw.whole(0, len(lines)), f"{'# ' if path.endswith('.py') else ''}{word}: {task}")
            wanted.append(task)
        files[path] = "\n".join(lines) + "\n"

    def play(_: str) -> Play:
        seen = yield Act(f"I search all files for {word}.", "search_files", {"pattern": word})
        return Said(f"These lines have {word}.", seen.text)

    return Job(draw.say(MARKS, word=word), files, says(*wanted), play)


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


def _primes(below: int) -> list[int]:
    return [n for n in range(2, below) if all(n % d for d in range(2, int(n**0.5) + 1))]


def _fibonacci(count: int) -> list[int]:
    found = [1, 1]
    while len(found) < count:
        found.append(found[-1] + found[-2])
    return found[:count]


FAMILIES = (
    Family("text_question", "a question about prose", text_question, answers=True, weight=2.2),
    Family("numbers_file", "a figure of a file of numbers", numbers_file, weight=1.2),
    Family("sequence", "primes, squares and other sequences", sequence, weight=1.0),
    Family("number_facts", "primes, factorials, the clock", number_facts, chains=False, weight=0.5),
    Family("small_script", "a script that prints a text", small_script, weight=0.6),
    Family("folders", "a new folder, a file in it", folders, weight=0.5),
    Family("marked_lines", "lines with TODO and the like", marked_lines, chains=False, weight=0.7),
)
