"""Count the n-gram matches of many hypotheses with their references, in code that numba compiles.

Text is one array of code points. Tokens are found, numbered and counted without creating Python objects.
Counts are exact integers: two tokens or n-grams are equal only if all their code points are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])

WORDS, CHARACTERS, MTEVAL13A = range(3)
"""Modes of tokenisation: at white space; into characters without white space; by the rules of mteval-v13a."""


def _compiled(function: Function) -> Function:
    """Compile a function at its first call; keep the machine code if numba finds a writable folder."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no such folder: neither the package's, nor the user's cache, nor NUMBA_CACHE_DIR
        return numba.njit(nogil=True)(function)


@_compiled
def _is_space(code: int) -> bool:
    """Return whether `str.split` treats a character as white space."""
    if code <= 0x20:
        return code == 0x20 or 9 <= code <= 13 or code >= 28
    if code < 0x1680:
        return code == 0x85 or code == 0xA0
    return (
        code == 0x1680 or 0x2000 <= code <= 0x200A or code == 0x2028 or code == 0x2029 or code == 0x202F
        or code == 0x205F or code == 0x3000
    )  # fmt: skip


@_compiled
def _is_set_apart(code: int, previous: int, following: int, previous_taken: bool) -> bool:
    """Return whether mteval-v13a makes a character a separate token; a space precedes and follows the text.

    sacreBLEU applies four substitutions in turn. Together they set apart: most ASCII symbols always; a dash after a
    digit; a period or comma unless it is between digits. `previous_taken` reproduces runs of these exactly: the second
    substitution consumes the character before a period, and cannot consume a character twice.
    """
    if code == 0x2E or code == 0x2C:  # . ,
        after_digit = 0x30 <= previous <= 0x39
        return not ((after_digit or previous_taken) and 0x30 <= following <= 0x39)
    if code == 0x2D:  # -
        return 0x30 <= previous <= 0x39
    return (
        0x20 <= code <= 0x26 or 0x28 <= code <= 0x2B or code == 0x2F
        or 0x3A <= code <= 0x40 or 0x5B <= code <= 0x60 or 0x7B <= code <= 0x7E
    )  # fmt: skip


@_compiled
def _cut(text: NDArray[Any], start: int, end: int, mode: int, starts: NDArray[Any], ends: NDArray[Any]) -> int:
    """Find the tokens of text[start:end] and return their number."""
    count = 0
    begun = -1  # start of the current token; -1 outside of tokens
    previous = 0x20
    taken = False  # the previous character was consumed as the period or comma of the second substitution
    for place in range(start, end):
        code = text[place]
        apart = False
        takes = False
        if _is_space(code):
            if begun >= 0:
                starts[count], ends[count] = begun, place
                count += 1
                begun = -1
            previous = 0x20
            taken = False
            continue
        if mode == CHARACTERS:
            apart = True
        elif mode == MTEVAL13A and code < 0x7F:
            following = text[place + 1] if place + 1 < end else 0x20
            apart = _is_set_apart(code, previous, following, taken)
            takes = (code == 0x2E or code == 0x2C) and not taken and not 0x30 <= previous <= 0x39
        if apart:
            if begun >= 0:
                starts[count], ends[count] = begun, place
                count += 1
                begun = -1
            starts[count], ends[count] = place, place + 1
            count += 1
        elif begun < 0:
            begun = place
        previous = code
        taken = takes
    if begun >= 0:
        starts[count], ends[count] = begun, end
        count += 1
    return count


@_compiled
def _hash(text: NDArray[Any], start: int, end: int) -> int:
    """Return the FNV-1a hash of code points, with the high bits folded in."""
    value = np.uint64(14695981039346656037)
    for place in range(start, end):
        value = (value ^ np.uint64(text[place])) * np.uint64(1099511628211)
    return np.int64((value ^ (value >> np.uint64(29))) & np.uint64(0x7FFFFFFF))  # type: ignore[return-value]


class _Tables(NamedTuple):
    """Hash tables reused by all references; a mark states which reference an entry belongs to."""

    token_slots: NDArray[Any]  # hash table: slot -> number of a token
    token_marks: NDArray[Any]
    token_starts: NDArray[Any]  # number of a token -> its start in the text
    token_ends: NDArray[Any]
    ngram_keys: NDArray[Any]  # hash table: slot -> number of an n-gram's beginning and of its last token
    ngram_numbers: NDArray[Any]  # slot -> number of the n-gram; those of single tokens are the tokens'
    ngram_marks: NDArray[Any]
    wanted: NDArray[Any]  # number of an n-gram -> its count in the reference
    seen: NDArray[Any]  # its count so far in the current hypothesis
    seen_marks: NDArray[Any]


@_compiled
def _tables(longest: int, order: int) -> _Tables:
    """Allocate tables for references of up to `longest` characters, never more than half full."""
    tokens = ngrams = 16
    while tokens < 2 * longest:
        tokens *= 2
    while ngrams < 2 * longest * order:
        ngrams *= 2
    most = longest * order + 1
    return _Tables(
        np.empty(tokens, np.int64), np.zeros(tokens, np.int64), np.empty(longest, np.int64),
        np.empty(longest, np.int64), np.empty(ngrams, np.int64), np.empty(ngrams, np.int64), np.zeros(ngrams, np.int64),
        np.empty(most, np.int64), np.empty(most, np.int64), np.zeros(most, np.int64),
    )  # fmt: skip


@_compiled
def _find_token(text: NDArray[Any], start: int, end: int, mark: int, tables: _Tables) -> int:
    """Return the slot of a token, or the free slot for it."""
    mask = len(tables.token_slots) - 1
    slot = _hash(text, start, end) & mask
    while tables.token_marks[slot] == mark:
        other = tables.token_starts[tables.token_slots[slot]]
        if tables.token_ends[tables.token_slots[slot]] - other == end - start:
            offset = 0
            while offset < end - start and text[other + offset] == text[start + offset]:
                offset += 1
            if offset == end - start:
                return slot
        slot = (slot + 1) & mask
    return slot


@_compiled
def _find_ngram(key: int, mark: int, tables: _Tables) -> int:
    """Return the slot of an n-gram, or the free slot for it."""
    mask = len(tables.ngram_keys) - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    slot = np.int64(mixed >> np.uint64(33)) & mask
    while tables.ngram_marks[slot] == mark and tables.ngram_keys[slot] != key:
        slot = (slot + 1) & mask
    return slot  # type: ignore[return-value]


@_compiled
def _enter_reference(
    text: NDArray[Any], starts: NDArray[Any], ends: NDArray[Any], ids: NDArray[Any], length: int, order: int, mark: int,
    tables: _Tables,
) -> None:  # fmt: skip
    """Enter the tokens and n-grams of a reference into the tables and count them."""
    numbered = 0
    for place in range(length):
        slot = _find_token(text, starts[place], ends[place], mark, tables)
        if tables.token_marks[slot] != mark:
            tables.token_marks[slot], tables.token_slots[slot] = mark, numbered
            tables.token_starts[numbered], tables.token_ends[numbered] = starts[place], ends[place]
            tables.wanted[numbered] = 0
            numbered += 1
        ids[place] = tables.token_slots[slot]
        tables.wanted[ids[place]] += 1
    for first in range(length):
        ngram = ids[first]
        for last in range(first + 1, min(first + order, length)):
            key = (ngram << 32) | ids[last]
            slot = _find_ngram(key, mark, tables)
            if tables.ngram_marks[slot] != mark:
                tables.ngram_marks[slot], tables.ngram_keys[slot] = mark, key
                tables.ngram_numbers[slot] = numbered
                tables.wanted[numbered] = 0
                numbered += 1
            ngram = tables.ngram_numbers[slot]
            tables.wanted[ngram] += 1


@_compiled
def _match_hypothesis(
    text: NDArray[Any], starts: NDArray[Any], ends: NDArray[Any], ids: NDArray[Any], length: int, order: int, mark: int,
    hypothesis: int, matches: NDArray[Any], tables: _Tables,
) -> None:  # fmt: skip
    """Count, by order, the n-grams shared with the reference, each at most as often as in the reference."""
    for place in range(length):
        slot = _find_token(text, starts[place], ends[place], mark, tables)
        ids[place] = tables.token_slots[slot] if tables.token_marks[slot] == mark else -1
    for first in range(length):
        ngram = ids[first]
        for last in range(first, min(first + order, length)):
            if last > first and ids[last] >= 0:
                slot = _find_ngram((ngram << 32) | ids[last], mark, tables)
                ngram = tables.ngram_numbers[slot] if tables.ngram_marks[slot] == mark else -1
            if ngram < 0 or ids[last] < 0:
                break  # no longer n-gram can match
            if tables.seen_marks[ngram] != hypothesis:
                tables.seen_marks[ngram], tables.seen[ngram] = hypothesis, 0
            tables.seen[ngram] += 1
            if tables.seen[ngram] <= tables.wanted[ngram]:
                matches[last - first] += 1


@_compiled
def count_matches(
    text: NDArray[np.uint32], bounds: NDArray[np.int64], sizes: NDArray[np.int64], mode: int, order: int
) -> NDArray[np.int32]:
    """Count the tokens of each hypothesis and reference and the n-grams that they share.

    Args:
        text: The code points of all lines, [characters].
        bounds: Start of each line and end of the last, [lines + 1]; each list has its reference, then its hypotheses.
        sizes: Number of hypotheses of each list, [lists].
        mode: Mode of tokenisation: WORDS, CHARACTERS or MTEVAL13A.
        order: Longest n-gram.

    Returns:
        A row per hypothesis, [hypotheses, 2 + order]: the numbers of its tokens, of the reference's tokens, and of
        matches of orders 1 to `order`, each n-gram counted at most as often as in the reference.
    """
    longest = 0
    for line in range(len(bounds) - 1):
        longest = max(longest, bounds[line + 1] - bounds[line])
    tables = _tables(longest, order)
    starts, ends, ids = np.empty(longest, np.int64), np.empty(longest, np.int64), np.empty(longest, np.int64)
    counts = np.zeros((len(bounds) - 1 - len(sizes), 2 + order), np.int32)
    line = row = 0
    for number in range(len(sizes)):
        wanted = _cut(text, bounds[line], bounds[line + 1], mode, starts, ends)
        _enter_reference(text, starts, ends, ids, wanted, order, number + 1, tables)
        for hypothesis in range(line + 1, line + 1 + sizes[number]):
            length = _cut(text, bounds[hypothesis], bounds[hypothesis + 1], mode, starts, ends)
            counts[row, 0], counts[row, 1] = length, wanted
            _match_hypothesis(text, starts, ends, ids, length, order, number + 1, row + 1, counts[row, 2:], tables)
            row += 1
        line += 1 + sizes[number]
    return counts
