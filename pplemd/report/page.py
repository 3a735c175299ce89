"""The page as a whole: one HTML file that asks nothing of the network, whatever the runs hold."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from xml.etree.ElementTree import Element

from pplemd.report import sections
from pplemd.report.markup import element, raw, words, written
from pplemd.report.subject import Subject

SECTIONS = (
    sections.figures,
    sections.pictures,
    sections.progress,
    sections.health,
    sections.chains,
    sections.plans,
    sections.origin,
)


def page(subjects: Sequence[Subject], command: str, version: str) -> bytes:
    """The report.

    Args:
        subjects: the runs.
        command: what made it, for its foot.
        version: of pplemd.
    """
    parts = [part for make in SECTIONS if (part := make(subjects)) is not None]
    title = " · ".join(subject.name for subject in subjects)
    style, script = _own("page.css"), _own("page.js")
    head = element(
        "head", {},
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy(style, script)}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        words("title", f"{title} - pplemd"),
        raw("style", style),
    )  # fmt: skip
    foot = element("footer", {}, f"Made by pplemd {version}: ", words("code", command))
    main = element("main", {}, sections.overview(subjects), _contents(parts), *parts, foot)
    return written(element("html", {"lang": "en"}, head, element("body", {}, main, raw("script", script))))


def policy(style: str, script: str) -> str:
    """What the browser may do: show the pictures that are in the page, follow its own style and script; no more."""
    own = f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    return f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; {own}"


def _contents(parts: Sequence[Element]) -> Element:
    links = [element("a", {"href": f"#{part.get('id')}"}, part[0].text or "") for part in parts]
    return element("nav", {"aria-label": "contents"}, *links)


def _own(name: str) -> str:
    return resources.files("pplemd.report").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
