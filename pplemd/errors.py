"""Messages: every mistake that pplemd can name, as an exception with a repair."""


class PplemdError(Exception):
    """A mistake that the user can repair: what was found, what was expected, the usual repair."""


class ProgramError(PplemdError):
    """A program that cannot be traced into a problem, or a model file that does not load."""


class TeacherError(PplemdError):
    """A teacher that does not meet its contract."""


class DataError(PplemdError):
    """Data that is missing, malformed or of the wrong shape."""


class RecipeError(PplemdError):
    """A field of a task that does not exist or has a value that cannot be used."""


class CheckpointError(PplemdError):
    """A run folder or a checkpoint that is missing, damaged or of another program."""


class ImporterError(PplemdError):
    """A checkpoint of another library that is refused: unreadable, or not what it says it is."""


class DivergenceError(PplemdError):
    """A run whose updates stopped being finite."""


class DeviceError(PplemdError):
    """Devices that are not there, a mesh that does not fit them, or another process of the run that was lost."""
