"""What the tests in a browser share."""

from support.browsing import browser  # noqa: F401 - the fixture
