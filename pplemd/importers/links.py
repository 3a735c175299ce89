"""Files of a folder, none that lies elsewhere."""

from pathlib import Path

from pplemd.errors import ImporterError


def inside(folder: Path, name: str) -> Path | None:
    """A file of a folder, or None where there is none.

    A link may lead to another place in the folder, or as in Hugging Face's cache, from REPOSITORY/snapshots/... to
    REPOSITORY/blobs/...

    Raises:
        ImporterError: where it is a link to elsewhere.
    """
    path = folder / name
    if not path.exists():
        return None
    allowed, real = [folder.resolve()], path.resolve()
    for parent in folder.absolute().parents:
        if parent.name == "snapshots":
            allowed.append(parent.parent.resolve() / "blobs")
    if not any(real.is_relative_to(place) for place in allowed):
        raise ImporterError(
            f"{path} is a link to {real}, outside of the folder; expected the file itself. Copy it there if you trust "
            "it."
        )
    return path
