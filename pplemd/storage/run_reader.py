"""A run folder read as it is found: what is missing or damaged becomes a note, and nothing of its content raises."""

import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pplemd.storage.folder import RunFolder, parsed, reason

Kind = TypeVar("Kind")

JSON_BYTES, METRICS_BYTES, PICTURE_BYTES = 16_000_000, 64_000_000, 8_000_000  # more is no file that a run writes
NAMES = 200  # figures by name that are kept of one metrics.jsonl: runs write some thirty
NAME_LENGTH = 80
LARGEST_STEP = 2**53  # steps beyond are not numbers that a chart can place
COPYING_SECONDS = 60.0  # that copying a folder takes, which makes its files anew in any order
PICTURES = {"samples": "samples.png", "correction": "diagnosis/correction.png"}


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of metrics.jsonl.

    Attributes:
        step: the step that it was written after.
        figures: by name; NaN where they were not finite.
        alarms: names of the alarms that it raised.
    """

    step: int
    figures: dict[str, float]
    alarms: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What a run left in its folder.

    Attributes:
        path: the folder.
        config: config.json; empty where it is damaged.
        lines: metrics.jsonl by step, in order.
        evaluation: evaluation.json, or None.
        diagnosis: diagnosis/diagnosis.json, or None.
        pictures: bytes of its pictures by name, samples and correction.
        chains: diagnosis/chains.nc where it exists, unread.
        notes: what is missing or damaged, a sentence each.
    """

    path: Path
    config: dict[str, Any]
    lines: tuple[Line, ...]
    evaluation: dict[str, Any] | None
    diagnosis: dict[str, Any] | None
    pictures: dict[str, bytes]
    chains: Path | None
    notes: tuple[str, ...]

    @property
    def step(self) -> int:
        """The newest step in metrics.jsonl; 0 where there is none."""
        return self.lines[-1].step if self.lines else 0

    @property
    def history(self) -> list[dict[str, Any]]:
        """Its lines as alarms are judged by: None stands for what is not finite."""
        kept = ({name: None if math.isnan(x) else x for name, x in line.figures.items()} for line in self.lines)
        return [{"step": line.step, **figures} for line, figures in zip(self.lines, kept, strict=True)]

    @property
    def steps(self) -> int | None:
        """Steps of its training, where they are known."""
        return dig(self.config, int, "training", "steps")

    @property
    def judged(self) -> bool:
        """Whether its evaluation is of its end: written after the last line, as far as the files' ages show."""
        folder = RunFolder(self.path)
        late = _written(folder.evaluation) > _written(folder.metrics) - COPYING_SECONDS
        return self.evaluation is not None and late


def read_run(path: Path | str) -> RunRecord:
    """Read a run folder, whatever its state.

    Raises:
        CheckpointError: where it is no run folder: it has no config.json.
    """
    folder, notes = RunFolder(path), _Notes()
    if not folder.config.is_file():
        folder.read_config()  # says that it is no run
    chains = folder.path / "diagnosis" / "chains.nc"
    found = {name: _read(folder.path / place, PICTURE_BYTES, notes) for name, place in PICTURES.items()}
    lines = _lines(folder.metrics, notes)
    return RunRecord(
        path=folder.path,
        config=_json(folder.config, notes) or {},
        lines=lines,
        evaluation=_json(folder.evaluation, notes),
        diagnosis=_json(folder.path / "diagnosis" / "diagnosis.json", notes),
        pictures={name: content for name, content in found.items() if content is not None},
        chains=chains if chains.is_file() else None,
        notes=tuple(notes.sentences),
    )


def dig(value: Any, kind: type[Kind], *path: str | int) -> Kind | None:
    """What lies at a path of keys and places inside JSON data, or None where something else is found on the way.

    Args:
        value: the data.
        kind: the type that is wanted; bool is no int, and int passes as float.
        path: keys of dictionaries, places in lists.
    """
    for key in path:
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    if kind is float:
        number = as_number(value)
        return None if math.isnan(number) else number  # type: ignore[return-value]  # kind is float
    return value if isinstance(value, kind) and isinstance(value, bool) == (kind is bool) else None


def as_number(value: Any) -> float:
    """A finite number as a float, and anything else as NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


class _Notes:
    """Sentences about what was found."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def __call__(self, sentence: str) -> None:
        self.sentences.append(sentence)


def _read(path: Path, most: int, notes: _Notes) -> bytes | None:
    """The bytes of a regular file of a run; None, with a note where it exists, if it cannot be read or is too large."""
    try:
        if not path.is_file():
            return None
        size = path.stat().st_size
        if size > most:
            notes(f"{path.name} has {size:,} bytes; more than {most:,} are not read.")
            return None
        return path.read_bytes()
    except OSError as error:
        notes(f"{path.name} cannot be read ({reason(error)}).")
        return None


def _json(path: Path, notes: _Notes) -> dict[str, Any] | None:
    content = _read(path, JSON_BYTES, notes)
    if content is None:
        return None
    found = parsed(content.decode(errors="replace"))
    if not isinstance(found, dict):
        notes(f"{path.name} is damaged: it holds no JSON object.")
        return None
    return found


def _lines(path: Path, notes: _Notes) -> tuple[Line, ...]:
    """Lines by step; of two of one step the later, which a resumed run wrote."""
    content = _read(path, METRICS_BYTES, notes)
    if content is None:
        if not path.exists():
            notes("There is no metrics.jsonl yet: nothing was trained so far.")
        return ()
    found, bad, known = {}, 0, set[str]()
    for line in _whole_lines(content.decode(errors="replace"), known):
        if line is None:
            bad += 1
        else:
            found[line.step] = line
    if bad:
        notes(f"{bad:,} {'line' if bad == 1 else 'lines'} of metrics.jsonl cannot be read and are left out.")
    if len(known) >= NAMES:
        notes(f"metrics.jsonl names more than {NAMES} figures; the rest is left out.")
    return tuple(found[step] for step in sorted(found))


def _whole_lines(text: str, known: set[str]) -> Iterator[Line | None]:
    """Each line, None for one that is damaged; the last may be under way, and is passed over where it is torn."""
    texts = text.split("\n")
    for number, one in enumerate(texts):
        if not one.strip():
            continue
        line = _line(parsed(one), known)
        if line is not None or number < len(texts) - 1:
            yield line


def _line(found: Any, known: set[str]) -> Line | None:
    step = dig(found, int, "step")
    if step is None or not 0 <= step <= LARGEST_STEP:
        return None
    figures = {}
    for name, value in found.items():
        if name == "step" or len(name) > NAME_LENGTH or not (value is None or isinstance(value, int | float)):
            continue
        if name in known or len(known) < NAMES:
            known.add(name)
            figures[name] = as_number(value)
    alarms = dig(found, list, "alarm") or []
    return Line(step, figures, tuple(name[:NAME_LENGTH] for name in alarms if isinstance(name, str)))


def _written(path: Path) -> float:
    """When a file was written, in seconds since the epoch; 0 where there is none."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
