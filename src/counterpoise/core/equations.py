"""Equations in LaTeX, converted to MathML for a page and to plain text for a terminal."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, tostring

from counterpoise.core.errors import ArgumentError

_LONGEST = 1000
_ATTRIBUTES = frozenset({"accent", "fence", "form", "mathvariant", "separator", "stretchy", "width"})
"""Attributes of MathML that are kept; none of them holds an address, a style or code."""
_RELATIONS = frozenset("=≠≤≥<>∝≈~∈←→⊙·×|")
_SIGNS = frozenset("+−")
_CLOSING = frozenset(")]}‖!")
_THIN = "0.167em"
_SAME = {"∣": "|", "⋅": "·", "∼": "~", "∑": "Σ", "∏": "Π", "-": "−"}
_SUPERSCRIPTS = {"+": "⁺", "−": "⁻", "2": "²", "′": "′"}
_SUBSCRIPTS = {"+": "₊"}
_ACCENTS = {"^": "\u0302", "¯": "\u0304"}
_ATOM = re.compile(r"[∂√]?[^\W_][\w⁺⁻²′\u0302\u0304]*")


def to_mathml(latex: str) -> str:
    """Convert one line of LaTeX to a MathML element in which everything from the line is escaped text.

    Raises:
        ArgumentError: the line is not LaTeX that can be converted, or is longer than 1,000 characters.

    Example:
        >>> to_mathml(r"w_c")
        '<math display="inline" displaystyle="true"><mrow><msub><mi>w</mi><mi>c</mi></msub></mrow></math>'
    """
    root = Element("math", {"display": "inline", "displaystyle": "true"})
    root.extend(_cleaned(_parsed(latex)))
    return tostring(root, encoding="unicode")


def to_text(latex: str) -> str:
    """Convert one line of LaTeX to text that can be read without rendering.

    Raises:
        ArgumentError: as `to_mathml`, or the line has an element that has no form in plain text.

    Example:
        >>> to_text(r"\\text{loss} = -\\alpha_y\\,(1 - p_y)^\\gamma \\log p_y")
        'loss = −α_y (1 − p_y)^γ log p_y'
        >>> to_text(r"w_c = \\frac{1 - \\beta}{1 - \\beta^{n_c}}")
        'w_c = (1 − β)/(1 − β^n_c)'
    """
    text = re.sub("‖ (.+?) ‖", r"‖\1‖", _row(_parsed(latex)))
    return re.sub("(?<! )  (?! )", " ", text).strip()


def _parsed(latex: str) -> list[Element]:
    from latex2mathml import converter

    if len(latex) > _LONGEST:
        raise ArgumentError(f"`latex` must have at most {_LONGEST:,} characters per line; got {len(latex):,}")
    try:
        return list(converter.convert_to_element(latex, display="block"))
    except _conversion_errors() as error:
        raise ArgumentError(f"`latex` cannot be converted: {latex!r:.80} ({type(error).__name__})") from error


def _conversion_errors() -> tuple[type[Exception], ...]:
    """The errors of the library, which have no common class, and those of a line that it does not expect."""
    from latex2mathml import exceptions

    own = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, LookupError, ValueError, TypeError, AttributeError, RecursionError, StopIteration)


def _content(element: Element) -> str:
    """The text of an element; the library writes characters as references such as ``&#x003B1;``."""
    return html.unescape(element.text or "")


def _cleaned(elements: Iterable[Element]) -> list[Element]:
    """Copies without attributes that a page must not have, with a thin space beside names of functions."""
    copies: list[Element] = []
    for element in elements:
        copy = Element(element.tag, {name: value for name, value in element.attrib.items() if name in _ATTRIBUTES})
        copy.text = _content(element) or None
        copy.extend(_cleaned(element) if element.tag in ("mrow", "mstyle", "math") else map(_alone, element))
        before = copies[-1] if copies else None
        if before is not None and _needs_space(before, copy):
            copies.append(Element("mspace", {"width": _THIN}))
        if _kind(copy) == "sign" and (before is None or not _ends_term(before)):
            copy.set("form", "prefix")
        copies.append(copy)
    return copies


def _alone(element: Element) -> Element:
    """The copy of one element, for example of an index."""
    return _cleaned([element])[0]


def _needs_space(before: Element, after: Element) -> bool:
    """Whether the name of a function stands beside a factor, as in "γ log p"."""
    if _is_function(before):
        return _kind(after) in ("operand", "sum")
    return _is_function(after) and _ends_term(before)


def _is_function(element: Element) -> bool:
    return element.tag == "mi" and len(element.text or "") > 1 and element.get("mathvariant") is None


def _ends_term(element: Element) -> bool:
    return element.text in _CLOSING if element.tag == "mo" else _kind(element) not in ("space", "sum")


def _row(elements: Iterable[Element], *, tight: bool = False) -> str:
    """The elements one after another, with spaces around operators and between factors unless ``tight``."""
    text = ""
    for element in elements:
        piece, kind = _text(element, tight=tight), _kind(element)
        if kind == "space":
            text = text.rstrip(" ") + piece
        elif kind == "comma":
            text += f"{piece} "
        elif kind == "sum":
            text += f" {piece} " if _ends_operand(text) else f"{piece} "
        elif kind == "relation" or (kind == "sign" and _ends_operand(text)):
            text = text + piece if tight else f"{text.rstrip(' ')} {piece} "
        elif kind == "operand" and _ends_operand(text):
            text += f" {piece}"
        else:
            text += piece
    return text.rstrip(" ") if tight else text


def _ends_operand(text: str) -> bool:
    return bool(text) and text[-1] not in " ([{−+/∂" and text[-1] not in _RELATIONS


def _kind(element: Element) -> str:
    """What an element is to its neighbours; brackets of a group or with an exponent count as brackets."""
    while element.tag in ("mrow", "msup", "msub", "msubsup", "munder", "munderover") and len(element):
        element = element[0]
    text = _SAME.get(_content(element), _content(element))
    if element.tag == "mspace":
        return "space"
    kinds = {"relation": _RELATIONS, "sign": _SIGNS, "comma": ",;", "sum": "ΣΠ", "bracket": "()[]{}/"}
    return next((kind for kind, characters in kinds.items() if text and text in characters), "operand")


def _text(element: Element, *, tight: bool = False) -> str:
    """The element in plain text."""
    tag, parts = element.tag, list(element)
    if tag == "mspace":
        return "   " if float((element.get("width") or "0").removesuffix("em")) >= 1 else " "
    if tag in ("mi", "mn", "mo", "mtext"):
        text = _content(element).replace("\u00a0", " ")
        return _SAME.get(text, text)
    if tag in ("mrow", "mstyle", "mpadded"):
        return _row(parts, tight=tight)
    if tag == "mfrac":
        return "/".join(_wrapped(_row([part]).strip()) for part in parts)
    if tag == "msqrt":
        return f"√{_wrapped(_row(parts))}"
    return _with_scripts(tag, parts)


def _with_scripts(tag: str, parts: list[Element]) -> str:
    """A base with an accent, an exponent or an index."""
    if tag == "mover" and (accent := _text(parts[1])) in _ACCENTS:
        return _text(parts[0]) + _ACCENTS[accent]
    if tag in ("msup", "mover"):
        return _raised(_text(parts[0]), parts[1])
    if tag in ("msub", "munder"):
        return _lowered(_text(parts[0]), parts[1])
    if tag in ("msubsup", "munderover"):
        return _raised(_lowered(_text(parts[0]), parts[1]), parts[2])
    raise ArgumentError(f"`latex` has an element that has no form in plain text: {tag}")


def _raised(base: str, exponent: Element) -> str:
    text = _row([exponent], tight=True)
    return base + (_SUPERSCRIPTS[text] if text in _SUPERSCRIPTS else f"^{_wrapped(text)}")


def _lowered(base: str, index: Element) -> str:
    text = _row([index], tight=True)
    wrapped = f"({text})" if "_" in text else _wrapped(text)
    return base + _SUBSCRIPTS.get(text, f"_{wrapped}")


def _wrapped(text: str) -> str:
    """The text in parentheses, unless it is one name or number, with an index or without."""
    names = text.split("_")
    return text if all(_ATOM.fullmatch(name) for name in names) else f"({text})"
