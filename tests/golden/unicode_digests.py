#!/usr/bin/env python3
"""Print the digests in tests/tokenizer/test_unicode_props.c and test_normal_form.c: one FNV-1a hash
per step over what the Hugging Face tokenizers library makes of every code point between two others,
and of random texts.

    pip install tokenizers
    python tests/golden/unicode_digests.py [XLM-R tokenizer.json]
"""
import json
import sys

from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P

CPS = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]


def fnv(parts):
    h = 0xCBF29CE484222325
    for part in parts:
        for b in part.encode() + b"\n":
            h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def texts():
    for c in CPS:
        yield "a%s\u0301b" % chr(c)


def random_texts(n=40000, seed=20261123):
    """SplitMix64, as test_rand: texts of 1 to 16 characters that interact with their neighbours."""
    def rand():
        nonlocal seed
        seed = seed + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        z = seed
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        return z ^ z >> 31

    for _ in range(n):
        yield "".join(chr(RANDOM_POOL[rand() % len(RANDOM_POOL)]) for _ in range(1 + rand() % 16))


RANDOM_POOL = [
    0x61, 0x41, 0x20, 0x0D, 0x0A, 0x09, 0x65, 0x6F, 0xC0, 0xE9, 0x130, 0x1E9B, 0xFB01, 0x2460, 0xFDFA,
    0x300, 0x301, 0x304, 0x307, 0x308, 0x30A, 0x31B, 0x315, 0x316, 0x323, 0x327, 0x331, 0x334, 0x338,
    0x344, 0x345, 0x591, 0x5B0, 0x5C1, 0x64B, 0x651, 0x670, 0x93C, 0x94D, 0x915, 0x937, 0x958, 0x9BE,
    0x9C7, 0x9CB, 0xB47, 0xB56, 0xDCF, 0xDD9, 0xDDA, 0xF71, 0xF72, 0xF73, 0xF81, 0x1025, 0x102E, 0x1100,
    0x1112, 0x1161, 0x1175, 0x11A7, 0x11A8, 0x11C2, 0xAC00, 0xAC01, 0xD788, 0xD7A3, 0x200B, 0x200D,
    0x20D0, 0x2126, 0x212B, 0x3042, 0x304B, 0x3099, 0x309A, 0x30AB, 0xFF76, 0xFF9E, 0xF900, 0xFA30,
    0xFE0F, 0x600, 0xE0020, 0x1D15E, 0x1D165, 0x1D16D, 0x1F1E6, 0x1F1E7, 0x1F468, 0x1F3FB, 0xA9, 0x2764,
    0x11099, 0x110BA, 0x1133E, 0x11347, 0x1100, 0x16D63, 0xE33, 0xEB3, 0x103D, 0x302E,
]


def bert(**on):
    flags = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return N.BertNormalizer(**{**flags, **on})


NORMALIZERS = {
    "clean": bert(clean_text=True), "chinese": bert(handle_chinese_chars=True),
    "accents": bert(strip_accents=True), "lower": N.Lowercase(), "marks": N.StripAccents(),
    "nmt": N.Nmt(), "nfd": N.NFD(), "nfkd": N.NFKD(), "nfc": N.NFC(), "nfkc": N.NFKC(),
    "bert": bert(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True),
}
SPLITS = {
    "whitespace": P.WhitespaceSplit(), "words": P.Whitespace(), "bert_words": P.BertPreTokenizer(),
    "digits": P.Digits(individual_digits=True), "punctuation": P.Punctuation(),
}
if len(sys.argv) > 1:
    with open(sys.argv[1]) as f:
        charsmap = json.load(f)["normalizer"]["precompiled_charsmap"]
    import base64
    NORMALIZERS["charsmap"] = N.Precompiled(base64.b64decode(charsmap))
for name, normalizer in NORMALIZERS.items():
    print('{"%s", 0x%016xu},' % (name, fnv(map(normalizer.normalize_str, texts()))))
for name, split in SPLITS.items():
    print('{"%s", 0x%016xu},' % (name, fnv(w for t in texts() for w, _ in split.pre_tokenize_str(t))))
print("random texts:")
for name, normalizer in NORMALIZERS.items():
    print('{"%s", 0x%016xu},' % (name, fnv(map(normalizer.normalize_str, random_texts()))))
