"""Any checkpoint, by what is at a path: nothing is executed, whatever it holds."""

from pathlib import Path

from pplemd.errors import ImporterError
from pplemd.importers.edm_pickle import read_edm_pickle
from pplemd.importers.families import Checkpoint, identified, recognised, unsaid
from pplemd.importers.folders import read_folder
from pplemd.importers.pipelines import inside, json_file, with_scheduler
from pplemd.importers.teacher_folder import is_teacher_folder, read_teacher_folder
from pplemd.importers.views import refuse_foreign, view, zip_entries
from pplemd.importers.weights import SHARD, is_safetensors, read_npz, read_weights

ZIP = b"PK\x03\x04"
TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number that torch.save's old format begins with


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint of any kind, by what is at its path.

    Kinds: an EDM .pkl; a diffusers folder, its weights in one file or in several; safetensors, or a state dict or a
    training checkpoint of torch.save, with a config.json beside it; an .npz; the folder that `pplemd teacher import`
    wrote.

    Args:
        path: the file or folder.

    Raises:
        ImporterError: where it cannot be read, or is refused; nothing of it is executed.
    """
    try:
        return _read(Path(path))
    except ImporterError as error:
        if str(path) in str(error):
            raise
        raise ImporterError(f"{path}: {error}") from error


def _read(path: Path) -> Checkpoint:
    if path.is_dir():
        return read_teacher_folder(path) if is_teacher_folder(path) else read_folder(path)
    if path.suffix == ".safetensors":
        return _with_config(path)
    data = view(path)
    refuse_foreign(path, data)
    if bytes(data[:4]) == ZIP:
        names = [entry.filename for entry in zip_entries(data)]
        if any(name.endswith("data.pkl") for name in names):
            return _with_config(path)
        config, arrays = read_npz(path)
        return identified(config, {"": arrays}, path)
    if bytes(data[: len(TORCH)]) == TORCH or is_safetensors(data):
        return _with_config(path)
    return read_edm_pickle(path)


def _with_config(path: Path) -> Checkpoint:
    """Weights with their configuration beside them: NAME.json or config.json."""
    if SHARD.search(path.name):
        raise ImporterError(f"{path} is one of several files of weights; expected their folder. Give {path.parent}.")
    found = [inside(path.parent, name) for name in (f"{path.stem}.json", "config.json")]
    described = next((place for place in found if place is not None), None)
    if described is None:
        raise unsaid(path, recognised(read_weights(path)))
    config, schedules = with_scheduler(json_file(described), path.parent)
    return identified(config, read_weights(path), described, *schedules, path)
