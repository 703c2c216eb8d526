"""Every error a user can meet, each with the exit code that it ends the process with.

TrainerError                1  unexpected, or not worth a code of its own
├── StorageError            1  storage or credentials refused
│   ├── ObjectNotFoundError 1  no object under that path
│   ├── RefusedError        1  this identity has no right to do it
│   ├── LockedError         1  another process keeps a folder locked
│   ├── DeviceError         1  a disk or a network share failed, and may answer again
│   └── NoBucketError       2  no such bucket
├── ConfigError             2  usage or configuration
├── DataError               3  records missing, corrupt beyond policy, or of another schema
│   └── DataFormatError     3  a whole data set, in a format of another version
├── NonFiniteError          4  the loss became NaN or infinite
├── CheckpointError         5  no restorable checkpoint, or one of another model or identity
├── RunHeldError            6  another live job holds the run
├── NoProgressError         7  restarts without a new step
├── StoppedError           75  stopped at an agreed step after a committed save
└── GatheringError         76  the group did not come together before its deadline

A message says what is wrong, with which value, and what to do about it.
"""


class TrainerError(Exception):
    """Base of all errors that end a command with a message instead of a traceback."""

    exit_code = 1


class StorageError(TrainerError):
    """Reading from or writing to storage failed."""


class ObjectNotFoundError(StorageError):
    """There is no object under the path that was asked for."""


class RefusedError(StorageError):
    """The store knows this identity, or none, and refuses what it asks for."""


class LockedError(StorageError):
    """Another process does not let a folder's lock go: it is frozen, and may end or go on."""


class DeviceError(StorageError):
    """A disk or a network share failed in a way that nothing in the run's place explains."""


class NoBucketError(StorageError):
    """There is no bucket of the name that was asked for: no retry will find it."""

    exit_code = 2


class ConfigError(TrainerError):
    """The command line, the environment or the configuration is wrong."""

    exit_code = 2


class DataError(TrainerError):
    """The data set is missing, damaged beyond what the policy allows, or of another schema."""

    exit_code = 3


class DataFormatError(DataError):
    """The data set is of another version of the trainer, whose runs may live on it."""


class NonFiniteError(TrainerError):
    """The loss became NaN or infinite."""

    exit_code = 4


class CheckpointError(TrainerError):
    """No checkpoint can be restored: all are damaged, or of another model or identity."""

    exit_code = 5


class RunHeldError(TrainerError):
    """Another live job holds the run's lease."""

    exit_code = 6


class NoProgressError(TrainerError):
    """The run was restarted again and again without a new step."""

    exit_code = 7


class StoppedError(TrainerError):
    """Training stopped at an agreed step after a committed save, because it was told to."""

    exit_code = 75


class GatheringError(TrainerError):
    """The worker group did not come together before its deadline."""

    exit_code = 76


# After these nobody starts the run again: another start would end alike.
ENDS_RUN = range(ConfigError.exit_code, NoProgressError.exit_code + 1)
