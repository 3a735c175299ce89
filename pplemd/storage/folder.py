"""Run folders: written so that a kill at any moment loses nothing, and read as they are found, whatever is damaged."""

import dataclasses
import errno
import io
import json
import math
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from pplemd.errors import CheckpointError


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file: a hidden neighbour, flushed to the disk, then renamed; a reader sees the old file or the new one.

    Raises:
        OSError: where it cannot be written; an older file stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(_neighbour(path, str(os.getpid())))
    try:
        with neighbour.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(neighbour, path)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise


def sweep(path: Path) -> None:
    """Remove what killed processes left of a file that they were writing; for who alone may write it now."""
    for neighbour in path.parent.glob(_neighbour(path, "*")):
        neighbour.unlink(missing_ok=True)


def _neighbour(path: Path, process: str) -> str:
    return f".{path.name}.{process}.tmp"


SHOWN = 3  # names of a folder's files in a message


class RunFolder:
    """The folder of one run: config.json, metrics.jsonl, samples.png, checkpoints/, evaluation.json.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.samples = self.path / "samples.png"
        self.checkpoints = self.path / "checkpoints"
        self.evaluation = self.path / "evaluation.json"

    @property
    def is_run(self) -> bool:
        """Whether a run lies here, as far as its config.json shows: one that cannot be read may be a run's."""
        if not self.config.is_file():
            return False
        found = parsed(self.config.read_text(errors="replace"))
        return not isinstance(found, dict) or {"model", "overrides"} <= set(found)

    def see_it_is_free(self) -> None:
        """See that a new run may lie here: in no folder yet, an empty one, or one of a run killed at its very start.

        Raises:
            CheckpointError: where the folder holds something else, or is a file.
        """
        begun = () if snapshots(self.checkpoints) else (self.checkpoints.name, "tensorboard")
        see_it_is_free(self.path, "run", begun)

    def read_config(self) -> dict[str, Any]:
        """The configuration that the run was started with.

        Raises:
            CheckpointError: where the folder is no run, or its config.json is damaged.
        """
        if not self.config.is_file():
            raise CheckpointError(
                f"{self.path} is not a run folder: it has no config.json. Give the folder that `pplemd distill` "
                "printed, for example runs/digits."
            )
        return read_json(self.config, "Without it the run cannot be rebuilt; distil again, or restore it from a copy.")


def see_it_is_free(path: Path, what: str, own: Collection[str] = ()) -> None:
    """See that a folder may be filled: it is not there yet, or empty but for what is its own.

    Hidden files, such as .gitkeep or what a killed write leaves, are nobody's.

    Args:
        path: the folder.
        what: is to be written there, as a run.
        own: names that may be there already.

    Raises:
        CheckpointError: where it is a file, holds something else, or cannot be read.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file; expected a folder, or nothing yet. Choose another by --out.")
    try:
        found = sorted(one.name for one in path.iterdir() if one.is_dir() or not one.name.startswith("."))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({reason(error)}). Choose another folder by --out.") from error
    others = [name for name in found if name not in own]
    if others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        raise CheckpointError(
            f"{path} holds {', '.join(others[:SHOWN])}{more}, and no {what}; expected a folder that is empty, or not "
            f"there yet, so that nothing of others is mixed with the {what}. Choose another by --out, as in --out "
            f"{path / what}."
        )


def write(path: Path, content: bytes) -> None:
    """Write a whole file or nothing.

    Raises:
        CheckpointError: where it cannot be written, as on a full disk; an older file stays as it is.
    """
    try:
        write_atomic(path, content)
    except OSError as error:
        raise CheckpointError(unwritable(path, error)) from error


def unwritable(path: Path, error: Exception) -> str:
    """The message for a file that cannot be written, its repair and its reason in it."""
    return (
        f"{path} cannot be written ({reason(error)}). Check the path, its permissions and the space on the disk; what "
        "was saved before is untouched, and a run goes on from there by --resume."
    )


def reason(error: Exception) -> str:
    """What an exception says, in one line."""
    if "No space left on device" in str(error):  # TensorStore wraps it in more than anybody reads
        return "no space left on the disk"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = text.strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__


def read_json(path: Path, repair: str) -> dict[str, Any]:
    """The JSON object in a file that a run wrote.

    Args:
        path: the file.
        repair: what to do where it is damaged, a sentence.

    Raises:
        CheckpointError: where it cannot be read, or holds no object.
    """
    try:
        found = parsed(path.read_text(errors="replace"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({reason(error)}). {repair}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged: it holds no JSON object. {repair}")
    return found


def parsed(text: str) -> Any:
    """JSON data, or None where the text is none, or is nested too deep to be read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; figures that are not finite become null."""
    write(path, (json.dumps(finite(value), indent=2) + "\n").encode())


def finite(value: Any) -> Any:
    """The same value with NaN and infinities as None, which JSON can hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


class MetricsFile:
    """metrics.jsonl: one JSON object a line, each with its step, in order.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self._path = path

    def keep_until(self, step: int) -> list[dict[str, Any]]:
        """Drop what was written after a step, which a resumed run writes again; return what is left."""
        sweep(self._path)
        kept = [line for line in complete_lines(self._path) if line["step"] <= step]
        write(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        return kept

    def append(self, step: int, figures: dict[str, Any]) -> None:
        """Add a line and flush it to the disk: the whole of it, or nothing.

        Raises:
            CheckpointError: where it cannot be written, as on a full disk.
        """
        line = (json.dumps(finite({"step": step, **figures})) + "\n").encode()
        try:
            with self._path.open("ab", buffering=0) as file:
                end = file.tell()
                try:
                    _write_whole(file, line)
                except OSError:
                    file.truncate(end)  # lines after a torn one would not be read
                    raise
        except OSError as error:
            raise CheckpointError(unwritable(self._path, error)) from error


def _write_whole(file: io.FileIO, content: bytes) -> None:
    """Write to the disk itself; a full one may take a part of it without a word."""
    if file.write(content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(file.fileno())


def snapshots(checkpoints: Path) -> list[Path]:
    """The numbered snapshots in a folder of checkpoints, which may be missing."""
    return [path for path in checkpoints.glob("*") if path.name.isdecimal()]


def complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that were written whole; a kill can leave a torn one at the end."""
    if not path.is_file():
        return
    for text in path.read_text(errors="replace").splitlines():
        line = parsed(text)
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            return
        yield line


try:
    import fcntl
except ImportError:  # Windows: two processes in one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

PROBE_SECONDS = 0.1  # longer than a process has a lock that it only tries


def is_written_to(folder: Path) -> bool | None:
    """Whether a process has a folder of checkpoints open for writing; None where that is unknown.

    A lock is taken and let go at once, where it is free.
    """
    if fcntl is None:
        return None
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False


def locked(folder: Path) -> IO[bytes]:
    """An open file that no other process can lock; the system lets go of it when this process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("ab")
    except OSError as error:
        raise CheckpointError(unwritable(folder, error)) from error
    try:
        _lock(file)
    except BlockingIOError as error:
        file.close()
        raise CheckpointError(
            f"another process is writing to {folder}. Wait for it, stop it, or choose another folder by --out."
        ) from error
    except OSError:  # a file system without locks
        pass
    return file


def _lock(file: IO[bytes]) -> None:
    """Lock a file; tried twice, since who only looks (`is_written_to`) has it for a moment."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(PROBE_SECONDS)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def harmless(text: str) -> str:
    """The text with escapes, and whatever else is not printable, written out; lines and tabs stay.

    Names of arrays, files and errors may hold commands of terminals, which clear a screen or write over a line.
    """
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


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
