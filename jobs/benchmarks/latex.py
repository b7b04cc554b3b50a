"""The value of a mathematical expression in LaTeX, as answers to problems have it: numbers, fractions, roots, powers,
functions and letters. Letters have fixed values that no answer hits by chance, so two forms of one expression have one
value; nothing is ever executed or simplified, which a model could make last forever."""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable

LONGEST = 300
"""Characters of an expression that is computed; answers have fewer."""
TOKEN = re.compile(
    r"\\[a-zA-Z]+|(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+|[a-zA-Z]|[-+*/^_(){}\[\]|!]|(?P<other>\S)"
)
FRACTIONS = ("\\frac", "\\dfrac", "\\tfrac", "\\cfrac")
TIMES, DIVIDED = ("*", "\\cdot", "\\times"), ("/", "\\div")
CONSTANTS: dict[str, complex] = {"\\pi": cmath.pi, "e": cmath.e, "i": 1j, "\\infty": math.inf}
FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    **{f"\\{name}": getattr(cmath, name) for name in ("sin", "cos", "tan", "exp")},
    "\\cot": lambda value: 1 / cmath.tan(value),
    "\\sec": lambda value: 1 / cmath.cos(value),
    "\\csc": lambda value: 1 / cmath.sin(value),
    "\\arctan": cmath.atan,
    "\\arcsin": cmath.asin,
    "\\arccos": cmath.acos,
    "\\ln": cmath.log,
}
GREEK = ("\\alpha", "\\beta", "\\gamma", "\\theta", "\\phi", "\\lambda", "\\mu", "\\omega", "\\sigma")
CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|"}


def value(text: str) -> complex | None:
    """The value of an expression; None where it is none that is known here."""
    if len(text) > LONGEST:
        return None
    try:
        reader = _Reader(text)
        found = reader.total()
    except (ValueError, ArithmeticError, IndexError, RecursionError):
        return None
    return found if reader.at_end else None


class _Reader:
    """A recursive descent over the tokens of an expression. Raises ValueError at what it does not know."""

    def __init__(self, text: str) -> None:
        matches = list(TOKEN.finditer(text))
        if not matches or any(match["other"] for match in matches):
            raise ValueError("characters that no expression has")
        self.tokens = [match[0] for match in matches]
        self.place = 0

    @property
    def at_end(self) -> bool:
        return self.place == len(self.tokens)

    def next(self) -> str:
        return "" if self.at_end else self.tokens[self.place]

    def take(self) -> str:
        self.place += 1
        return self.tokens[self.place - 1]

    def total(self) -> complex:
        """Terms with + and - between them."""
        found = self.product()
        while self.next() in ("+", "-"):
            sign = 1 if self.take() == "+" else -1
            found += sign * self.product()
        return found

    def product(self) -> complex:
        """Factors with or without a sign between them; 1\\frac{1}{2} is one and a half."""
        if self.next() in ("+", "-"):
            return (1 if self.take() == "+" else -1) * self.product()
        mixed = self.next().isdecimal()
        found = self.power()
        while not self.at_end and self.next() not in ("+", "-", ")", "]", "}", "|"):
            sign = self.next()
            if sign in TIMES + DIVIDED:
                self.take()
                factor = self.signed()
                found = found / factor if sign in DIVIDED else found * factor
            elif sign in FRACTIONS and mixed:
                found += self.power()
            else:
                found *= self.power()
            mixed = False
        return found

    def signed(self) -> complex:
        if self.next() == "-":
            self.take()
            return -self.signed()
        return self.power()

    def power(self) -> complex:
        found = self.atom()
        while self.next() == "!":
            self.take()
            if found.imag or not 0 <= found.real <= 100 or found.real % 1:
                raise ValueError("a factorial of no small number")
            found = complex(math.factorial(int(found.real)))
        if self.next() == "^":
            self.take()
            found **= self.argument()
        return found

    def atom(self) -> complex:
        token = self.take()
        if token in CLOSING:
            inside = self.total()
            if self.take() != CLOSING[token]:
                raise ValueError("a bracket that does not close")
            return complex(abs(inside)) if token == "|" else inside
        if token in FRACTIONS:
            above = self.argument()
            return above / self.argument()
        if token == "\\sqrt":
            degree = complex(2)
            if self.next() == "[":
                degree = self.atom()
            return self.argument() ** (1 / degree)
        if token in FUNCTIONS:
            return self.function(FUNCTIONS[token])
        if token == "\\log":
            base = complex(10)
            if self.next() == "_":
                self.take()
                base = self.argument()
            return cmath.log(self.power()) / cmath.log(base)
        if token in CONSTANTS:
            return CONSTANTS[token]
        if token in GREEK or (len(token) == 1 and token.isalpha()):
            return self.letter(token)
        return complex(float(token.replace(",", "")))

    def function(self, compute: Callable[[complex], complex]) -> complex:
        exponent = complex(1)
        if self.next() == "^":
            self.take()
            exponent = self.argument()
        return compute(self.power()) ** exponent

    def argument(self) -> complex:
        """What follows a command or ^: a group, or one digit or letter."""
        token = self.next()
        if token.isdecimal() and len(token) > 1:  # \\frac12 is a half
            self.tokens[self.place : self.place + 1] = [token[0], token[1:]]
        if token == "-":
            self.take()
            return -self.argument()
        return self.atom()

    def letter(self, name: str) -> complex:
        if self.next() == "_":
            self.take()
            start = self.place
            self.argument()
            name += "".join(self.tokens[start : self.place])
        seed = sum(ord(character) * 31**place for place, character in enumerate(name))
        return complex(1.2 + (seed * 0.6180339887498949) % 1)
