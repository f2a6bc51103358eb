"""Families of everyday requests about a table of sales: what sold best, what came in, which columns, a changed cell."""

from __future__ import annotations

from dataclasses import dataclass

from agent.learning.curriculum import names
from agent.learning.curriculum.acting import compute, read, script
from agent.learning.curriculum.checks import every, file_is, says
from agent.learning.curriculum.draw import Draw
from agent.learning.curriculum.tables import csv_text, table
from agent.learning.curriculum.task import Act, Family, Job, Play, Said
from agent.learning.curriculum.wording import wordings

_SAID = wordings("csv_everyday")
BEST = _SAID["best"]
REVENUE = _SAID["revenue"]
HEADER = _SAID["header"]
SET = _SAID["set"]
ADD_ROW = _SAID["add_row"]
NEW_COLUMN = _SAID["new_column"]
ITEMS = (
    "name",
    "good",
    "part",
    "model",
    "snack",
    "ticket_type",
    "plant",
    "tool",
    "sku",
    "menu_item",
    "fabric",
    "course",
)
QUANTITIES = (
    "qty",
    "number",
    "amount_sold",
    "boxes",
    "copies",
    "hours",
    "kg",
    "seats",
    "items",
    "orders",
    "bottles",
    "n",
)
PRICES = ("unit_cost", "each", "fee", "tariff", "price_eur", "per_piece", "wage", "list_price", "price_each", "charge")
"""More names of such columns, in training only."""


@dataclass(frozen=True)
class Sales:
    path: str
    item: str
    quantity: str
    price: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int, ...], ...]

    @property
    def text(self) -> str:
        return csv_text(self.columns, self.rows)

    def column(self, name: str) -> list[str | int]:
        return [row[self.columns.index(name)] for row in self.rows]


def csv_best(draw: Draw) -> Job:
    """The item with the largest summed quantity; items come several times."""
    data = _sales(draw)
    totals: dict[str, int] = {}
    for item, count in zip(data.column(data.item), data.column(data.quantity), strict=True):
        totals[str(item)] = totals.get(str(item), 0) + int(count)
    best = max(totals, key=lambda item: totals[item])
    if list(totals.values()).count(totals[best]) > 1:
        return csv_best(draw)
    goal = draw.say(BEST, item=data.item, file=data.path, quantity=data.quantity, most=draw.any(("most", "best")))
    code = script(
        "import csv",
        f"rows = list(csv.DictReader(open({data.path!r})))",
        "totals = {}",
        "for r in rows:",
        f"    totals[r[{data.item!r}]] = totals.get(r[{data.item!r}], 0) + float(r[{data.quantity!r}])",
        "best = max(totals, key=totals.get)",
        "print(best, round(totals[best], 2))",
    )

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, f"I add up {data.quantity} for each {data.item}.")
        return Said(f"{best} has a total {data.quantity} of {out.rpartition(' ')[2]}.", best)

    others = [item for item in totals if item not in best]
    return Job(goal, {data.path: data.text} | draw.clutter([data.path]), says(best, never=others), play)


def csv_product(draw: Draw) -> Job:
    """Quantity times price, over all rows."""
    data = _sales(draw)
    total = sum(int(q) * float(p) for q, p in zip(data.column(data.quantity), data.column(data.price), strict=True))
    code = script(
        "import csv",
        f"rows = list(csv.DictReader(open({data.path!r})))",
        f"total = sum(int(r[{data.quantity!r}]) * float(r[{data.price!r}]) for r in rows)",
        "print(round(total, 2))",
    )

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, f"I add up {data.quantity} times {data.price}.")
        return Said(f"The total is {out}.", out)

    goal = draw.say(REVENUE, quantity=data.quantity, price=data.price, file=data.path)
    return Job(goal, {data.path: data.text} | draw.clutter([data.path]), says(round(total, 2)), play)


def csv_header(draw: Draw) -> Job:
    """The names of a table's columns."""
    data = table(draw, most=7)

    def play(_: str) -> Play:
        yield from read(data.path)
        return Said("The first line names the columns.", ", ".join(data.columns))

    files = {data.path: data.text} | draw.clutter([data.path])
    return Job(draw.say(HEADER, file=data.path), files, says(*data.columns), play)


def csv_edit(draw: Draw) -> Job:
    """Another value in one cell, or one more row."""
    data = table(draw, most=7)
    if data.delimiter != ",":
        return csv_edit(draw)
    row = draw.any(data.rows)
    if draw.chance(0.35):
        new_row = [*table_like(draw, data.columns, row)]
        line = ",".join(map(str, new_row))
        code = f"print({line!r}, file=open({data.path!r}, 'a'))"

        def append(_: str) -> Play:
            yield from read(data.path)
            yield from compute(code, f"I append the row to {data.path} with a script.")
            return Said(f"The row is at the end of {data.path}.", f"Added {line} to {data.path}.")

        goal = draw.say(ADD_ROW, row=line, file=data.path)
        return Job(
            goal, {data.path: data.text} | draw.clutter([data.path]), file_is(data.path, data.text + line), append
        )
    at = draw.any([i for i, name in enumerate(data.columns) if name != data.label])
    name, column = str(row[data.columns.index(data.label)]), data.columns[at]
    value = str(table_like(draw, data.columns, row)[at])
    old = csv_text((), [row]).strip()
    new = csv_text((), [[value if i == at else cell for i, cell in enumerate(row)]]).strip()
    if value == str(row[at]) or data.text.count(old) > 1:
        return csv_edit(draw)

    def play(_: str) -> Play:
        yield from read(data.path)
        yield Act(f"I change {column} of {name} to {value}.", "edit_file", {"path": data.path, "old": old, "new": new})
        return Said(f"The {column} of {name} is {value} now.", f"Set {column} of {name} to {value} in {data.path}.")

    goal = draw.say(SET, column=column, name=name, value=value, file=data.path)
    return Job(
        goal, {data.path: data.text} | draw.clutter([data.path]), file_is(data.path, data.text.replace(old, new)), play
    )


def csv_new_column(draw: Draw) -> Job:
    """A column computed from two others, in a new file."""
    data = _sales(draw, most=6)
    new = draw.any(("total", "revenue", "amount", "sum", "value"))
    if draw.split == "train" and draw.chance(0.5):
        new = draw.any(
            (f"{data.item}_total", "line_total", "turnover", "income", "worth", "net", draw.pick(names.WORDS))
        )
    target = draw.new_path([data.path], "csv", draw.any(("totals", "result", "output", "extended", "")))
    made = ["import os", f"os.makedirs({target.rpartition('/')[0]!r}, exist_ok=True)"] if "/" in target else []
    code = script(
        "import csv",
        f"rows = list(csv.DictReader(open({data.path!r})))",
        "for r in rows:",
        f"    r[{new!r}] = round(int(r[{data.quantity!r}]) * float(r[{data.price!r}]), 2)",
        *made,
        f"with open({target!r}, 'w', newline='') as f:",
        "    writer = csv.DictWriter(f, rows[0].keys())",
        "    writer.writeheader()",
        "    writer.writerows(rows)",
        "print(len(rows))",
    )

    def play(_: str) -> Play:
        yield from read(data.path)
        out = yield from compute(code, f"I add the column {new} with a script.")
        return Said(f"The script wrote {out} rows.", f"Wrote {out} rows to {target}.")

    products = [
        round(int(q) * float(p), 2) for q, p in zip(data.column(data.quantity), data.column(data.price), strict=True)
    ]
    shown = [(f"{x:.0f}", f"{x:.1f}", f"{x:.2f}") for x in products]
    lines = [
        {
            "any": [
                file_lines_with(target, ",".join(map(str, row)), form)
                for form in dict.fromkeys(forms)
                if float(form) == x
            ]
        }
        for row, forms, x in zip(data.rows, shown, products, strict=True)
    ]
    header = {"file": target, "matches": r"\A" + ",".join((*data.columns, new))}
    goal = draw.say(NEW_COLUMN, new=new, quantity=data.quantity, price=data.price, file=data.path, target=target)
    return Job(goal, {data.path: data.text} | draw.clutter([data.path, target]), every(header, *lines), play)


def file_lines_with(path: str, start: str, value: str) -> dict[str, object]:
    """The check that a file has the line of `start` and `value`."""
    import re

    return {"file": path, "matches": rf"(?m)^{re.escape(start)},{re.escape(value)}\s*$"}


def table_like(draw: Draw, columns: tuple[str, ...], row: tuple[str | int | float, ...]) -> list[str | int | float]:
    """Other cells of the same sorts as a row's."""
    cells: list[str | int | float] = []
    for cell in row:
        if isinstance(cell, int):
            cells.append(max(1, cell + draw.whole(-20, 40)))
        elif isinstance(cell, float):
            cells.append(draw.amount(1, 300))
        elif cell[:2] == "20" and cell.count("-") == 2:
            cells.append(draw.date(2024, 2026))
        else:
            cells.append(draw.pick(names.FIRST) if cell[0].isupper() else draw.pick(names.WORDS))
    return cells


def _sales(draw: Draw, most: int = 10) -> Sales:
    """A table in which a few items come several times, with a quantity and a price."""
    item = draw.any(("item", "product", "article", "dish", "drink", "title"))
    quantity, price = (
        draw.any(("quantity", "count", "sold", "units", "pieces")),
        draw.any(("price", "unit_price", "cost", "rate")),
    )
    drinks = ("espresso", "flat white", "croissant", "green tea", "cappuccino", "lemonade", "bagel", "hot chocolate")
    if draw.split == "train" and draw.chance(0.5):
        item, quantity, price = draw.any(ITEMS), draw.any(QUANTITIES), draw.any(PRICES)
    items = draw.some(draw.any((names.PRODUCTS, drinks, names.WORDS)), draw.whole(2, 4))
    prices = {name: f"{draw.amount(1, 60):.2f}" for name in items}
    day = draw.any((True, False))
    rows = tuple(
        (*((draw.date(2026, 2026),) if day else ()), name, draw.whole(1, 90), prices[name])
        for name in [draw.any(items) for _ in range(draw.whole(4, most))]
    )
    columns = (*(("date",) if day else ()), item, quantity, price)
    return Sales(
        draw.path("csv", draw.any(("sales", "orders", "shop", "till", "receipts", ""))),
        item,
        quantity,
        price,
        columns,
        rows,
    )


FAMILIES = (
    Family("csv_best", "what sold best", csv_best, answers=True),
    Family("csv_product", "quantity times price", csv_product, answers=True, weight=1.2),
    Family("csv_header", "the names of the columns", csv_header, answers=True, weight=0.9),
    Family("csv_edit", "another cell, one more row", csv_edit, weight=1.3),
    Family("csv_new_column", "a computed column", csv_new_column, weight=2.0),
)
