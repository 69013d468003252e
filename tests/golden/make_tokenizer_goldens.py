#!/usr/bin/env python3
"""Make the tokeniser goldens: many lines through many tokenizer.json files with the `tokenizers`
library. tokenizer/README.md says what the result holds and how to call this."""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter

import tokenizers
from tokenizers import Tokenizer

import tokenizer_lines

HERE = os.path.dirname(os.path.abspath(__file__))
NO_SPECIAL = 16  # EMBED_NO_SPECIAL_TOKENS


# ------------------------------------------------------------------------------------ vocabularies

def small_unigram(full, texts):
    """A small Unigram vocabulary: the special tokens, the 4,000 most frequent pieces of XLM-R (its
    order is by frequency) and whatever else the texts use twice. Many characters stay unknown."""
    use = Counter()
    tok = Tokenizer.from_str(json.dumps(full))
    for enc in tok.encode_batch(texts, add_special_tokens=False):
        use.update(enc.ids)
    vocab = full["model"]["vocab"]
    keep = [i for i in range(len(vocab)) if i < 4000 or use[i] >= 2]
    return [vocab[i] for i in keep if vocab[i][0] != "<mask>"]


def with_bytes(vocab, missing=()):
    """The same with byte pieces after the special tokens, as byte_fallback wants."""
    pieces = [["<0x%02X>" % b, -12.5] for b in range(256) if b not in missing]
    return vocab[:4] + pieces + vocab[4:]


def tiny_unigram():
    """Ties, positive and equal scores, duplicate pieces, pieces with spaces, unknown runs that spell
    a piece: what separates two almost equal Viterbi searches."""
    return [["<unk>", 0.0], ["a", -1.0], ["b", -1.0], ["ab", -2.0], ["abc", -3.0], ["c", -1.0],
            ["bc", -2.0], ["\u2581", -1.0], ["\u2581a", -2.0], ["\u2581\u2581", -1.5], ["aa", 0.5],
            ["aaa", 0.25], ["xyz", -2.0], ["e", -0.1], ["\u00e9", -0.2], ["e\u0301", -0.3],
            ["\u4e2d", -3.0], ["\u4e2d\u6587", -7.0], ["n", -0.1], ["new", -0.3], ["w", -0.1],
            [" ", -1.25], ["a b", -0.5], ["b", -4.0], ["\U0001f600", -2.0], ["0", -1e-9], ["1", 1e-9],
            ["01", 0.0], ["10", 0.0], ["11", -0.0], ["\u0130", -1.0], ["i\u0307", -1.0], ["s", -7.25],
            ["ss", -14.5], ["<", -1.0], [">", -1.0], ["<s>", -5.0], ["\ufffd", -3.0]]


def cased_wordpiece(texts):
    """A cased multilingual WordPiece vocabulary: most of the texts' characters, first and continued,
    and their most frequent word parts. Greedy matching needs no more than that."""
    chars, parts = Counter(), Counter()
    for text in texts:
        for word in re.findall(r"\w+|[^\w\s]", text):
            chars.update(word[:1])
            chars.update("##" + c for c in word[1:])
            for start in range(min(len(word), 12)):
                for end in range(start + 2, min(len(word), start + 9) + 1):
                    parts[("##" if start else "") + word[start:end]] += 1
    order = [sorted(c.items(), key=lambda kv: (-kv[1], kv[0])) for c in (chars, parts)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += [t for t, n in order[0] if n >= 2] + [t for t, _ in order[1][:7000]]
    return {t: i for i, t in enumerate(dict.fromkeys(tokens))}


def tiny_wordpiece(prefix):
    words = ["<unk>", "a", "b", "ab", "abc", "c", "the", "new", "york", "new york", "\u00e9", "e", ".",
             "..", "\u4e2d", "\u4e2d\u6587", "x1", "1", " ", "n", "##", "##n", "@@", "<", ">", "s", "<s>"]
    parts = [prefix + w for w in ("a", "b", "c", "ab", "1", "x", "\u00e9", "\u0301", "new", "york", ".", "s")]
    return {t: i for i, t in enumerate(dict.fromkeys(words + parts))}


# ------------------------------------------------------------------------------------------ variants

def bert(**options):
    return dict({"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                 "strip_accents": None, "lowercase": True}, **options)


def seq(*normalizers):
    return {"type": "Sequence", "normalizers": list(normalizers)}


def pre(*pretokenizers):
    return {"type": "Sequence", "pretokenizers": list(pretokenizers)}


def replace(pattern, content):
    kind, text = pattern
    return {"type": "Replace", "pattern": {kind: text}, "content": content}


def strip(left, right):
    return {"type": "Strip", "strip_left": left, "strip_right": right}


def metaspace(**options):
    return dict({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
                **options)


def added(id, content, **options):
    return dict({"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": False}, **options)


def template(*items, **ids):
    """'A' stands for the text; every other item is a special token with its id or list of ids."""
    single = [{"Sequence": {"id": "A", "type_id": 0}} if i == "A" else
              {"SpecialToken": {"id": i, "type_id": 0}} for i in items]
    table = {i: {"id": i, "ids": ids[i] if isinstance(ids[i], list) else [ids[i]], "tokens":
                 [i] * (len(ids[i]) if isinstance(ids[i], list) else 1)} for i in items if i != "A"}
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": table}


PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": "@charsmap"}
SPACE_RUNS = replace(("Regex", " {2,}"), " ")
NAMED = {t: {"type": t} for t in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt")}
SPLIT = {"type": "WhitespaceSplit"}
BERT_PRE = {"type": "BertPreTokenizer"}
BERT_TEMPLATE = template("[CLS]", "A", "[SEP]", **{"[CLS]": 101, "[SEP]": 102})
BERT_ADDED = [added(i, t, special=True) for i, t in
              ((0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]"), (103, "[MASK]"))]
ODD_TOKENS = [
    dict(content="[NEW]", normalized=True), dict(content="new york"), dict(content="Caf\u00e9", normalized=True),
    dict(content="abc"), dict(content="ab", normalized=True), dict(content="<left>", lstrip=True),
    dict(content="<right>", rstrip=True), dict(content="<both>", lstrip=True, rstrip=True),
    dict(content="<word>", single_word=True), dict(content="<norm>", normalized=True, lstrip=True),
    dict(content="\u2581<m>", normalized=True), dict(content="\u4e2d\u6587", single_word=True),
    dict(content="\ud55c", normalized=True, rstrip=True), dict(content="\u00e9", single_word=True),
    dict(content="\ufb01", normalized=True), dict(content="##ing"), dict(content="\U0001f600", rstrip=True),
    dict(content="new", single_word=True, normalized=True, special=True),
    dict(content="x\u0301", lstrip=True, rstrip=True, single_word=True)]


def wordpiece(vocab="@minilm", normalizer=bert(), pre_tokenizer=BERT_PRE, post=BERT_TEMPLATE,
              tokens=BERT_ADDED, **model):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post,
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": dict({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                           "max_input_chars_per_word": 100, "vocab": vocab}, **model)}


def unigram(vocab, normalizer, pre_tokenizer, mask=None, tokens=None, post="s", **model):
    if tokens is None:
        tokens = [added(i, t, special=True) for i, t in enumerate(("<s>", "<pad>", "</s>", "<unk>"))]
        tokens.append(added(mask, "<mask>", special=True, lstrip=True))
    if post == "s":
        post = template("<s>", "A", "</s>", **{"<s>": 0, "</s>": 2})
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
            "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post, "decoder": None,
            "model": dict({"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": False}, **model)}


def odd_tokens(first, base):
    return base + [added(first + i, **t) for i, t in enumerate(ODD_TOKENS)]


def variants(sizes):
    """name -> (tokenizer.json with vocabularies left as "@name", [(max_tokens, flags, step), ...]). A
    run takes every step-th line, which keeps the goldens small: all lines where a file is one that
    people use, a third of them where an option is tried."""
    every, third = [(0, 0, 1)], [(0, 0, 3)]
    out = {}
    small, byte, holes = sizes["small"], sizes["bytes"], sizes["holes"]

    def wp(name, runs=third, **options):
        out["wordpiece-" + name] = (wordpiece(**options), runs)

    def uni(name, normalizer, pre_tokenizer, runs=third, vocab="@small", mask=small, **options):
        out["unigram-" + name] = (unigram(vocab, normalizer, pre_tokenizer, mask, **options), runs)

    # The files as they are, and how they are cut.
    wp("minilm", every + [(0, NO_SPECIAL, 5), (2, 0, 5), (7, 0, 5), (16, 0, 5), (5, NO_SPECIAL, 5)])
    uni("xlmr", PRECOMPILED, pre(SPLIT, metaspace()), every + [(0, NO_SPECIAL, 5), (2, 0, 5), (9, 0, 5), (3, NO_SPECIAL, 5)],
        "@xlmr", 250001)
    # multilingual-e5, BGE-M3 and others: no WhitespaceSplit, runs of spaces made one.
    uni("e5", seq(PRECOMPILED, strip(False, True), replace(("Regex", " {2,}"), "\u2581")), metaspace(), every,
        "@xlmr", mask=250001)
    uni("bge", seq(PRECOMPILED, SPACE_RUNS), metaspace(), every)
    # Options of the BERT normaliser.
    wp("lower-off", every, normalizer=bert(lowercase=False))
    wp("strip-off", every, normalizer=bert(strip_accents=False))
    wp("strip-on", normalizer=bert(strip_accents=True, lowercase=False))
    wp("chinese-off", normalizer=bert(handle_chinese_chars=False))
    wp("clean-off", normalizer=bert(clean_text=False))
    wp("all-off", normalizer=bert(clean_text=False, handle_chinese_chars=False, lowercase=False))
    cased = [added(i, t, special=True) for i, t in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))]
    cls_sep = {"[CLS]": 2, "[SEP]": 3}
    wp("cased", every, vocab="@cased", normalizer=bert(lowercase=False), tokens=cased,
       post={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]})
    wp("cased-chars10", vocab="@cased", normalizer=bert(lowercase=False), tokens=cased,
       post=template("[CLS]", "A", "[SEP]", **cls_sep), max_input_chars_per_word=10)
    # Other normalisers, pre-tokenisers and processors around the cased vocabulary.
    for name, normalizer in (
            ("null", None), ("nfc", NAMED["NFC"]), ("nfd", NAMED["NFD"]), ("nfkc", NAMED["NFKC"]),
            ("nfkd", NAMED["NFKD"]), ("lower", NAMED["Lowercase"]), ("nmt", NAMED["Nmt"]),
            ("nfkc-lower", seq(NAMED["NFKC"], NAMED["Lowercase"])),
            ("nfd-strip-accents", seq(NAMED["NFD"], NAMED["StripAccents"], NAMED["Lowercase"])),
            ("strip-left", strip(True, False)), ("strip-both", strip(True, True)),
            ("replace", seq(replace(("String", "e"), "<e>"), replace(("String", "``"), '"'),
                            replace(("Regex", " {2,}"), " "), replace(("String", "."), "")))):
        wp("n-" + name, vocab="@cased", normalizer=normalizer, tokens=cased, post=None)
    wp("split", vocab="@cased", normalizer=None, pre_tokenizer=SPLIT, tokens=cased,
       post={"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2], "trim_offsets": True,
             "add_prefix_space": False})
    wp("no-pre", vocab="@cased", normalizer=None, pre_tokenizer=None, tokens=cased, post=None)
    wp("added", [(0, 0, 1), (9, 0, 5)], tokens=odd_tokens(30522, BERT_ADDED),
       post=template("[CLS]", "[MASK]", "A", "[SEP]", "[CLS]", "[SEP]",
                     **{"[CLS]": 101, "[SEP]": [102, 103], "[MASK]": 103}))
    wp("added-cased", vocab="@cased", normalizer=bert(lowercase=False), post=None,
       tokens=odd_tokens(sizes["cased"], cased))
    for name, prefix in (("tiny", "@@"), ("tiny-bare", "")):
        wp(name, vocab="@" + name, normalizer=None, post=None, tokens=[], unk_token="<unk>",
           continuing_subword_prefix=prefix, max_input_chars_per_word=7)
    # Every form of Metaspace, on its own and after WhitespaceSplit.
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            uni(f"meta-{scheme}-{'split' if split else 'whole'}", seq(PRECOMPILED, SPACE_RUNS),
                metaspace(prepend_scheme=scheme, split=split))
        uni("split-meta-" + scheme, PRECOMPILED, pre(SPLIT, metaspace(prepend_scheme=scheme, split=False)))
    uni("legacy", PRECOMPILED, pre(SPLIT, {"type": "Metaspace", "replacement": "\u2581", "str_rep": "\u2581",
                                           "add_prefix_space": True}))
    uni("legacy-off", None, {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": False,
                             "prepend_scheme": "never"})
    uni("meta-other", None, metaspace(replacement="_"))
    uni("no-pre", PRECOMPILED, None)
    uni("split-only", None, SPLIT)
    # Normalisers that occur before a Unigram model.
    uni("nfkc", NAMED["NFKC"], metaspace())
    uni("nfkc-lower", seq(NAMED["NFKC"], NAMED["Lowercase"], SPACE_RUNS, strip(True, True)), metaspace())
    uni("nmt-nfkc", seq(NAMED["Nmt"], NAMED["NFKC"], SPACE_RUNS), metaspace(prepend_scheme="first"))
    uni("albert", seq(replace(("String", "``"), '"'), replace(("String", "''"), '"'), NAMED["NFKD"],
                      NAMED["StripAccents"], NAMED["Lowercase"], PRECOMPILED, SPACE_RUNS), pre(SPLIT, metaspace()))
    uni("strip-precompiled", seq(strip(True, True), PRECOMPILED, SPACE_RUNS), pre(metaspace()))
    uni("prepend", seq({"type": "Prepend", "prepend": "\u2581"}, replace(("String", " "), "\u2581")), None)
    # Byte fallback, whole and with missing bytes; added tokens; tiny vocabulary of ties.
    uni("bytes", PRECOMPILED, pre(SPLIT, metaspace()), third + [(8, 0, 5)], "@bytes", byte, byte_fallback=True)
    uni("bytes-null", None, metaspace(), vocab="@bytes", mask=byte, byte_fallback=True)
    uni("bytes-holes", None, metaspace(prepend_scheme="never"), vocab="@holes", mask=holes, byte_fallback=True)
    base = [added(i, t, special=True) for i, t in enumerate(("<s>", "<pad>", "</s>", "<unk>"))]
    for scheme in ("always", "first", "never"):
        uni("added-" + scheme, seq(PRECOMPILED, NAMED["Lowercase"]), metaspace(prepend_scheme=scheme),
            tokens=odd_tokens(small, base), post={"type": "RobertaProcessing", "sep": ["</s>", 2],
                                                  "cls": ["<s>", 0], "trim_offsets": True,
                                                  "add_prefix_space": True})
    uni("tiny", None, None, vocab="@tiny-unigram", tokens=[], post=None, unk_id=0)
    uni("tiny-meta", NAMED["NFC"], metaspace(), vocab="@tiny-unigram", tokens=[], post=None, unk_id=0)
    return out


# --------------------------------------------------------------------------------------------- output

def varint(n):
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def fill(config, parts):
    """Put vocabularies and the normalisation map in the places of the "@name" strings."""
    if isinstance(config, dict):
        return {k: fill(v, parts) for k, v in config.items()}
    if isinstance(config, list):
        return [fill(v, parts) for v in config]
    return parts[config[1:]] if isinstance(config, str) and config[1:] in parts and config[0] == "@" else config


def dump(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="the unpacked test data, such as build/release/data")
    parser.add_argument("--languages", help="gflanguages' folder of *.textproto files (that of the installed package)")
    parser.add_argument("--out", default=os.path.join(HERE, "tokenizer", "tokenizer_golden.tar.xz"))
    args = parser.parse_args()
    if not args.languages:  # found, not imported: importing it needs protobuf
        package = importlib.util.find_spec("gflanguages").submodule_search_locations[0]
        args.languages = os.path.join(package, "data", "languages")

    lines = list(tokenizer_lines.lines(args.data, args.languages))
    texts = [raw.decode("utf-8", errors="replace") for _, raw in lines]
    load = lambda name: json.load(open(os.path.join(args.data, "tokenizers", name, "tokenizer.json"), encoding="utf-8"))
    minilm, xlmr = load("all-MiniLM-L6-v2"), load("xlm-roberta")
    small = small_unigram(xlmr, texts)
    made = {"small": small, "bytes": with_bytes(small), "holes": with_bytes(small, range(0x90, 0xA8)),
            "cased": cased_wordpiece(texts), "tiny-unigram": tiny_unigram(),
            "tiny": tiny_wordpiece("@@"), "tiny-bare": tiny_wordpiece("")}
    parts = dict(made, minilm=minilm["model"]["vocab"], xlmr=xlmr["model"]["vocab"],
                 charsmap=xlmr["normalizer"]["precompiled_charsmap"])
    found = variants({k: len(v) for k, v in made.items()})

    columns, table = [], []
    for name, (config, runs) in found.items():
        tok = Tokenizer.from_str(dump(fill(config, parts)))
        for max_tokens, flags, step in runs:
            special = not flags & NO_SPECIAL
            tok.no_truncation()
            if max_tokens:
                tok.enable_truncation(max_tokens)
            first = len(table) % step
            encodings = tok.encode_batch(texts[first::step], add_special_tokens=special)
            columns.append({first + i * step: tuple(e.ids) for i, e in enumerate(encodings)})
            table.append(f"{name}\t{max_tokens}\t{flags}\t{first}\t{step}\n")
            print(f"{name} {max_tokens} {flags} {step}: {sum(map(len, columns[-1].values()))} ids", file=sys.stderr)

    # A line's ids in each run that takes the line: 0, count, ids; or 1 + the number of an earlier run
    # with equal ids.
    ids = bytearray()
    for line in range(len(lines)):
        seen = {}
        for run, column in enumerate(columns):
            row = column.get(line)
            if row is None:
                continue
            if row in seen:
                ids += varint(1 + seen[row])
            else:
                seen[row] = run
                ids += varint(0) + varint(len(row)) + b"".join(map(varint, row))
    categories = []
    for n, (category, _) in enumerate(lines):
        if not categories or categories[-1][0] != category:
            categories.append((category, n))
    with tempfile.TemporaryDirectory() as work:
        folder = os.path.join(work, "tokenizer_golden")
        os.mkdir(folder)
        files = {"lines.bin": varint(len(lines)) + b"".join(varint(len(raw)) + raw for _, raw in lines),
                 "ids.bin": bytes(ids), "runs.tsv": "".join(table).encode(),
                 "categories.tsv": "".join(f"{n}\t{c}\n" for c, n in categories).encode()}
        files.update({f"{name}.json": dump(vocab).encode() for name, vocab in made.items()})
        files.update({f"{name}.json": dump(config).encode() for name, (config, _) in found.items()})
        for name, content in files.items():
            with open(os.path.join(folder, name), "wb") as f:
                f.write(content)
        archive = os.path.abspath(args.out)
        subprocess.run(f"tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - tokenizer_golden"
                       f" | xz -9e > '{archive}'", shell=True, check=True, cwd=work)
    print(f"tokenizers {tokenizers.__version__}: {len(lines)} lines, {len(categories)} categories, {len(found)} "
          f"tokenizers, {len(columns)} runs, {sum(map(len, columns))} rows, {sum(len(r) for c in columns for r in c.values())} ids; "
          f"{os.path.getsize(archive)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
