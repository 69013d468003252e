#!/usr/bin/env python3
"""Print the digests in tests/tokenizer/test_unicode_props.c: one FNV-1a hash per step over what the
Hugging Face tokenizers library makes of every code point, alone and between others.

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
