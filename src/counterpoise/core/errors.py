"""The exception tree: every error that Counterpoise raises is a `CounterpoiseError`."""


class CounterpoiseError(Exception):
    """Base of every error of ours; the command line prints its message and exits 2."""


class ArgumentError(CounterpoiseError, ValueError):
    """An argument has a value that cannot be used; the message names it in backticks."""


class ArgumentTypeError(CounterpoiseError, TypeError):
    """An argument has a type that cannot be used; the message names it in backticks."""


class DatasetError(CounterpoiseError):
    """The images, labels or manifest given cannot be used at all."""


class ArtifactError(CounterpoiseError):
    """A file of ours is missing, damaged, of another version, or in the way."""


class MissingExtraError(CounterpoiseError, ImportError):
    """An optional dependency is not installed; the message has the command that installs it."""


class TrainingError(CounterpoiseError):
    """A training cannot go on; the message names the step and what to change."""


class UnsupportedError(CounterpoiseError, NotImplementedError):
    """A combination that exists but that this code path does not do; the message says which one does."""
