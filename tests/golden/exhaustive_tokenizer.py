#!/usr/bin/env python3
"""Compare our tokeniser with the `tokenizers` library on every code point alone and next to others.
Slow (an hour for --pairs), so not part of the tests. Most cases see the normalised text itself: a
Unigram model with nothing but byte pieces gives its bytes as ids."""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

import numpy as np
from tokenizers import Tokenizer

from make_tokenizer_goldens import (BERT_PRE, NAMED, PRECOMPILED, SPACE_RUNS, SPLIT, bert, dump, fill, metaspace,
                                    pre, seq, strip, unigram, wordpiece)

# One or more code points of each kind that normalisation or segmentation tells apart.
PARTNERS = [0x20, 0x61, 0x41, 0x0D, 0x0A, 0x09, 0x00, 0xA0, 0xAD, 0xC5, 0xE9, 0xDF, 0x130, 0x3A3, 0x1C4, 0x2B0, 0x300,
            0x301, 0x308, 0x315, 0x31B, 0x323, 0x327, 0x334, 0x338, 0x345, 0x34F, 0x35C, 0x360, 0x5B0, 0x5BC, 0x600,
            0x64B, 0x651, 0x654, 0x6DD, 0x70F, 0x711, 0x915, 0x93C, 0x94D, 0x93E, 0x903, 0x9BE, 0xBBE, 0xC56, 0xDCF,
            0xE01, 0xE33, 0xE38, 0xE48, 0xEB3, 0xF71, 0xF72, 0x1037, 0x1100, 0x1161, 0x11A8, 0xAC00, 0xAC01, 0xA8FA,
            0x17D2, 0x180E, 0x1ACE, 0x1F08, 0x200B, 0x200C, 0x200D, 0x200E, 0x2028, 0x2060, 0x20E3, 0x2126, 0x2581,
            0x3042, 0x3099, 0x309A, 0x4E00, 0xA9, 0xFE0F, 0xFE20, 0xFEFF, 0xFF76, 0xFF9E, 0xFFFD, 0xFB01, 0x110BD,
            0x11099, 0x110BA, 0x1133C, 0x11938, 0x11935, 0x11930, 0x1D165, 0x1F1E6, 0x1F3FB, 0x1F468, 0x1F600,
            0xE0100, 0xE0061, 0xE000, 0x378]


def code_points(unassigned):
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000:
            continue
        dull = 0x3400 <= c < 0xA000 or 0xAC00 <= c < 0xD7A4 or 0x20000 <= c or 0x17000 <= c < 0x18D00 or \
            0xE000 <= c < 0xF900 or unicodedata.category(chr(c)) == "Cn" and not 0x700 < c < 0x20000
        if unassigned or not dull or c % 97 == 0:
            yield chr(c)


def singles():
    for c in code_points(True):
        yield c
        yield "a" + c + "b"
        yield " " + c + " a" + c
        yield "e\u0323" + c + "\u0301"
        yield "\u00a0" + c + c
        yield c + "\u0301\u0327"


def pairs():
    for c in code_points(False):
        for p in PARTNERS:
            yield chr(p) + c
            yield "a" + c + chr(p) + "b"


def triples(rng):
    """Random strings of code points that interact: marks, joiners, jamo, flags, spaces."""
    pool = [c for c in code_points(False) if unicodedata.category(c)[0] in "MZ" or unicodedata.normalize("NFKD", c) != c]
    pool += [chr(p) for p in PARTNERS] * 20
    for _ in range(3000000):
        yield "".join(rng.choice(pool) for _ in range(rng.randint(2, 7)))


def cases(parts):
    pieces = [["<unk>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unknown>", 0.0]]
    pieces += [["<0x%02X>" % b, -1.0] for b in range(256)]

    def see(normalizer, pre_tokenizer=None):
        return unigram(pieces, normalizer, pre_tokenizer, tokens=[], post=None, unk_id=0, byte_fallback=True)

    letters = {t: i for i, t in enumerate(["[UNK]", "a", "b", "##a", "##b", "e", "##e", "##\u0301"])}

    def words(normalizer, pre_tokenizer=BERT_PRE):
        return wordpiece(letters, normalizer, pre_tokenizer, None, [])

    yield "xlmr", unigram("@xlmr", PRECOMPILED, pre(SPLIT, metaspace()), 250001)
    yield "minilm", wordpiece()
    yield "minilm-cased", wordpiece(normalizer=bert(lowercase=False))
    yield "see-precompiled", see(PRECOMPILED)
    yield "see-precompiled-runs", see(seq(PRECOMPILED, strip(False, True), SPACE_RUNS), metaspace())
    yield "see-bert", see(bert())
    yield "see-bert-cased", see(bert(lowercase=False))
    yield "see-bert-accents", see(bert(strip_accents=False))
    yield "see-bert-unclean", see(bert(clean_text=False))
    yield "see-strip", see(strip(True, True))
    yield "see-split", see(None, pre(SPLIT, metaspace()))
    for name, normalizer in NAMED.items():
        yield "see-" + name.lower(), see(normalizer)
    yield "words", words(None)
    yield "words-bert", words(bert())
    yield "words-split", words(None, SPLIT)


def batches(texts, size=200000):
    batch = []
    for t in texts:
        batch.append(t)
        if len(batch) == size:
            yield batch
            batch = []
    yield batch


def escaped(text):
    return " ".join("%04X" % ord(c) for c in text)


def compare(driver, tok, path, texts, name, show):
    """Prints up to `show` differences; returns how many there are."""
    wrong, total = 0, 0
    for batch in batches(texts):
        raw = b"".join(len(t).to_bytes(4, "little") + t for t in (t.encode() for t in batch))
        with tempfile.NamedTemporaryFile() as records:
            records.write(raw)
            records.flush()
            records.seek(0)
            out = subprocess.run([driver, path], stdin=records, stdout=subprocess.PIPE, check=True).stdout
        ids, at = np.frombuffer(out, dtype="<i4"), 0
        for text, encoding in zip(batch, tok.encode_batch(batch)):
            got = ids[at + 1:at + 1 + ids[at]].tolist()
            at += 1 + int(ids[at])
            total += 1
            if got != encoding.ids:
                wrong += 1
                if wrong <= show:
                    print(f"{name}: {escaped(text)}\n    got  {got}\n    want {encoding.ids}")
        assert at == len(ids)
    print(f"{name}: {total} texts, {wrong} mismatches", flush=True)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", required=True, help="tokenize_records, such as build/release/bin/tokenize_records")
    parser.add_argument("--data", required=True, help="the unpacked test data, such as build/release/data")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--pairs", action="store_true", help="also every code point beside each partner")
    parser.add_argument("--triples", action="store_true", help="also random strings of code points that interact")
    parser.add_argument("--show", type=int, default=10, help="differences printed per case (10)")
    args = parser.parse_args()
    load = lambda name: json.load(open(os.path.join(args.data, "tokenizers", name, "tokenizer.json"), encoding="utf-8"))
    xlmr = load("xlm-roberta")
    parts = {"minilm": load("all-MiniLM-L6-v2")["model"]["vocab"], "xlmr": xlmr["model"]["vocab"],
             "charsmap": xlmr["normalizer"]["precompiled_charsmap"]}
    wrong = 0
    for name, config in cases(parts):
        if args.only not in name:
            continue
        text = dump(fill(config, parts))
        tok = Tokenizer.from_str(text)
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            wrong += compare(args.driver, tok, f.name, singles(), name + " singles", args.show)
            if args.pairs:
                wrong += compare(args.driver, tok, f.name, pairs(), name + " pairs", args.show)
            if args.triples:
                wrong += compare(args.driver, tok, f.name, triples(random.Random(7)), name + " triples", args.show)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
