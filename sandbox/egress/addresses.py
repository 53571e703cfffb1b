"""Which addresses are the Internet's: where an allowed name may lead, whatever its owner writes into the DNS.

From IANA's special-purpose registries (RFC 6890), more strictly where it is doubtful: of IPv6 only what is assigned for
global unicast, and none that carries an IPv4 address inside.
"""

from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

_NOT_PUBLIC_4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; on Linux 0.0.0.0 is the machine itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own, and the metadata service of one cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # looks public; in one cloud it is the hypervisor's own channel
        "169.254.0.0/16",  # link-local: the metadata services of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols' own; Teredo carries an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",
    )
)


def is_public(address: str) -> bool:
    """Whether it may be connected to. What is no address at all may not."""
    try:
        return not any(IPv4Address(address) in network for network in _NOT_PUBLIC_4)
    except AddressValueError:
        pass
    try:
        six = IPv6Address(address)
    except AddressValueError:
        return False
    return six.scope_id is None and six in _GLOBAL_6 and not any(six in network for network in _NOT_PUBLIC_6)
