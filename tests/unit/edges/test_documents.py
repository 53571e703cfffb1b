"""Times as operators read and write them."""

import pytest

from gateway.edges.documents import instant, rfc3339
from gateway.errors import OperatorError


def test_times_are_rfc_3339_in_utc_and_read_back() -> None:
    assert rfc3339(1_800_000_000.25) == "2027-01-15T08:00:00.250Z"
    assert rfc3339(None) is None
    assert instant("2027-01-15T08:00:00.250Z") == 1_800_000_000.25
    assert instant("2027-01-15T10:00:00+02:00") == 1_800_000_000.0
    assert instant(None) is None


@pytest.mark.parametrize("text", ["", "yesterday", "2027-01-15", "2027-01-15T08:00:00", "1800000000", "9999999999999"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(OperatorError) as refused:
        instant(text)
    assert refused.value.status == 422
