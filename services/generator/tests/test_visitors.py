from collections import Counter
from ipaddress import ip_address

from millrace_generator.visitors import visitor_of


def test_a_user_is_always_the_same_visitor() -> None:
    first = visitor_of("541312140")
    visitor_of.cache_clear()
    assert visitor_of("541312140") == first


def test_addresses_are_public() -> None:
    assert all(ip_address(visitor_of(str(user)).ip).is_global for user in range(2000))


def test_devices_have_realistic_shares_and_bots_are_rare() -> None:
    platforms = Counter(visitor_of(str(user)).platform for user in range(20_000))
    assert platforms["mobile_web"] > platforms["web"] > 1000
    assert 0 < platforms["bot"] < 200


def test_bot_can_be_asked_for_and_ruled_out() -> None:
    assert {visitor_of(str(user), bot=True).platform for user in range(500)} == {"bot"}
    assert "bot" not in {visitor_of(str(user), bot=False).platform for user in range(5000)}
