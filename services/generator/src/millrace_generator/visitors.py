"""Who sits at the other end: user agents and public addresses, the same for the same user every time."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, NamedTuple


@dataclass(frozen=True, slots=True)
class Visitor:
    """The device and the place of a user.

    Attributes:
        user_agent: as a browser sends it.
        ip: a public address, text.
        platform: web, mobile_web or bot.
        country: ISO 3166-1 alpha-2, of the address's network.
        language: BCP 47.
    """

    user_agent: str
    ip: str
    platform: str
    country: str
    language: str


class _Home(NamedTuple):
    network: IPv4Network | IPv6Network
    country: str
    language: str


_DESKTOP: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.4 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:125.0) Gecko/20100101 Firefox/125.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:124.0) Gecko/20100101 Firefox/124.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/123.0.0.0 Safari/537.36 "
    "Edg/123.0.2420.81",
)
_MOBILE: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Chrome/124.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 13; SAMSUNG SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/24.0 "
    "Chrome/117.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 11; M2003J15SC) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Chrome/122.0.0.0 Mobile Safari/537.36",
)
_TABLET: Final = (
    "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 "
    "Safari/604.1",
    "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
)
_BOTS: Final = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
)

# Consumer access networks; which country a lookup says is the business of the database it uses.
_HOMES: Final = tuple(
    _Home(ip_network(network), country, language)
    for network, country, language in (
        ("73.0.0.0/8", "US", "en-US"),
        ("98.192.0.0/10", "US", "en-US"),
        ("2601::/20", "US", "en-US"),
        ("86.128.0.0/10", "GB", "en-GB"),
        ("87.128.0.0/10", "DE", "de-DE"),
        ("2003::/19", "DE", "de-DE"),
        ("90.0.0.0/9", "FR", "fr-FR"),
        ("83.0.0.0/11", "PL", "pl-PL"),
        ("95.24.0.0/13", "RU", "ru-RU"),
        ("117.192.0.0/10", "IN", "en-IN"),
        ("153.128.0.0/9", "JP", "ja-JP"),
        ("177.0.0.0/11", "BR", "pt-BR"),
        ("1.120.0.0/13", "AU", "en-AU"),
    )
)
_BOT_HOME: Final = _Home(ip_network("66.249.64.0/19"), "US", "en-US")

_BOT_PER_MILLE: Final = 4
_TABLET_PER_MILLE: Final = 60
_MOBILE_PER_MILLE: Final = 530


@lru_cache(maxsize=1 << 16)
def visitor_of(user_id: str, *, bot: bool | None = None) -> Visitor:
    """Return the visitor behind `user_id`: always the same one.

    `bot` says whether it is a robot; None leaves that to chance.
    """
    digest = hashlib.blake2b(user_id.encode(), digest_size=24).digest()
    device, agent, network, host = (int.from_bytes(digest[i : i + 6], "big") for i in (0, 6, 12, 18))
    share = device % 1000
    if bot or (bot is None and share < _BOT_PER_MILLE):
        return _visitor(_BOTS[agent % len(_BOTS)], "bot", _BOT_HOME, host)
    home = _HOMES[network % len(_HOMES)]
    if share < _BOT_PER_MILLE + _TABLET_PER_MILLE:
        return _visitor(_TABLET[agent % len(_TABLET)], "mobile_web", home, host)
    if share < _BOT_PER_MILLE + _TABLET_PER_MILLE + _MOBILE_PER_MILLE:
        return _visitor(_MOBILE[agent % len(_MOBILE)], "mobile_web", home, host)
    return _visitor(_DESKTOP[agent % len(_DESKTOP)], "web", home, host)


def _visitor(user_agent: str, platform: str, home: _Home, host: int) -> Visitor:
    address = home.network[host % home.network.num_addresses]
    return Visitor(user_agent, str(address), platform, home.country, home.language)
