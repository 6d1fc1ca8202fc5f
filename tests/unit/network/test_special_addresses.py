"""The guard refuses every special address, in each spelling and each embedding."""

import random
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest

from shared.network.address_guard import AddressGuard, ForbiddenAddressError

# Both IANA registries of special-purpose addresses, as of 2025, with multicast and IPv6's deprecated site-local block.
# https://www.iana.org/assignments/iana-ipv4-special-registry
# https://www.iana.org/assignments/iana-ipv6-special-registry
REGISTRIES = """
    0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
    192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
    192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
    240.0.0.0/4 255.255.255.255/32 224.0.0.0/4
    ::1/128 ::/128 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128 2001:1::2/128
    2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32
    2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8
"""
PUBLIC_IPV4 = ("8.8.8.8", "93.184.216.34", "1.1.1.1", "223.255.255.254")
PRIVATE_IPV4 = ("127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.1.1", "100.64.0.1", "0.0.0.0", "198.18.0.1")  # noqa: S104


def samples(network: IPv4Network | IPv6Network) -> Iterator[IPv4Address | IPv6Address]:
    """Yields the edges of a network and addresses between them."""
    draw = random.Random(str(network))  # noqa: S311 - a reproducible sample
    yield from (network[0], network[-1])
    yield from (network[draw.randrange(network.num_addresses)] for _ in range(50))


def embedded(address: str) -> list[IPv6Address]:
    """Returns IPv6 addresses that carry an IPv4 address without standing for it."""
    inner = int(IPv4Address(address))
    return [
        IPv6Address(inner),  # IPv4-compatible: ::127.0.0.1
        IPv6Address((0xFFFF << 48) | inner),  # IPv4-translated (RFC 2765)
        IPv6Address((0x2002 << 112) | (inner << 80)),  # 6to4
        IPv6Address((0x2001 << 112) | (inner ^ 0xFFFFFFFF)),  # Teredo
        IPv6Address((0x64FF9B0001 << 80) | inner),  # local-use NAT64 (RFC 8215)
        IPv6Address((0xFE80 << 112) | (0x5EFE << 32) | inner),  # ISATAP
    ]


@pytest.mark.row("SE-8")
@pytest.mark.parametrize("network", REGISTRIES.split())
def test_an_address_of_iana_s_special_registries_is_refused(network: str) -> None:
    allowed = [str(each) for each in samples(ip_network(network)) if AddressGuard().allows(each)]
    assert allowed == []


@pytest.mark.parametrize("inner", [*PRIVATE_IPV4, *PUBLIC_IPV4])
def test_an_embedded_ipv4_address_is_refused(inner: str) -> None:
    assert [str(each) for each in embedded(inner) if AddressGuard().allows(each)] == []


@pytest.mark.parametrize("wrapping", ["::ffff:{}", "64:ff9b::{}"])
def test_a_mapped_or_translated_address_counts_as_the_ipv4_address_in_it(wrapping: str) -> None:
    guard = AddressGuard()
    assert all(guard.allows(ip_address(wrapping.format(each))) for each in PUBLIC_IPV4)
    assert not any(guard.allows(ip_address(wrapping.format(each))) for each in PRIVATE_IPV4)


def test_no_address_that_python_calls_private_passes() -> None:
    draw = random.Random(7)  # noqa: S311 - a reproducible sample
    drawn = [ip_address(draw.randrange(2**32)) for _ in range(5_000)]
    drawn += [ip_address(draw.randrange(2**128)) for _ in range(5_000)]
    allowed = [each for each in drawn if AddressGuard().allows(each)]
    assert len(allowed) > 4_000
    assert [str(each) for each in allowed if not each.is_global or each.is_multicast] == []


@pytest.mark.parametrize(
    "host", ["[::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[fec0::1]", "2130706433", "0x7f.1", "127.1", "017700000001", "0"]
)
def test_a_special_address_is_refused_in_each_spelling(host: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        AddressGuard().check_url(f"https://{host}", "url")
