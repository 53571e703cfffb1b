"""Which addresses an allowed name may lead to."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.egress.addresses import is_public


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "1.1.1.1", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16"),
        *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
        *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::ffff:93.184.216.34", "::93.184.216.34", "64:ff9b::5db8:d822", "64:ff9b:1::1", "100::1"),
        *("2001::1", "2001:db8::1", "2002:5db8:d822::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1"),
        *("fe80::1%eth0", "2606:4700::1111%eth0", "fec0::1", "ff02::1"),
        *("", "api.example.com", "1", "0x7f.1", "127.1", "1.1.1.1 ", "01.1.1.1", "1.1.1.1/32", "[2606:4700::1111]"),
    ],
)
def test_everything_else_is_not(address: str) -> None:
    assert not is_public(address)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address)))
def test_nothing_is_public_that_the_standard_library_knows_to_be_private(address: IPv4Address | IPv6Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved
