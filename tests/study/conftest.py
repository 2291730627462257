"""What the tests of served models share."""

import pytest
from openai_server import serve


@pytest.fixture(scope="module")
def running():
    """The server of openai_server.py, one for a file of tests."""
    with serve() as server:
        yield server
