"""The small dataset, fresh for every test."""

import pytest
from tests.workflow.blobs import blobs


@pytest.fixture
def dataset():
    return blobs()
