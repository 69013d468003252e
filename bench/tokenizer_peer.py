#!/usr/bin/env python3
"""Our tokeniser beside the `tokenizers` library: one core, the same texts, A B A B. Ids are compared
first; a case whose ids differ prints FAIL and no speed. The peer is timed through encode_batch and
encode_batch_fast (which leaves out offsets); the faster one counts.

    python bench/tokenizer_peer.py --build build/release"""

import argparse
import csv
import glob
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402  (after the environment is set)
from tokenizers import Tokenizer  # noqa: E402


def stsb(data, language):
    texts = []
    for path in sorted(glob.glob(os.path.join(data, "stsb", f"stsb-{language}-test.csv"))):
        with open(path, encoding="utf-8", newline="") as f:
            texts += [" ".join(t.split()) for row in csv.reader(f) for t in row[:2]]
    return texts


def cranfield(data):
    with open(os.path.join(data, "cranfield", "corpus.jsonl"), encoding="utf-8") as f:
        docs = [json.loads(line) for line in f]
    return [" ".join((d["title"] + " " + d["text"]).split()) for d in docs]


def checksum(encodings):
    total = 0
    for encoding in encodings:
        for i in encoding.ids:
            total = (total * 31 + i) & 0xFFFFFFFFFFFFFFFF
    return total


class Ours:
    def __init__(self, build, path, texts, cpu):
        self.process = subprocess.Popen([os.path.join(build, "bin", "tokenizer_bench"), path, texts, "--serve"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if cpu:
            self.ask("cpu")

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        seconds, ids, total = self.process.stdout.readline().split()
        return float(seconds), int(ids), int(total)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


clock = time.perf_counter


def timed(call, *args):
    start = clock()
    result = call(*args)
    return clock() - start, result


def ratio(pairs):
    """Median of peer / ours with the least and the greatest."""
    r = sorted(p / o for o, p in pairs)
    return f"{statistics.median(r):.2f} ({r[0]:.2f}-{r[-1]:.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release", help="build folder (build/release)")
    parser.add_argument("--reps", type=int, default=7, help="pairs of passes per case (7)")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--cpu-time", action="store_true", help="CPU time instead of elapsed time, for a busy machine")
    args = parser.parse_args()
    if args.cpu_time:
        global clock
        clock = time.process_time
    data = os.path.join(args.build, "data")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
               platform.machine())
    print(f"# tokenizers {tokenizers.__version__}, python {platform.python_version()}, one core of {cpu}, {'CPU' if args.cpu_time else 'elapsed'} time")
    print("case,texts,mb,ids,ours_mb_s,peer_mb_s,encode_ratio,ours_open_ms,peer_open_ms,open_ratio")
    everything, english, long = stsb(data, "*"), stsb(data, "en"), cranfield(data)
    failed = 0
    for name, tokenizer, texts in (("xlmr-stsb-11-languages", "xlm-roberta", everything),
                                   ("xlmr-stsb-ja-zh-ru", "xlm-roberta", sum((stsb(data, k) for k in ("ja", "zh", "ru")), [])),
                                   ("xlmr-cranfield", "xlm-roberta", long),
                                   ("wordpiece-stsb-en", "all-MiniLM-L6-v2", english),
                                   ("wordpiece-cranfield", "all-MiniLM-L6-v2", long),
                                   ("wordpiece-stsb-11-languages", "all-MiniLM-L6-v2", everything)):
        if args.only not in name:
            continue
        path = os.path.join(data, "tokenizers", tokenizer, "tokenizer.json")
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as f:
            f.write("".join(t + "\n" for t in texts))
            f.flush()
            ours = Ours(args.build, path, f.name, args.cpu_time)
            opens = []
            for _ in range(max(3, args.reps // 2)):
                seconds, _, _ = ours.ask("open")
                opens.append((seconds, timed(Tokenizer.from_file, path)[0]))
            tok = Tokenizer.from_file(path)
            tok.no_truncation()
            tok.no_padding()
            _, ids, total = ours.ask("encode")
            peer = tok.encode_batch(texts)
            if ids != sum(len(e.ids) for e in peer) or total != checksum(peer):
                print(f"{name},{len(texts)},FAIL: ids differ")
                failed = 1
                continue
            del peer
            fast = min((timed(call, texts)[0], call) for call in (tok.encode_batch, tok.encode_batch_fast))[1] \
                if hasattr(tok, "encode_batch_fast") else tok.encode_batch
            passes = []
            for _ in range(args.reps):
                seconds = ours.ask("encode")[0]
                passes.append((seconds, timed(fast, texts)[0]))
            ours.close()
        mb = sum(len(t.encode()) for t in texts) / 1e6
        median = lambda rows, k: statistics.median(r[k] for r in rows)
        print(f"{name},{len(texts)},{mb:.3f},{ids},{mb / median(passes, 0):.4g},{mb / median(passes, 1):.4g},"
              f"{ratio(passes)},{1e3 * median(opens, 0):.4g},{1e3 * median(opens, 1):.4g},{ratio(opens)}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
