"""A session as one HTML page that needs nothing else: no network, no script, dark and light, wide and narrow.

Whatever a model, a tool or a file wrote passes `agent.sanitize.for_html` at the one place where values enter the page,
so markup in it is text, and characters nobody can see are spelled out. The page's content security policy also names
the one style sheet by its hash and allows nothing else, so that even markup that got through could neither run nor
load anything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING

from agent.journal import Session
from agent.sanitize import for_html

if TYPE_CHECKING:
    import jinja2

CHARS_PER_TOKEN = 4
"""For estimates where no tokenizer is at hand."""


def session_page(session: Session, *, prompts: bool = True, count: Callable[[str], int] | None = None) -> str:
    """The page of a session, as HTML text.

    `prompts=False` leaves out what the model was shown, which is about half of the page. `count` gives the tokens of a
    text; without it the tokens of single turns are estimated and marked as such (those of whole prompts are logged).
    """
    from agent.view.page import page

    return laid_out("session", page(session, (count or _estimate) if prompts else None, exact=count is not None))


def laid_out(template: str, page: object, *, styles: Sequence[str] = ()) -> str:
    """`page`, plain data, laid out by `templates/<template>.html.j2`; `styles` add to the style sheet of sessions."""
    style = "".join(_source(f"{name}.css") for name in ("session", *styles))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return _template(f"{template}.html.j2").render(page=page, style=_markup(style), style_digest=digest)


def _estimate(text: str) -> int:
    return len(text) // CHARS_PER_TOKEN + 1


@functools.cache
def _template(name: str) -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, finalize=_escaped, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_source(name))


def _escaped(value: object) -> object:
    """What every `{{ }}` of the template passes through; only markup that the template itself made stays as it is."""
    from markupsafe import Markup

    return value if isinstance(value, Markup) else Markup(for_html(str(value)))


def _markup(text: str) -> object:
    from markupsafe import Markup

    return Markup(text)


def _source(name: str) -> str:
    return resources.files("agent.view").joinpath(f"templates/{name}").read_text(encoding="utf-8")
