"""The policy engine is loaded before Playwright's greenlet: after it, the engine's own C++ library ends the process."""

import regopy  # noqa: F401
from support.browsing import browser  # noqa: F401 - the fixture
