"""A font for every letter of a figure: matplotlib's own has no Chinese, Japanese or Korean and few symbols.

Where it lacks a letter, the installed fonts are searched for it. Names in other scripts come from the policies and
tasks that people bring.
"""

from functools import cache
from unicodedata import category

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from bsa_core.progress import once

BOXES = "Last Resort"  # has a box for every letter
ADVICE = "install one, such as Noto Sans CJK or Noto Emoji"


def fit(figure: Figure) -> None:
    """Give every text of the figure fonts that have all its letters, as far as there are any."""
    for text in figure.findobj(Text):
        lacking = needed(text.get_text()) - letters(findfont(text.get_fontproperties()))
        if lacking:
            text.set_fontfamily([*text.get_fontfamily(), *having(frozenset(lacking))])


def needed(text: str) -> set[int]:
    """The letters that are drawn: no line breaks, and no marks that only choose between forms."""
    return {
        ord(letter) for letter in text if category(letter) not in ("Cc", "Cf") and not "\ufe00" <= letter <= "\ufe0f"
    }


@cache
def letters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())


@cache
def having(lacking: frozenset[int]) -> tuple[str, ...]:
    """Names of installed fonts that together have these letters, first the one with most; what none has is said."""
    upright = (font for font in fontManager.ttflist if (font.style, font.variant) == ("normal", "normal"))
    fonts = {font.name: font.fname for font in upright if not font.name.startswith(BOXES)}
    found, left = [], set(lacking)
    while left:
        name = max(sorted(fonts), key=lambda name: len(left & letters(fonts[name])), default="")
        if not name or not left & letters(fonts[name]):
            once(f"no installed font has the letters {' '.join(map(chr, sorted(left)[:12]))} of a figure; {ADVICE}")
            break
        found.append(name)
        left -= letters(fonts[name])
    return tuple(found)
