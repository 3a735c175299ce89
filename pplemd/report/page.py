"""The page as a whole: one HTML file that needs no network, whatever the runs hold."""

import base64
import functools
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pplemd.report.glossary import clean, number
from pplemd.report.subject import Subject

if TYPE_CHECKING:
    from jinja2 import Template


def page(subjects: Sequence[Subject], command: str, version: str) -> bytes:
    """The report.

    Args:
        subjects: the runs.
        command: what made it, for its foot.
        version: of pplemd.
    """
    from pplemd.report import sections  # here: no start waits for Matplotlib and Jinja2

    in_order = {  # of the page: name, title, and what makes what the template shows
        "figures": ("Figures", sections.figures),
        "samples": ("Samples", sections.pictures),
        "curves": ("Curves", sections.progress),
        "health": ("Health", sections.health),
        "chains": ("E-step", sections.chains),
        "plan": ("Plan", sections.plans),
        "origin": ("Reproduce", sections.origin),
    }
    style, script = _own("page.css"), _own("page.js")
    shown = {name: (title, found) for name, (title, of) in in_order.items() if (found := of(subjects))}
    written = _template().render(
        subjects=subjects, sections=shown, cards=[sections.card(subject) for subject in subjects], number=number,
        command=command, version=version, policy=policy(style, script), style=Markup(style), script=Markup(script),
    )  # fmt: skip
    return written.lstrip().encode()


def policy(style: str, script: str) -> str:
    """What the browser may do: show the pictures that are in the page, follow its own style and script; no more."""
    own = f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    return f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; {own}"


@functools.cache
def _template() -> "Template":
    """The template of the page; every expression is cleaned, then escaped."""
    from jinja2 import Environment, StrictUndefined

    room = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_cleaned, trim_blocks=True, lstrip_blocks=True
    )
    return room.from_string(_own("page.html"))


def _cleaned(found: Any) -> Any:
    """A text without what HTML cannot hold; the program's own markup as it is."""
    return found if isinstance(found, Markup) else clean(str(found))


def _own(name: str) -> str:
    return resources.files("pplemd.report").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
