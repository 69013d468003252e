#!/usr/bin/env python3
"""Write src/tokenizer/unicode_tables_*.c from the Hugging Face `tokenizers` library itself.

    pip install tokenizers regex
    python tests/golden/make_unicode_tables.py src/tokenizer

Each of the library's Rust crates carries the tables of its own Unicode version, and ids can only be
equal if ours are the same. So no Unicode data file is read here: every code point goes through the
library's normalizers and pre-tokenizers, and what they answer is the table. Only two things come
from elsewhere, because they cannot be seen one code point at a time: candidates for composition
pairs (Python's unicodedata; each is confirmed with NFC) and for grapheme cluster classes (the
`regex` module; each is confirmed with a Precompiled normalizer that shows cluster boundaries).
"""
import array
import os
import struct
import sys
import unicodedata

import regex
import tokenizers
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P

CPS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xAC00 + 11172)
# Bits of the property table, as in unicode_props.h
SPACE, PUNCT, OTHER, MN, NUMERIC, WORD, MARK, CHINESE = (1 << i for i in range(8))
# Grapheme cluster classes, as in grapheme.h
CLASSES = ["CR", "LF", "Control", "Extend", "ZWJ", "RI", "Prepend", "SpacingMark", "L", "V", "T"]
EXTPICT = 12
INCB = {"Consonant": 1 << 4, "Extend": 2 << 4, "Linker": 3 << 4}


def bert(**on):
    flags = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return N.BertNormalizer(**{**flags, **on}).normalize_str


def properties():
    clean, chinese = bert(clean_text=True), bert(handle_chinese_chars=True)
    accents, marks, nfd = bert(strip_accents=True), N.StripAccents().normalize_str, N.NFD().normalize_str
    space, punct = P.WhitespaceSplit().pre_tokenize_str, P.Punctuation().pre_tokenize_str
    digits, word = P.Digits(individual_digits=True).pre_tokenize_str, P.Whitespace().pre_tokenize_str
    bert_pre, strip = P.BertPreTokenizer().pre_tokenize_str, N.Strip().normalize_str
    out = {}
    for c in CPS:
        ch, between = chr(c), "a" + chr(c) + "b"
        is_space = len(space(between)) == 2
        is_punct = len(punct(between)) == 3
        cleaned = clean(ch)
        # Everything that asks the same question must give the same answer.
        assert is_space == (strip(ch) == "") == (len(word(between)) == 2), hex(c)
        assert cleaned in ("", " " if is_space else ch), hex(c)
        assert len(bert_pre(between)) == (2 if is_space else 3 if is_punct else 1), hex(c)
        assert chinese(ch) in (ch, " " + ch + " "), hex(c)
        flags = SPACE * is_space | PUNCT * is_punct | OTHER * (cleaned == "")
        flags |= MN * (nfd(ch) == ch and accents(ch) == "")
        flags |= NUMERIC * (len(digits(between)) == 3)
        flags |= WORD * (len(word(between)) == 1) | MARK * (marks(ch) == "")
        flags |= CHINESE * (chinese(ch) != ch)
        out[c] = flags
    return out


def combining_classes():
    """The class of each code point, from how NFD orders it against one mark of every class."""
    nfd = N.NFD().normalize_str
    first, last = "\u0334", "\u0345"  # classes 1 and 240

    def moves(x, y):
        return nfd("a" + x + y) != "a" + x + y

    ordered = []
    for c in CPS:
        ch = chr(c)
        if nfd(ch) == ch and (moves(ch, first) or ch != last and moves(last, ch) or ch == first):
            ordered.append(ch)
    sample = {}
    for ch in ordered:
        if unicodedata.combining(ch):
            sample.setdefault(unicodedata.combining(ch), ch)
    out = {}
    for ch in ordered:
        equal = [k for k, s in sample.items() if not moves(ch, s) and not moves(s, ch)]
        assert len(equal) == 1, (hex(ord(ch)), equal)
        out[ord(ch)] = equal[0]
    return out


def decompositions():
    """Full decompositions that are not Hangul's: canonical, and compatible where they differ."""
    nfd, nfkd = N.NFD().normalize_str, N.NFKD().normalize_str
    canonical, compatible = {}, {}
    for c in CPS:
        ch = chr(c)
        if c in HANGUL:
            s = c - 0xAC00
            t = [0x1100 + s // 588, 0x1161 + s % 588 // 28] + [0x11A7 + s % 28] * (s % 28 > 0)
            assert nfd(ch) == nfkd(ch) == "".join(map(chr, t)), hex(c)
            continue
        if nfd(ch) != ch:
            canonical[c] = [ord(x) for x in nfd(ch)]
        if nfkd(ch) != nfd(ch):
            compatible[c] = [ord(x) for x in nfkd(ch)]
    return canonical, compatible


def compositions(canonical):
    nfc = N.NFC().normalize_str
    pairs = {}
    for c, full in canonical.items():
        if nfc(chr(c)) != chr(c):
            continue
        raw = [int(x, 16) for x in unicodedata.decomposition(chr(c)).split()]
        assert len(raw) == 2, hex(c)
        assert nfc(chr(raw[0]) + chr(raw[1])) == chr(c), hex(c)
        pairs[tuple(raw)] = c
    return pairs


def lowercase():
    lower = N.Lowercase().normalize_str
    single, multiple = {}, {}
    for c in CPS:
        s = [ord(x) for x in lower(chr(c))]
        if s != [c]:
            (single if len(s) == 1 else multiple)[c] = s
    assert multiple == {0x130: [0x69, 0x307]}, multiple  # written out in unicode_props.c
    return {c: s[0] for c, s in single.items()}


def cluster_counter():
    """A function that counts the clusters under 6 bytes of a text, plus the code points of the
    longer ones: a Precompiled normalizer that maps every key to "X"."""
    def link(offset):
        return (offset >> 8) << 10 | 1 << 9

    units = array.array("I", [0] * 512)
    units[0] = link(256)

    def block():
        units.extend([0] * 256)
        return len(units) - 256

    trie = {}
    for c in CPS[1:]:
        key = chr(c).encode()
        node = trie
        for b in key[:-1]:
            node = node.setdefault(b, {})
        node[key[-1]] = None
    leaf = block()
    for i in range(256):
        units[leaf + i] = 1 << 31

    def place(node, base):
        for b, child in node.items():
            at = base ^ b
            to = leaf if child is None else block()
            offset = (at ^ to) & ~255
            units[at] = link(offset) | b | (child is None) << 8
            if child is not None:
                place(child, at ^ offset)

    place(trie, 256)
    charsmap = struct.pack("<I", len(units) * 4) + units.tobytes() + b"X\0"
    normalizer = N.Precompiled(charsmap)
    return lambda s: len(normalizer.normalize_str(s))


def graphemes():
    count = cluster_counter()

    def named(name):
        r = regex.compile(r"\p{%s}" % name)
        return {c for c in CPS if r.match(chr(c))}

    known = CPS[1:]
    acute, ring, ka, virama = "\u0301", "\u0302", "\u0915", "\u094d"
    joins = {c for c in known if count("a" + chr(c)) == 1}  # Extend, ZWJ, SpacingMark
    out = {}
    for k, name in enumerate(CLASSES, 1):
        members = named("GCB=" + name)
        if name in ("Extend", "ZWJ", "SpacingMark"):
            members &= joins
        elif name == "Prepend":
            assert members == {c for c in known if count(chr(c) + "a") == 1}
        elif name == "Control":
            breaks = {c for c in known if count(chr(c) + acute + ring) == 2} - joins
            assert members - {0} == breaks - {10, 13}
        for c in members:
            out[c] = k
    assert joins == {c for c, k in out.items() if CLASSES[k - 1] in ("Extend", "ZWJ", "SpacingMark")}
    for first, then in (("\u1100", "LV"), ("\u1160", "VT"), ("\u11a8", "T")):
        seen = {c for c in CPS if 0x800 <= c < 0xFFF0 and count(first + chr(c) + acute) == 3} - joins
        seen -= {c for c in seen if out.get(c) == CLASSES.index("Control") + 1} | set(HANGUL)
        assert seen == {c for c, k in out.items() if CLASSES[k - 1] in then and c < 0x10000}
    for c in {c for c in known if count("\u00a9\u200d" + chr(c)) == 3} - joins:
        assert c not in out, hex(c)
        out[c] = EXTPICT
    linkers = {c for c in known if count(ka + chr(c) + ka + acute) == 4} & named("InCB=Linker")
    extends = {c for c in known if count(ka + virama + chr(c) + ka + acute) == 5} & named("InCB=Extend")
    consonants = {c for c in named("InCB=Consonant") if count(chr(c) + virama + ka + acute) == 4}
    for name, members in (("Linker", linkers), ("Extend", extends), ("Consonant", consonants)):
        for c in members:
            out[c] = out.get(c, 0) | INCB[name]
    return out


def runs(values, default=0):
    """[start << 8 | value] of each stretch of equal values."""
    out, previous = [], None
    for c in range(0x110000):
        v = values.get(c, default)
        if v != previous:
            out.append(c << 8 | v)
            previous = v
    return out


def lower_runs(single):
    """(first, last, stride, difference) with difference as int32."""
    out = []
    for c in sorted(single):
        d = single[c] - c
        if out and out[-1][3] == d:
            first, last, stride, _ = out[-1]
            step = c - last
            if step <= 2 and (stride == 0 or stride == step):
                out[-1] = (first, c, step, d)
                continue
        out.append((c, c, 0, d))
    return [x for first, last, stride, d in out for x in (first, last, max(stride, 1), d)]


def mapping_stream(table):
    """Runs of code points whose decompositions have one length: cp, count << 8 | step << 7 | length,
    values. step 1: single values that grow by one with the code point; else the values of each."""
    out, cps, i = [], sorted(table), 0
    while i < len(cps):
        c, value, n = cps[i], table[cps[i]], 1
        while i + n < len(cps) and cps[i + n] == c + n and len(value) == 1 and \
                table[cps[i + n]] == [value[0] + n]:
            n += 1
        if n >= 3:
            out += [c, n << 8 | 1 << 7 | 1, value[0]]
        else:
            n, values = 0, []
            while i + n < len(cps) and cps[i + n] == c + n and len(table[cps[i + n]]) == len(value):
                values += table[cps[i + n]]
                n += 1
                rest = [table.get(c + n + k) for k in range(3)]
                if all(r and len(r) == 1 for r in rest) and \
                        rest[1] == [rest[0][0] + 1] and rest[2] == [rest[0][0] + 2]:
                    break  # a growing run starts here
            out += [c, n << 8 | len(value)] + values
        i += n
    return out


HEAD = """/* Generated by tests/golden/make_unicode_tables.py from tokenizers %s: do not edit.
 * Facts about characters derive from the Unicode Character Database, (c) Unicode, Inc.,
 * https://www.unicode.org/license.txt */
#include "tokenizer/unicode_tables.h"
""" % tokenizers.__version__


def define(kind, name, numbers):
    text, line = "\nconst %s emb_unicode_%s[] = {\n" % (kind, name), "   "
    for x in numbers:
        word = " %d," % x if kind[0] == "i" else " 0x%x," % x
        if len(line) + len(word) > 100:
            text, line = text + line + "\n", "   "
        line += word
    return text + line + "\n};\nconst size_t emb_unicode_%s_len = %d;\n" % (name, len(numbers))


def main(folder):
    canonical, compatible = decompositions()
    pairs = compositions(canonical)
    files = {
        "props": define("uint32_t", "props", runs(properties())) +
        define("uint32_t", "ccc", runs(combining_classes())) +
        define("uint32_t", "gcb", runs(graphemes())) +
        define("int32_t", "lower", lower_runs(lowercase())),
        "decomp": define("uint32_t", "canonical", mapping_stream(canonical)) +
        define("uint32_t", "compose", [x for k in sorted(pairs) for x in (*k, pairs[k])]),
        "compat": define("uint32_t", "compatible", mapping_stream(compatible)),
    }
    for name, body in files.items():
        with open(os.path.join(folder, "unicode_tables_%s.c" % name), "w") as f:
            f.write("/* clang-format off */\n" + HEAD + body)


if __name__ == "__main__":
    main(sys.argv[1])
