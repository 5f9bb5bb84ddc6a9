"""Formats of event times: strptime's codes, checked, and as one pattern."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

# Format name -> how many of it make a second.
UNITS = {
    "seconds": 1,
    "milliseconds": 10**3,
    "microseconds": 10**6,
    "nanoseconds": 10**9,
}
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july",
    "august", "september", "october", "november", "december",
)  # fmt: skip
_DAYS = (
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday",
    "sunday",
)  # fmt: skip
_WIDTHS = {
    "Y": 4, "y": 2, "m": 2, "d": 2, "j": 3, "H": 2, "I": 2, "M": 2, "S": 2,
}  # fmt: skip


def _words(names: tuple[str, ...], size: int | None = None) -> str:
    return "|".join(name[:size] for name in names)


# As in Python's _strptime, but digits are ASCII and a second is below 60.
_PATTERNS = {
    "Y": r"\d{4}",
    "y": r"\d\d",
    "m": r"1[0-2]|0[1-9]|[1-9]",
    "d": r"3[01]|[12]\d|0[1-9]|[1-9]| [1-9]",
    "j": r"36[0-6]|3[0-5]\d|[12]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9]",
    "H": r"2[0-3]|[01]\d|\d",
    "I": r"1[0-2]|0[1-9]|[1-9]",
    "M": r"[0-5]\d|\d",
    "S": r"[0-5]\d|\d",
    "f": r"\d{1,9}",
    "p": "am|pm",
    "b": _words(MONTHS, 3),
    "B": _words(MONTHS),
    "a": _words(_DAYS, 3),
    "A": _words(_DAYS),
    "z": r"[+-]\d\d:?[0-5]\d|Z",
    "Z": "UTC|GMT",
}
_EXCLUSIVE = ("Yy", "mbBj", "dj", "HI", "zZ", "aA")  # no two of one group
ACCEPTED = (
    "strptime's codes "
    + " ".join(f"%{code}" for code in (*_PATTERNS, "%"))
    + f"; or {', '.join(UNITS)} for numbers that count from 1970"
)


@dataclass(frozen=True)
class TimeFormat:
    """A format that was checked.

    pieces: in order, (code, "") or ("", text between codes).
    """

    text: str
    pieces: tuple[tuple[str, str], ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes in order."""
        return tuple(code for code, _ in self.pieces if code)

    @property
    def width(self) -> int | None:
        """Characters of a value in full, %f not counted; None: it varies."""
        if any(c not in _WIDTHS and c != "f" for c in self.codes):
            return None
        texts = "".join(text for _, text in self.pieces).replace(" ", "")
        if not texts.isascii() or re.search(r"\s", texts):
            return None
        return sum(
            len(text) if text else width_of(code) for code, text in self.pieces
        )

    @property
    def digits_only(self) -> bool:
        """True if a value is one number, whose leading zeros may be lost."""
        return all(code in _WIDTHS for code, _ in self.pieces)

    @cached_property
    def pattern(self) -> str:
        """For RE2: a group a code, and `rest`: what follows the time.

        Codes without anything between them take their full width, so that
        1112014 is never guessed to be the 11th or the 1st.
        """
        found = []
        for index, (code, text) in enumerate(self.pieces):
            if text:
                spaced = re.sub(r"\s+", " ", text)
                found.append(re.escape(spaced).replace(r"\ ", r"\s+"))
                continue
            shape = _PATTERNS[code]
            if self._tight(index):
                shape = rf"\d{{{width_of(code) or 6}}}"
            found.append(f"(?P<{code}>{shape})")
        return rf"\A(?i:{''.join(found)})(?P<rest>(?s:.*))\z"

    def _tight(self, index: int) -> bool:
        """True if a numeric code touches other digits."""
        code = self.pieces[index][0]
        if code not in _WIDTHS and code != "f":
            return False
        before = self.pieces[index - 1] if index else ("", " ")
        after = (*self.pieces, ("", " "))[index + 1]
        if code == "f":
            return _digit(after[0], after[1][:1])
        return _digit(before[0], before[1][-1:]) or _digit(
            after[0], after[1][:1]
        )


def width_of(code: str) -> int:
    """Digits of a numeric code in full; 0 of any other, and of %f."""
    return _WIDTHS.get(code, 0)


def _digit(code: str, text: str) -> bool:
    return code in _WIDTHS or code == "f" or text.isdigit()


@lru_cache(maxsize=256)
def parse(text: str) -> TimeFormat:
    """The format in `text`.

    Raises:
        ValueError: a code is unknown or twice there, or they give no day.
    """
    pieces: list[tuple[str, str]] = []
    for code, literal in re.findall(r"%(.|$)|([^%]+)", text, re.DOTALL):
        if literal or code == "%":
            literal = literal or "%"
            if pieces and pieces[-1][1]:
                literal = pieces.pop()[1] + literal
            pieces.append(("", literal))
        elif code in _PATTERNS:
            pieces.append((code, ""))
        else:
            raise _wrong(text, f"%{code} is none of its codes")
    format = TimeFormat(text, tuple(pieces))
    _check(format)
    return format


def _check(format: TimeFormat) -> None:
    codes, text = format.codes, format.text
    for code in codes:
        if codes.count(code) > 1:
            raise _wrong(text, f"%{code} is there twice")
    for group in _EXCLUSIVE:
        both = [f"%{code}" for code in codes if code in group]
        if len(both) > 1:
            raise _wrong(text, f"{' and '.join(both)} say the same")
    has = set(codes)
    day = "j" in has or ("d" in has and has & set("mbB"))
    if not (has & set("Yy") and day):
        raise _wrong(text, "it gives no full day: year, month and day")
    if ("I" in has) != ("p" in has):
        raise _wrong(text, "%I, an hour up to 12, and %p go together")
    for later, needed in (("M", "HI"), ("S", "M"), ("f", "S")):
        if later in has and not has & set(needed):
            raise _wrong(text, f"%{later} without %{needed[0]}")


def _wrong(text: str, why: str) -> ValueError:
    return ValueError(f"received {text!r}: {why}; accepted: {ACCEPTED}")
