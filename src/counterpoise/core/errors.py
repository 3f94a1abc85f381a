"""The exceptions of Counterpoise; all derive from `CounterpoiseError`."""


class CounterpoiseError(Exception):
    """Base class of all exceptions of the package. The command line prints the message and exits with status 2."""


class ArgumentError(CounterpoiseError, ValueError):
    """An argument has an invalid value; the message names the argument in backticks."""


class WeightsUnavailableError(ArgumentError):
    """Published weights of a model cannot be used.

    Args:
        reason: why, as a clause without a full stop.
        advice: what to do instead of `pretrained`.
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason, advice)
        self.reason, self.advice = reason, advice

    def __str__(self) -> str:
        return f"`pretrained`: {self.reason}; {self.advice}"


class ArgumentTypeError(CounterpoiseError, TypeError):
    """An argument has an invalid type; the message names the argument in backticks."""


class AttributeUseError(CounterpoiseError, AttributeError):
    """An attribute that cannot be set, or would have no effect; the message says what to do instead."""


class DatasetError(CounterpoiseError):
    """The images, labels or manifest cannot be used at all."""


class ArtifactError(CounterpoiseError):
    """A file of Counterpoise is missing, damaged or of another version, or an output folder is in use."""


class WriteError(ArtifactError):
    """A file or folder cannot be written: the disk is full, or a permission is missing."""


class MissingExtraError(CounterpoiseError, ImportError):
    """An optional dependency is not installed; the message has the command to install it."""


def install_command(extra: str) -> str:
    """How to install an optional dependency; Counterpoise is installed from a clone.

    Example:
        >>> install_command("keras")
        "run pip install -e '.[keras]' in your clone of Counterpoise"
    """
    return f"run pip install -e '.[{extra}]' in your clone of Counterpoise"


class TrainingError(CounterpoiseError):
    """A training cannot continue; the message names the step and what to change."""


class UnsupportedError(CounterpoiseError, NotImplementedError):
    """A valid combination that this implementation does not support; the message names one that does."""
