"""One island and one engine for all the probes."""

from collections.abc import Iterator

import pytest
from security.escape.shore import Shore, shore


@pytest.fixture(scope="session")
def there() -> Iterator[Shore]:
    with shore() as land:
        yield land
