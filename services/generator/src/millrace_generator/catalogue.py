"""What the simulated shop sells and what people look for in it, from a seed."""

from dataclasses import dataclass
from random import Random
from typing import Final

from millrace_generator.wire import Product, string_map

PRODUCTS: Final = 1_000

_BRANDS: Final = {
    "electronics.smartphone": ("samsung", "apple", "xiaomi", "huawei"),
    "electronics.audio.headphone": ("sony", "jbl", "sennheiser"),
    "electronics.video.tv": ("lg", "samsung", "philips"),
    "computers.notebook": ("lenovo", "hp", "asus", "acer"),
    "computers.peripherals.mouse": ("logitech", "razer"),
    "appliances.kitchen.kettle": ("bosch", "tefal", "braun"),
    "appliances.kitchen.washer": ("bosch", "indesit", "lg"),
    "apparel.shoes.keds": ("adidas", "nike", "puma"),
    "furniture.living_room.sofa": ("ikea", "hoff"),
    "sport.bicycle": ("stels", "merida"),
}
_CHEAPEST_CENTS: Final = 499
_PRICE_RANGE: Final = 400.0  # the dearest product costs so many times as much


@dataclass(frozen=True, slots=True)
class Page:
    """One thing a visitor may act on, with its properties ready to send.

    Attributes:
        path: the page's path.
        properties: an encoded map.
        product: what the page shows, if it is a product's.
    """

    path: str
    properties: bytes
    product: Product | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every page of the shop; products by falling popularity."""

    products: tuple[Product, ...]
    product_pages: tuple[Page, ...]
    category_pages: tuple[Page, ...]
    searches: tuple[Page, ...]


LANDING: Final = Page("/", string_map({"page": "/"}))
BASKET: Final = Page("/cart", string_map({"page": "/cart"}))
CHECKOUT: Final = Page("/checkout", string_map({"page": "/checkout"}))


def make_catalogue(seed: int, at_ms: int) -> Catalogue:
    """Return the shop of `seed`, its prices as of `at_ms`."""
    chance = Random(f"catalogue {seed}")  # noqa: S311 - reproducible, not secret
    products = tuple(_product(number, chance, at_ms) for number in range(PRODUCTS))
    return Catalogue(
        products=products,
        product_pages=tuple(_product_page(product) for product in products),
        category_pages=tuple(_category_page(category) for category in _BRANDS),
        searches=tuple(_search(word) for word in _words()),
    )


def _product(number: int, chance: Random, at_ms: int) -> Product:
    category = list(_BRANDS)[int(chance.random() * len(_BRANDS))]
    brands = _BRANDS[category]
    brand = brands[int(chance.random() * len(brands))]
    price_cents = round(_CHEAPEST_CENTS * _PRICE_RANGE ** chance.random())
    name = f"{brand.capitalize()} {category.rsplit('.', 1)[-1]} {number}"
    return Product(str(1_000_000 + number), category, brand, price_cents, at_ms, name)


def _product_page(product: Product) -> Page:
    path = f"/product/{product.product_id}"
    properties = {
        "productId": product.product_id,
        "category": product.category or "",
        "brand": product.brand or "",
        "price": f"{product.price_cents // 100}.{product.price_cents % 100:02}",
        "page": path,
    }
    return Page(path, string_map(properties), product)


def _category_page(category: str) -> Page:
    path = f"/category/{category.replace('.', '/')}"
    return Page(path, string_map({"page": path, "category": category}))


def _search(query: str) -> Page:
    return Page("/search", string_map({"page": "/search", "query": query}))


def _words() -> list[str]:
    """Return what people type: kinds of things, brands, and both."""
    kinds = [category.rsplit(".", 1)[-1] for category in _BRANDS]
    both = [f"{brand} {kind}" for kind, brands in zip(kinds, _BRANDS.values(), strict=True) for brand in brands]
    return kinds + both
