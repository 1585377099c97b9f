"""The invented people of the demo: what each one looks like, as plain attributes.

Identities come from named streams (`identity_stream`): the demo draws from ("demo", seed), the pre-training from
("pretrain", n). The stream's name is part of the seed, so the two can never share a person by accident.
All colours are BGR, 0..255, as they look in white light.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np

Colour = tuple[int, int, int]

SKIN: tuple[Colour, ...] = (
    (190, 212, 242), (160, 188, 228), (128, 160, 208), (98, 130, 182), (70, 98, 146), (48, 68, 104),
)  # fmt: skip
HAIR: tuple[Colour, ...] = (
    (24, 22, 22), (36, 48, 66), (46, 72, 110), (84, 140, 190), (130, 190, 222), (60, 84, 160), (176, 176, 180),
)  # fmt: skip
# Hue, saturation, value on OpenCV's 8-bit scale (hue 0..179).
GARMENT_HSV: tuple[tuple[int, int, int], ...] = (
    (0, 205, 190), (4, 190, 120), (10, 195, 225), (24, 205, 235), (36, 150, 120), (52, 160, 125), (66, 165, 95),
    (86, 150, 150), (98, 150, 225), (110, 195, 190), (116, 185, 105), (132, 130, 150), (150, 140, 150),
    (166, 130, 225), (0, 0, 246), (0, 0, 34), (0, 0, 78), (12, 150, 95), (20, 70, 215),
)  # fmt: skip
LOWER_HSV: tuple[tuple[int, int, int], ...] = (
    (0, 0, 30), (112, 150, 95), (108, 110, 150), (0, 0, 80), (14, 130, 90), (20, 75, 200), (60, 110, 80),
    (0, 0, 240), (2, 190, 120), (130, 90, 95),
)  # fmt: skip

UPPERS = ("tshirt", "longsleeve", "jacket", "coat", "vest")
PATTERNS = ("plain", "stripes", "blocks", "logo", "checks", "halves")
LOWERS = ("trousers", "shorts", "skirt", "long skirt")
HAIR_STYLES = ("short", "long", "bob", "bun", "bald")
HATS = ("none", "cap", "beanie")
BAGS = ("none", "backpack", "handbag", "shoulder")


@dataclass(frozen=True)
class Person:
    """One invented person. `height` in metres; `build` scales the widths (1 = average); colours BGR."""

    height: float
    build: float
    skin: Colour
    hair: Colour
    hair_style: str
    hat: str
    hat_colour: Colour
    upper: str
    upper_colour: Colour
    pattern: str
    pattern_colour: Colour
    lower: str
    lower_colour: Colour
    shoe_colour: Colour
    bag: str
    bag_colour: Colour


def identity_stream(purpose: str, number: int) -> np.random.Generator:
    """Random numbers that belong to one purpose ("demo", "pretrain") and number; different names never overlap."""
    return np.random.default_rng(np.random.SeedSequence(entropy=number, spawn_key=(zlib.crc32(purpose.encode()),)))


def _pick(rng: np.random.Generator, options: tuple[str, ...], weights: tuple[float, ...]) -> str:
    share = np.asarray(weights, dtype=np.float64)
    return options[int(rng.choice(len(options), p=share / share.sum()))]


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    sector, fraction = divmod(hue / 30.0, 1.0)
    s = saturation / 255.0
    low, falling, rising = value * (1 - s), value * (1 - s * fraction), value * (1 - s * (1 - fraction))
    r, g, b = (
        (value, rising, low), (falling, value, low), (low, value, rising),
        (low, falling, value), (rising, low, value), (value, low, falling),
    )[int(sector) % 6]  # fmt: skip
    return round(b), round(g), round(r)


def _cloth(rng: np.random.Generator, palette: tuple[tuple[int, int, int], ...]) -> Colour:
    hue, saturation, value = palette[int(rng.integers(len(palette)))]
    return _hsv(
        (hue + rng.uniform(-3, 3)) % 180,
        float(np.clip(saturation + (rng.uniform(-20, 20) if saturation else 0), 0, 255)),
        float(np.clip(value + rng.uniform(-12, 12), 10, 250)),
    )


def _tint(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    base = np.asarray(colours[int(rng.integers(len(colours)))], dtype=np.float64) * rng.uniform(0.92, 1.06)
    b, g, r = np.clip(np.rint(base), 0, 255).astype(int).tolist()
    return b, g, r


def _unlike(rng: np.random.Generator, colour: Colour, palette: tuple[tuple[int, int, int], ...]) -> Colour:
    """A colour of the palette that the eye tells from the given one."""
    other = colour
    for _ in range(20):
        other = _cloth(rng, palette)
        if sum(abs(a - b) for a, b in zip(colour, other, strict=True)) > 150:
            break
    return other


def random_person(rng: np.random.Generator) -> Person:
    """Draw one person; the same generator state gives the same person."""
    upper_colour = _cloth(rng, GARMENT_HSV)
    return Person(
        height=float(np.clip(rng.normal(1.72, 0.09), 1.5, 1.95)),
        build=float(np.clip(rng.normal(1.0, 0.12), 0.78, 1.32)),
        skin=_tint(rng, SKIN),
        hair=_tint(rng, HAIR),
        hair_style=_pick(rng, HAIR_STYLES, (4, 3, 2, 1, 1)),
        hat=_pick(rng, HATS, (7, 1.5, 1.5)),
        hat_colour=_cloth(rng, GARMENT_HSV),
        upper=_pick(rng, UPPERS, (4, 4, 3, 2, 1)),
        upper_colour=upper_colour,
        pattern=_pick(rng, PATTERNS, (5, 2, 2, 2, 1.5, 1)),
        pattern_colour=_unlike(rng, upper_colour, GARMENT_HSV),
        lower=_pick(rng, LOWERS, (6, 2, 1.5, 1)),
        lower_colour=_unlike(rng, upper_colour, LOWER_HSV) if rng.random() < 0.8 else _cloth(rng, LOWER_HSV),
        shoe_colour=_cloth(rng, LOWER_HSV),
        bag=_pick(rng, BAGS, (4, 2.5, 1.5, 2)),
        bag_colour=_cloth(rng, GARMENT_HSV),
    )


def alike_person(person: Person, rng: np.random.Generator) -> Person:
    """Somebody who differs from `person` in two details only (and a little in height, as people do)."""
    details = [
        {"bag": str(rng.choice([b for b in BAGS if b != person.bag])), "bag_colour": _cloth(rng, GARMENT_HSV)},
        {"lower_colour": _unlike(rng, person.lower_colour, LOWER_HSV)},
        {"pattern": str(rng.choice([p for p in PATTERNS if p != person.pattern]))},
        {"hair_style": str(rng.choice([s for s in HAIR_STYLES if s != person.hair_style])), "hair": _tint(rng, HAIR)},
        {"upper_colour": _unlike(rng, person.upper_colour, GARMENT_HSV)},
    ]
    first, second = rng.choice(len(details), size=2, replace=False).tolist()
    height = float(np.clip(person.height + rng.uniform(-0.06, 0.06), 1.5, 1.95))
    return replace(person, height=height, **details[first], **details[second])


def demo_people(seed: int, count: int) -> list[Person]:
    """The walkers of one demo site. About one in three has a look-alike, the harder part of the demo."""
    rng = identity_stream("demo", seed)
    people: list[Person] = []
    while len(people) < count:
        person = random_person(rng)
        people.append(person)
        if len(people) % 6 == 1 and len(people) < count:
            people.append(alike_person(person, rng))
    return people
