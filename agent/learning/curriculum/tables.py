# ruff: noqa: E501
"""Tables to ask about: a kind of record with a name, a category and numbers, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from agent.learning.curriculum import names
from agent.learning.curriculum.draw import Draw

Cell = str | int | float


@dataclass(frozen=True)
class Kind:
    """What a table is about: file stems, the naming column, category columns and number columns with their range."""

    stems: tuple[str, ...]
    label: tuple[str, str]
    categories: tuple[tuple[str, str], ...]
    numbers: tuple[tuple[str, float, float], ...]
    """Name, lowest, highest; a column has decimals when its bounds are floats with a fraction."""
    dated: bool = False


@dataclass(frozen=True)
class Table:
    path: str
    kind: Kind
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    delimiter: str = ","

    @property
    def label(self) -> str:
        return self.kind.label[0]

    @property
    def text(self) -> str:
        return csv_text(self.columns, self.rows, self.delimiter)

    def column(self, name: str) -> list[Cell]:
        at = self.columns.index(name)
        return [row[at] for row in self.rows]

    def numbers(self, name: str) -> list[float]:
        return [float(cell) for cell in self.column(name)]

    def whole(self, name: str) -> bool:
        """Whether a column of numbers has no decimals."""
        return all(isinstance(cell, int) for cell in self.column(name))

    @property
    def rows_in_script(self) -> str:
        """How scripts read this table: a list of dictionaries."""
        more = "" if self.delimiter == "," else f", delimiter={self.delimiter!r}"
        return f"rows = list(csv.DictReader(open({self.path!r}){more}))"


KINDS = (
    Kind(("sales", "revenue", "turnover"), ("item", "product"), (("region", "region"),), (("quantity", 1, 90), ("price", 0.5, 99.5)), True),
    Kind(("orders", "purchases"), ("customer", "person"), (("status", "status"), ("city", "city")), (("total", 5.5, 950.5), ("items", 1, 30)), True),
    Kind(("staff", "employees", "team"), ("name", "person"), (("department", "department"), ("city", "city")), (("salary", 1800, 9200), ("age", 19, 66))),
    Kind(("inventory", "stock", "warehouse"), ("product", "product"), (("category", "category"),), (("count", 0, 400), ("price", 0.5, 250.5))),
    Kind(("expenses", "spending", "costs"), ("payee", "person"), (("category", "category"),), (("amount", 2.5, 480.5),), True),
    Kind(("trips", "rides"), ("driver", "person"), (("city", "city"),), (("km", 2, 600), ("fuel", 1.5, 60.5)), True),
    Kind(("scores", "grades", "exam"), ("student", "person"), (("subject", "category"),), (("score", 20, 100), ("hours", 1, 40))),
    Kind(("players", "league"), ("player", "person"), (("team", "animal"),), (("goals", 0, 31), ("minutes", 90, 2900))),
    Kind(("books", "library"), ("title", "title"), (("genre", "category"),), (("pages", 60, 900), ("rating", 1.5, 4.9))),
    Kind(("plants", "garden"), ("plant", "word"), (("colour", "colour"),), (("height", 5, 300), ("price", 1.5, 40.5))),
    Kind(("invoices", "bills"), ("client", "person"), (("status", "status"),), (("amount", 20.5, 4000.5), ("days", 1, 90)), True),
    Kind(("visits", "traffic"), ("page", "word"), (("region", "region"),), (("views", 10, 9000), ("seconds", 3, 400))),
    Kind(("shipments", "deliveries"), ("recipient", "person"), (("city", "city"), ("status", "status")), (("weight", 0.5, 48.5), ("boxes", 1, 20))),
    Kind(("workouts", "training"), ("athlete", "person"), (("activity", "category"),), (("minutes", 10, 180), ("calories", 50, 1400))),
    Kind(("rooms", "hotel"), ("guest", "person"), (("city", "city"),), (("nights", 1, 14), ("rate", 39.5, 320.5))),
    Kind(("donations", "gifts"), ("donor", "person"), (("purpose", "category"),), (("amount", 5, 2500),), True),
    Kind(("harvest", "farm"), ("crop", "word"), (("field", "region"),), (("weight", 3.5, 890.5), ("crates", 1, 60))),
    Kind(("tickets", "helpdesk"), ("reporter", "person"), (("status", "status"), ("department", "department")), (("hours", 1, 72), ("priority", 1, 5))),
)  # fmt: skip


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Of `name:pool` each the column's name and the pool its values are of."""
    return tuple((name, pool) for name, _, pool in (word.partition(":") for word in text.split()))


_LABELS = _pairs(
    """
    author:person vendor:product runner:person visitor:person artist:person keeper:person manager:person
    nurse:person tutor:person pilot:person article:product part:product dish:product asset:product
    device:product flower:word river:word street:word ship:word village:word animal:word album:title film:title
    chapter:title song:title
    """
)
_CATEGORIES = _pairs(
    """
    type:category class:category zone:region branch:city centre:city state:status phase:status unit:department
    group:animal squad:animal shade:colour label:colour origin:city area:region section:department brand:word
    model:word vendor:word course:word source:word
    """
)
_NUMBERS = tuple(
    "age balance bonus boxes budget clicks commission cost deposit depth discount distance downloads duration energy fee"
    " fees fines fines_paid gain guests height income length level likes load loan loss margin marks members mileage"
    " orders paid payment pieces points profit rain readers refund rent reads salary savings sessions shares shots size"
    " speed steps supply stops tax tips units visitors volume votes wage watts weight width wins years".split()
)
MADE = 0.5
"""Share of training tables whose columns are put together from wider lists."""


def _kind(draw: Draw) -> Kind:
    if draw.split == "heldout" or not draw.chance(MADE):
        return draw.pick(KINDS)
    label, (category, pool) = draw.any(_LABELS), draw.any(_CATEGORIES)
    if draw.chance(0.25):
        category = draw.pick(names.WORDS)
    columns: list[str] = draw.rng.sample(_NUMBERS, 2)
    if draw.chance(0.25):
        columns[0] = draw.pick(names.WORDS)
    bounds = [(low := draw.whole(1, 60), low + draw.whole(40, 5000)) for _ in columns]
    numbers = [(low + 0.5, high + 0.5) if draw.chance(0.4) else (low, high) for low, high in bounds]
    if len({label[0], category, *columns}) < 4:
        return _kind(draw)
    return Kind(
        (f"{label[0]}s", draw.pick(names.WORDS), draw.pick(names.STEMS)),
        label,
        ((category, pool),),
        tuple((name, low, high) for name, (low, high) in zip(columns, numbers, strict=True)),
        draw.chance(0.4),
    )


def table(draw: Draw, *, path: str = "", least: int = 4, most: int = 12) -> Table:
    """A table of a random kind, with one or two categories, up to two numbers and perhaps a date."""
    kind = _kind(draw)
    categories = [draw.any(kind.categories)]
    numbers = list(kind.numbers) if draw.chance(0.6) else [draw.any(kind.numbers)]
    count = draw.whole(least, most)
    columns: list[tuple[str, list[Cell]]] = []
    if kind.dated and draw.chance(0.5):
        columns.append(("date", [draw.date(2024, 2026) for _ in range(count)]))
    columns.append((kind.label[0], list(_labels(draw, kind.label[1], count))))
    for name, pool in categories:
        few = [_word(draw, pool, number) for number in range(12)]
        few = list(dict.fromkeys(few))[: draw.whole(2, 4)]
        columns.append((name, [draw.any(few) for _ in range(count)]))
    for name, low, high in numbers:
        columns.append((name, _numbers(draw, low, high, count)))
    rows = tuple(zip(*(values for _, values in columns), strict=True))
    delimiter = ";" if draw.chance(0.07) else ","
    return Table(path or draw.path("csv", draw.any(kind.stems)), kind, tuple(n for n, _ in columns), rows, delimiter)


def category_of(table: Table) -> str:
    """The name of the table's category column."""
    return next(name for name, _ in table.kind.categories if name in table.columns)


def numbers_of(table: Table) -> list[str]:
    """The names of its number columns."""
    return [name for name, _, _ in table.kind.numbers if name in table.columns]


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[Cell]], delimiter: str = ",") -> str:
    """Rows as CSV with Unix line ends."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()


def _labels(draw: Draw, pool: str, count: int) -> Sequence[str]:
    if pool == "person":
        return draw.people(count) if draw.chance(0.5) else draw.some(names.FIRST, count)
    if pool == "title":
        return [
            f"The {draw.pick(names.COLOURS).capitalize()} {word.capitalize()}" for word in draw.some(names.WORDS, count)
        ]
    return draw.some(names.PRODUCTS if pool == "product" else names.WORDS, count)


def _word(draw: Draw, pool: str, number: int) -> str:
    pools = {
        "region": names.REGIONS, "status": names.STATUSES, "city": names.CITIES, "department": names.DEPARTMENTS,
        "category": names.CATEGORIES, "animal": names.ANIMALS, "colour": names.COLOURS, "word": names.WORDS,
    }  # fmt: skip
    return draw.pick(pools[pool])


def _numbers(draw: Draw, low: float, high: float, count: int) -> list[Cell]:
    """Numbers that all differ, so that there is one largest and one smallest."""
    seen: dict[Cell, None] = {}
    whole = float(low).is_integer() and float(high).is_integer()
    if whole and high - low < 2 * count:
        high = low + 4 * count
    while len(seen) < count:
        seen[draw.whole(int(low), int(high)) if whole else draw.amount(low, high)] = None
    return list(seen)
