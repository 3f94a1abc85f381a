"""The small folders of the dataset's tests."""

from tests.workflow.dataset.conftest import encoded, make

__all__ = ["encoded", "make"]
