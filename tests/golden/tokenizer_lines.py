"""Texts for the tokeniser goldens: natural text in every script at hand, and seeded text made to
reach each branch of a tokeniser. lines() yields (category, bytes); the same inputs and seed give the
same lines."""

import csv
import glob
import os
import random
import re
import unicodedata

SEED = 20261123

# Blocks (first, last code point) that random words are drawn from; the name ends up in the category.
BLOCKS = {
    "latin": [(0x41, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF)],
    "greek": [(0x370, 0x3FF), (0x1F00, 0x1FFF)],
    "cyrillic": [(0x400, 0x52F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)],
    "armenian": [(0x531, 0x58F)],
    "hebrew": [(0x591, 0x5F4), (0xFB1D, 0xFB4F)],
    "arabic": [(0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)],
    "syriac": [(0x700, 0x74F)],
    "thaana": [(0x780, 0x7BF)],
    "nko": [(0x7C0, 0x7FF)],
    "devanagari": [(0x900, 0x97F), (0xA8E0, 0xA8FF)],
    "bengali": [(0x980, 0x9FE)],
    "gurmukhi": [(0xA01, 0xA76)],
    "gujarati": [(0xA81, 0xAFF)],
    "oriya": [(0xB01, 0xB77)],
    "tamil": [(0xB82, 0xBFA)],
    "telugu": [(0xC00, 0xC7F)],
    "kannada": [(0xC80, 0xCF2)],
    "malayalam": [(0xD00, 0xD7F)],
    "sinhala": [(0xD81, 0xDF4)],
    "thai": [(0xE01, 0xE5B)],
    "lao": [(0xE81, 0xEDF)],
    "tibetan": [(0xF00, 0xFDA)],
    "myanmar": [(0x1000, 0x109F), (0xAA60, 0xAA7F)],
    "georgian": [(0x10A0, 0x10FF), (0x1C90, 0x1CBF), (0x2D00, 0x2D2D)],
    "ethiopic": [(0x1200, 0x139F), (0x2D80, 0x2DDE)],
    "cherokee": [(0x13A0, 0x13FD), (0xAB70, 0xABBF)],
    "canadian": [(0x1400, 0x167F)],
    "khmer": [(0x1780, 0x17F9), (0x19E0, 0x19FF)],
    "mongolian": [(0x1800, 0x18AA)],
    "hangul": [(0xAC00, 0xD7A3)],
    "jamo": [(0x1100, 0x11FF), (0x3131, 0x318E), (0xA960, 0xA97C), (0xD7B0, 0xD7FB)],
    "kana": [(0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF61, 0xFF9F), (0x1B000, 0x1B122)],
    "bopomofo": [(0x3105, 0x312F), (0x31A0, 0x31BF)],
    "han": [(0x3400, 0x4DBF), (0x4E00, 0x9FFF)],
    "han-compatibility": [(0xF900, 0xFAD9), (0x2F800, 0x2FA1D), (0x2E80, 0x2FDF), (0x3000, 0x303F)],
    "han-astral": [(0x20000, 0x2A6DF), (0x2A700, 0x2CEA1), (0x30000, 0x323AF)],
    "yi": [(0xA000, 0xA4C6)],
    "full-width": [(0xFF01, 0xFF5E), (0xFFE0, 0xFFE6)],
    "math": [(0x1D400, 0x1D7FF), (0x2100, 0x214F)],
    "enclosed": [(0x2460, 0x24FF), (0x3200, 0x33FF), (0x1F100, 0x1F2FF)],
    "symbols": [(0x2000, 0x206F), (0x2070, 0x20C0), (0x2150, 0x23FF), (0x2500, 0x27BF)],
    "punctuation": [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF),
                    (0x2010, 0x205E), (0x2E00, 0x2E5D), (0x3001, 0x3030), (0xFE10, 0xFE6B)],
    "marks": [(0x300, 0x36F), (0x483, 0x489), (0x1AB0, 0x1ACE), (0x1DC0, 0x1DFF), (0x20D0, 0x20F0),
              (0xFE20, 0xFE2F)],
    "ipa-modifiers": [(0x250, 0x2FF), (0x1D00, 0x1DBF)],
    "emoji": [(0x1F300, 0x1FAFF), (0x2600, 0x27BF)],
    "private": [(0xE000, 0xF8FF), (0xF0000, 0xF00FF), (0x10FF00, 0x10FFFD)],
    "controls": [(0x0, 0x1F), (0x7F, 0xA0), (0xAD, 0xAD), (0x200B, 0x200F), (0x2028, 0x202F),
                 (0x2060, 0x206F), (0xFEFF, 0xFEFF), (0xFFF0, 0xFFFF)],
    "historic": [(0x10000, 0x10FFF)],
    "indic-astral": [(0x11000, 0x11FFF)],
    "astral": [(0x12000, 0x1BCFF), (0x1D000, 0x1DAFF), (0x1E000, 0x1EFFF)],
}
SPACES = [" ", " ", " ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\v", "\f", "\x85", "\xa0", "\u1680",
          "\u2000", "\u2003", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000",
          "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u180e", "\u2581", "\x1c", "\x1f"]
MARKS = [0x300, 0x301, 0x302, 0x303, 0x304, 0x308, 0x30A, 0x30C, 0x315, 0x31B, 0x323, 0x327, 0x328,
         0x334, 0x338, 0x342, 0x345, 0x34F, 0x35C, 0x360, 0x483, 0x488, 0x591, 0x5B0, 0x5BC, 0x5C1,
         0x64B, 0x651, 0x653, 0x654, 0x655, 0x670, 0x6DF, 0x711, 0x93C, 0x94D, 0x9BC, 0x9BE, 0xBBE,
         0xBD7, 0xC56, 0xDCA, 0xDCF, 0xE38, 0xE48, 0xEB8, 0xF39, 0xF71, 0xF72, 0xF74, 0x1037, 0x1039,
         0x17D2, 0x1ACE, 0x1DC0, 0x1DF7, 0x200C, 0x200D, 0x20D0, 0x20DD, 0x20E3, 0x302A, 0x3099,
         0x309A, 0xA8C4, 0xFE0E, 0xFE0F, 0xFE20, 0x1133C, 0x11938, 0x1D165, 0x1D16E, 0x1E8D0,
         0x1E94A, 0x1F3FB, 0x1F3FF, 0xE0100, 0xE0061, 0xE007F]
SPECIALS = ["[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "<s>", "</s>", "<mask>", "<pad>", "<unk>",
            "[NEW]", "[new]", "new york", "New  York", "Caf\u00e9", "Cafe\u0301", "CAF\u00c9", "abc",
            "ab", "abcd", "<left>", "<right>", "<both>", "<word>", "<norm>", "\u2581<m>", "<0x41>",
            "<0xE4>", "\u2581", "\u2581\u2581", "##ing", "##", "\u4e2d\u6587", "\ud55c", "[sep]",
            "[ SEP ]", "< s >", "<S>", "\uff1cs\uff1e", "<s", "s>", "[[SEP]]", "\U0001f600", "\u00e9",
            "\ufb01", "<lf\n>", "x\u0301"]


# Scripts whose samples are few: their words are shuffled into more lines.
SHUFFLED = ("Arab Armn Beng Cans Cher Copt Deva Ethi Geor Grek Gujr Guru Hans Hant Hebr Hira Jpan Kana Khmr "
            "Knda Kore Laoo Mlym Mong Mymr Nkoo Orya Sinh Syrc Taml Telu Thaa Thai Tibt Yiii")


def textproto_samples(path):
    """(script, text) of every sample in a gflanguages language file."""
    text = open(path, encoding="utf-8").read()
    script = re.search(r'^script: "(\w+)"', text, re.M).group(1)
    block = re.search(r"^sample_text \{(.*?)^\}", text, re.M | re.S)
    for value in re.findall(r'^\s+\w+: "((?:[^"\\]|\\.)*)"', block.group(1) if block else "", re.M):
        value = value.replace('\\"', '"').replace("\\'", "'")
        for line in value.split("\\n"):
            if line.strip():
                yield script, line


def clip(rng, text, limit):
    """At most `limit` characters, cut at a space where there is one."""
    if len(text) <= limit:
        return text
    cut = text.rfind(" ", limit // 2, limit)
    return text[: cut if cut > 0 else limit]


def natural(rng, data, languages):
    for path in sorted(glob.glob(os.path.join(data, "stsb", "stsb-*-test.csv"))):
        language = os.path.basename(path).split("-")[1]
        with open(path, encoding="utf-8", newline="") as f:
            texts = sorted({t for row in csv.reader(f) for t in row[:2]})
        for text in rng.sample(texts, 250):
            yield "stsb-" + language, text
    by_script = {}
    for path in sorted(glob.glob(os.path.join(languages, "*.textproto"))):
        for script, text in textproto_samples(path):
            by_script.setdefault(script, {})[text] = None
    for script, texts in sorted(by_script.items()):
        texts = list(texts)
        keep = 1200 if script == "Latn" else 300
        if len(texts) > keep:
            texts = rng.sample(texts, keep)
        for text in texts:
            yield "sample-" + script, clip(rng, text, 160)
        if script in SHUFFLED.split():
            pieces = sorted({w for t in texts for w in re.findall(r"\S{1,12}", t)})
            for _ in range(40):
                text = " ".join(rng.choice(pieces) for _ in range(rng.randint(1, 8)))
                yield "shuffled-" + script, text.replace(" ", "") if rng.random() < 0.2 else text


def pick(rng, block):
    """A code point of a block, the smaller ranges as likely as their share of a square root."""
    ranges = BLOCKS[block]
    lo, hi = rng.choices(ranges, [(b - a + 1) ** 0.5 for a, b in ranges])[0]
    return chr(rng.randint(lo, hi))


def word(rng, block, longest=9):
    out = "".join(pick(rng, block) for _ in range(rng.randint(1, longest)))
    return out[:1] + "".join(chr(rng.choice(MARKS)) if rng.random() < 0.04 else c for c in out[1:])


def any_char(rng):
    while True:
        c = rng.choice([rng.randrange(0x800), rng.randrange(0x3000), rng.randrange(0x10000),
                        rng.randrange(0x20000), rng.randrange(0x110000)])
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def blocks(rng):
    for block in BLOCKS:
        for _ in range(60):
            yield "block-" + block, " ".join(word(rng, block) for _ in range(rng.randint(1, 6)))


def combining(rng):
    bases = "aeiounAEIOUcszlyZ \u00a0\u00e9\u00c5\u01d6\u1ea5\u03b1\u0399\u0438\u0415\u05d0\u0628\u0915" \
            "\u0995\u0b95\u0e01\u1100\uac00\uac01\u3042\u30ab\uff76\u4e00\u2126\ufb01\u00a9\u0600\U0001f600"
    for _ in range(700):
        out = ""
        for _ in range(rng.randint(1, 6)):
            out += rng.choice(bases)
            out += "".join(chr(rng.choice(MARKS)) for _ in range(rng.choice([0, 1, 1, 2, 3, 8])))
        yield "combining", out
    for _ in range(200):  # stacks on one letter
        marks = [chr(rng.choice(MARKS)) for _ in range(rng.randint(9, 60))]
        yield "combining", rng.choice(bases) + "".join(marks) + rng.choice(["", "a", " b"])
    for _ in range(300):  # every normal form of the same words
        text = " ".join(word(rng, rng.choice(["latin", "greek", "cyrillic", "hangul", "devanagari",
                                              "kana", "hebrew", "arabic", "math"])) for _ in range(3))
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            yield "normal-forms", unicodedata.normalize(form, text)
    for _ in range(200):
        yield "jamo", "".join(chr(rng.choice([rng.randint(0x1100, 0x1112), rng.randint(0x1161, 0x1175),
                                              rng.randint(0x11A7, 0x11C2), rng.randint(0xAC00, 0xD7A3),
                                              0x20])) for _ in range(rng.randint(2, 12)))


def emoji(rng):
    people = ["\U0001f468", "\U0001f469", "\U0001f467", "\U0001f9d1", "\U0001f44b", "\U0001f3c3", "\u270a"]
    others = ["\u2764", "\U0001f525", "\U0001f4bb", "\u2695", "\u2642", "\u2640", "\U0001f308", "\u26a7"]
    for _ in range(700):
        out = ""
        for _ in range(rng.randint(1, 6)):
            kind = rng.randrange(8)
            if kind == 0:
                out += "\u200d".join(rng.choice(people) for _ in range(rng.randint(2, 4)))
            elif kind == 1:
                out += rng.choice(people) + chr(rng.randint(0x1F3FB, 0x1F3FF)) + "\u200d" + \
                    rng.choice(others) + "\ufe0f"
            elif kind == 2:
                out += "".join(chr(rng.randint(0x1F1E6, 0x1F1FF)) for _ in range(rng.randint(1, 5)))
            elif kind == 3:
                out += rng.choice("0123456789#*") + rng.choice(["\ufe0f\u20e3", "\u20e3", "\ufe0f"])
            elif kind == 4:
                out += "\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in "gbsct") + "\U000e007f"
            elif kind == 5:
                out += rng.choice(others) + rng.choice(["\ufe0f", "\ufe0e", ""])
            elif kind == 6:
                out += rng.choice([" ", "ok", "!", "\u3042", "\u200d"])
            else:
                out += pick(rng, "emoji")
        yield "emoji", out


def spaces(rng):
    words = ["a", "Be", "\u0434\u0430", "\u4e2d", "\u05d0", ".", "1", "\u0e01", "caf\u00e9", "\u00bf", "-"]
    for _ in range(900):
        out = ""
        for _ in range(rng.randint(1, 6)):
            out += "".join(rng.choice(SPACES) for _ in range(rng.choice([0, 0, 1, 1, 2, 3, 7])))
            out += rng.choice(words) if rng.random() < 0.8 else ""
        yield "spaces", out + rng.choice(["", "", " ", "  ", "\n", "\t "])
    for n in range(1, 40):
        yield "spaces", " " * n
        yield "spaces", "a" + " " * n + "b"
        yield "spaces", "\u2581" * n


def specials(rng, words):
    for _ in range(1600):
        out = ""
        for _ in range(rng.randint(1, 6)):
            out += rng.choice(["", "", " ", "  ", "\t", "\u00a0", "\u3000", "\n"])
            out += rng.choice(SPECIALS) if rng.random() < 0.6 else rng.choice(words)
        yield "specials", out + rng.choice(["", "", " ", "   "])


def technical(rng, words):
    tlds = ["com", "org", "de", "co.uk", "\u0440\u0444", "io"]
    for _ in range(1100):
        w = [rng.choice(words) for _ in range(6)]
        n = [rng.randrange(10 ** rng.randint(1, 9)) for _ in range(4)]
        yield "technical", rng.choice([
            f"https://www.{w[0]}.{rng.choice(tlds)}/{w[1]}/{n[0]}?q={w[2]}&x={n[1]}#%20{w[3]}",
            f"{w[0]}.{w[1]}+{n[0]}@{w[2]}.{rng.choice(tlds)}",
            f"for (int {w[0]} = {n[0]}; {w[0]} != {w[1]}->{w[2]}[{n[1]}]; ++{w[0]}) {{ {w[3]}(&{w[4]}); }}",
            f"def {w[0]}_{w[1]}(self, *{w[2]}, **{w[3]}):\treturn '{w[4]}' + \"\\n\" # {w[5]}",
            f"{n[0]}.{n[1]}, -{n[2]}e{n[3]} \u20ac{n[1]:,} {n[0]}% {n[2]}\u00b0C {n[3]}\u00d7{n[1]}",
            f"{n[0] % 2100:04d}-{n[1] % 13:02d}-{n[2] % 32:02d}T{n[3] % 24:02d}:00:00Z +{n[1]} ({n[2]})",
            f"<{w[0]} class=\"{w[1]}\">{w[2]} &amp; {w[3]}</{w[0]}><br/>",
            f"{{\"{w[0]}\": [{n[0]}, null, \"{w[1]}\"], '{w[2]}': -0.{n[1]}}}",
            f"$ {w[0]} --{w[1]}={n[0]} | {w[2]} > /{w[3]}/{w[4]}.{w[5]} 2>&1; echo ${{{w[0].upper()}}}",
            f"{w[0]}...{w[1]}\u2026 \u201c{w[2]}\u201d \u2014 '{w[3]}'!? ({w[4]}) \u00ab{w[5]}\u00bb #{w[0]} @{w[1]}",
            f"{w[0]}{w[1].upper()}{w[2].title()}_{w[3]}{n[0]}",
            f"0x{n[0]:x} {n[1]:#b} {n[2]:032b} {n[3]}" + "9" * rng.randrange(60)])


def mixtures(rng, words, sentences):
    for _ in range(1500):
        out = ""
        for _ in range(rng.randint(2, 7)):
            out += rng.choice([lambda: rng.choice(words), lambda: rng.choice(sentences)[:40],
                               lambda: word(rng, rng.choice(list(BLOCKS))), lambda: any_char(rng),
                               lambda: rng.choice(SPECIALS), lambda: rng.choice(SPACES)])()
            out += rng.choice(["", " ", " ", "\u200b", ",", "-"])
        yield "mixtures", out
    for _ in range(600):
        yield "any-code-point", "".join(any_char(rng) for _ in range(rng.randint(1, 14)))
    for _ in range(250):
        marks = [chr(c) for c in (0x200E, 0x200F, 0x61C, 0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066,
                                  0x2067, 0x2068, 0x2069)]
        out = [word(rng, rng.choice(["hebrew", "arabic", "latin", "syriac"])) for _ in range(4)]
        yield "bidi", "".join(rng.choice(marks) + w + rng.choice(marks + [" "]) for w in out)
    for _ in range(300):
        text = rng.choice(sentences)[:60] + rng.choice(["\u0130I\u0131i", "\u00df\u1e9e", "\u03a3\u03c3\u03c2", "\u01c4\u01c5\u01c6",
                                                        "\ufb03", "\u0149", "\u1f88\u1fb3", "\u10a0\u1c90", "\u13a0\uab70"])
        yield "letter-case", rng.choice([text.upper(), text.lower(), text.title(), text.swapcase()])


def extremes(rng, words, sentences):
    yield "extremes", ""
    for c in range(0x180):
        yield "extremes", chr(c)
    for c in range(0x80):
        yield "extremes", "a" + chr(c) + "b"
    for n in (9, 10, 11, 99, 100, 101, 199, 200, 201, 1000):
        for letter in ("a", "\u00e9", "\u4e2d", "e\u0301", "\U0001f600", "x1", ".", "\u3042", "\u00df", "\u0b95\u0bcd"):
            yield "long-words", letter * n
    for _ in range(60):
        yield "long-words", "".join(rng.choice(words) for _ in range(rng.randint(12, 80)))
    for n in (300, 2000):
        for _ in range(3):
            yield "long-texts", clip(rng, " ".join(rng.sample(sentences, 40)), n)


def invalid(rng, sentences):
    """Bytes that are not UTF-8: stray, truncated, overlong, surrogate and out-of-range forms."""
    bad = [b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xe2\x82", b"\xe0\x9f\xbf", b"\xed\xa0\x80",
           b"\xed\xb0\x80\xed", b"\xf0\x9f\x98", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80",
           b"\xff", b"\xfe\xfe", b"\xf8\x88\x80\x80\x80", b"\xe1\x80", b"\xf1\x80\x80", b"\xf0\x90", b"\xe2\x28\xa1"]
    for b in bad:
        yield "invalid-utf8", b
        yield "invalid-utf8", b"ab" + b + b"cd"
    for _ in range(360):
        raw = bytearray(rng.choice(sentences)[:50].encode())
        for _ in range(rng.randint(1, 4)):
            at = rng.randint(0, len(raw))
            if rng.random() < 0.5 and at < len(raw):
                raw[at] = rng.randrange(256)
            elif rng.random() < 0.5:
                raw[at:at] = rng.choice(bad)
            else:
                del raw[at:at + rng.randint(1, 3)]
        yield "invalid-utf8", bytes(raw)
    for _ in range(100):
        yield "invalid-utf8", bytes(rng.randrange(256) for _ in range(rng.randint(1, 24)))


def lines(data, languages):
    rng = random.Random(SEED)
    found = list(natural(rng, data, languages))
    sentences = [t for _, t in found if len(t) > 8]
    words = sorted({w for t in sentences for w in t.split() if len(w) < 14})
    words = rng.sample(words, 4000)
    seen = set()
    for part in (found, blocks(rng), combining(rng), emoji(rng), spaces(rng), specials(rng, words),
                 technical(rng, words), mixtures(rng, words, sentences),
                 extremes(rng, words, sentences), invalid(rng, sentences)):
        for category, text in part:
            raw = text if isinstance(text, bytes) else text.encode("utf-8")
            if raw not in seen:
                seen.add(raw)
                yield category, raw
