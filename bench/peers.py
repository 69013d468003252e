"""The same token ids through this library and its peers, side by side in one run.

    python bench/peers.py --install            once: packages into build/venv-bench, llama.cpp
    python bench/peers.py -m DIR               the cases 64 x 128 and 1 x 12 tokens
    python bench/peers.py -m DIR --csv FILE    and append the rows to FILE

Every engine runs in a process of its own, with the same threads, in float32. Its vectors are first
compared with ours (which the tests compare with float64); one that is off by more than --tolerance
in the median text gets FAIL and no time (a rounding may send a single text's token to another
expert). Then rounds are interleaved: A B C, A B C ... A peer that is missing or fails gets a row
that says why.

For an MoE checkpoint llama.cpp is checked and timed on a copy without `experts.bias`, a tensor that
it does not know, against our vectors of that copy.
"""

import argparse
import csv
import datetime
import fcntl
import json
import os
import shutil
import statistics
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
VENV = ROOT / "build" / "venv-bench"
PACKAGES = ["numpy", "torch", "transformers", "sentence-transformers", "onnx", "onnxruntime",
            "openvino", "ctranslate2", "sentencepiece"]
PEERS = ["embed", "PyTorch", "sentence-transformers", "ONNX Runtime", "OpenVINO", "CTranslate2",
         "llama.cpp"]
MOE_PEERS = ["embed", "PyTorch", "llama.cpp"]
COLUMNS = ["date", "machine", "model", "threads", "texts", "tokens", "impl", "version", "reps",
           "best_us", "median_us", "p90_us", "spread", "tok_s", "gflop_s", "pct_peak", "max_err",
           "ours_is", "peak_gflop_s", "copy_gb_s", "note"]


def say(text):
    print(text, file=sys.stderr, flush=True)


# ----------------------------------------------------------------------------------- installing

def install():
    """Each package by itself, so that one that is not to be had costs only its own row."""
    say(f"Installing into {VENV}")
    venv.create(VENV, with_pip=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--quiet"]
    for package in PACKAGES:
        if subprocess.run([*pip, "install", package]).returncode != 0:
            say(f"{package}: not installed, its rows will say so")
    WORK.mkdir(parents=True, exist_ok=True)
    source, build = WORK / "llama", WORK / "llama-build"
    if not source.exists():
        say(f"Fetching the llama-cpp-python sdist and building libllama in {build}")
        sdist = WORK / "sdist"
        if subprocess.run([*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", str(sdist),
                           "llama-cpp-python"]).returncode != 0:
            return
        source.mkdir()
        subprocess.run(["tar", "xzf", str(next(sdist.glob("*.tar.gz"))), "-C", str(source),
                        "--strip-components=1"], check=True)
    off = [f"-DLLAMA_BUILD_{x}=OFF" for x in ("TESTS", "EXAMPLES", "TOOLS", "SERVER", "COMMON")]
    subprocess.run(["cmake", "-S", str(source / "vendor" / "llama.cpp"), "-B", str(build),
                    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=ON", "-DGGML_NATIVE=ON", *off])
    subprocess.run(["cmake", "--build", str(build), "--target", "llama", "-j", str(os.cpu_count())])


# -------------------------------------------------------------------------------------- workers

class Peer:
    def __init__(self, name, model, threads):
        self.name, self.error = name, None
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false",
                            "HF_HUB_OFFLINE": "1"}
        self.log = open(WORK / f"{name.replace(' ', '_')}.log", "w")
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "bench" / "peer_workers.py"), name, str(model), str(threads),
             str(WORK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env=env)
        self.version = self.ask(do="open").get("version", "")

    def ask(self, **question):
        """The worker's answer; {} once it has failed."""
        if self.error:
            return {}
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline() or '{"error": "the process died"}')
        except BrokenPipeError:
            answer = {"error": "the process died"}
        if "error" in answer:
            self.error = answer["error"]
            say(f"{self.name}: {self.error}; see {self.log.name}")
            return {}
        return answer

    def vectors(self, ids):
        import numpy as np
        answer = self.ask(do="run", ids=ids.tolist())
        if not answer:
            return None
        vectors = np.load(answer["vectors"])
        os.unlink(answer["vectors"])
        return vectors

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# --------------------------------------------------------------------------------------- numbers

def flops(config, tokens):
    """Multiply-adds x 2 that one token needs in a text of `tokens`, experts not chosen left out."""
    if "n_embd" in config:
        h, inner, layers = config["n_embd"], config["n_inner"], config["n_layer"]
    else:
        h, inner = config["hidden_size"], config["intermediate_size"]
        layers = config["num_hidden_layers"]
    every, total = config.get("moe_every_n_layers", 0), 0
    for i in range(layers):
        total += 4 * h * h + 2 * tokens * h
        if every and i % every == 1:
            total += config["moe_top_k"] * 2 * h * inner + config["num_experts"] * h
        else:
            total += 2 * h * inner
    return 2 * total


def row_of(us, texts, tokens, config, peak):
    us = sorted(us)
    median = statistics.median(us)
    rate = 1e6 * texts * tokens / median
    gflop = rate * flops(config, tokens) / 1e9
    return {"reps": len(us), "best_us": us[0], "median_us": median,
            "p90_us": us[min(len(us) - 1, int(0.9 * len(us)))], "spread": us[-1] / us[0],
            "tok_s": rate, "gflop_s": gflop, "pct_peak": 100 * gflop / peak if peak else ""}


def without_expert_bias(model):
    """A copy whose experts.bias are zero."""
    import numpy as np
    copy = WORK / (model.name + "-no-bias")
    if not (copy / "model.safetensors").exists():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(model, copy)
        path = copy / "model.safetensors"
        with open(path, "rb") as f:
            size = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(size))
        for name, t in header.items():
            if name.endswith("experts.bias"):
                begin, end = t["data_offsets"]
                np.memmap(path, np.uint8, "r+", 8 + size + begin, end - begin)[:] = 0
    return copy


def machine():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def commit():
    done = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
                          capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


# ------------------------------------------------------------------------------------------ run

class Bench:
    def __init__(self, args):
        self.args, self.model = args, Path(args.model).resolve()
        self.config = json.loads((self.model / "config.json").read_text())
        self.moe = bool(self.config.get("moe_every_n_layers"))
        names = [n for n in (MOE_PEERS if self.moe else PEERS) if not args.only or n in args.only]
        copy = without_expert_bias(self.model) if self.moe and "llama.cpp" in names else None
        self.peers = []
        for name in names:
            say(f"opening {name}")
            special = copy is not None and name == "llama.cpp"
            self.peers.append(Peer(name, copy if special else self.model, args.threads))
            self.peers[-1].note = "without experts.bias" if special else ""
        self.copy_of_ours = Peer("embed", copy, args.threads) if copy else None
        self.lock = open(args.lock, "w") if args.lock else None

    def alone(self, call):
        """Run the call while no other benchmark on this machine measures (--lock)."""
        if self.lock:
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        try:
            call()
        finally:
            if self.lock:
                fcntl.flock(self.lock, fcntl.LOCK_UN)

    def check(self, ids):
        import numpy as np
        base = self.peers[0].vectors(ids)
        bare = self.copy_of_ours.vectors(ids) if self.copy_of_ours else None
        for peer in self.peers:
            peer.max_err = None
            want = bare if peer.note else base
            got = peer.vectors(ids)
            if got is not None and want is not None:
                errors = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
                peer.max_err = float(errors.max())
                if not np.median(errors) <= self.args.tolerance:
                    cosine = float((got * want).sum(1).min())
                    peer.failed = f"FAIL: cosine {cosine:.4f}"
                    say(f"{peer.name}: {peer.failed}")

    def case(self, texts, tokens):
        import numpy as np
        vocab = min(self.config["vocab_size"], 30000 if not self.moe else 250000)
        rng = np.random.default_rng(tokens)
        ids = rng.integers(1000, vocab, (texts, tokens))
        ids[:, 0], ids[:, -1] = (0, 2) if self.moe else (101, 102)
        for peer in self.peers:
            peer.failed = ""
        self.check(ids)
        reps = max(1, int(self.args.rep_tokens / (texts * tokens)))
        times = {peer.name: [] for peer in self.peers}

        limits = {}

        def measure():
            for i in range(self.args.rounds):
                for peer in self.peers:
                    if not peer.failed:
                        answer = peer.ask(do="time", ids=ids.tolist(), reps=reps)
                        times[peer.name] += answer.get("us", [])
                say(f"{texts} x {tokens}: round {i + 1} of {self.args.rounds}")
            for peer in self.peers:
                if peer.name == "PyTorch":
                    limits.update(peer.ask(do="limits"))

        self.alone(measure)
        return self.rows(texts, tokens, times, limits)

    def rows(self, texts, tokens, times, limits):
        peak, rows = limits.get("gflop_s", 0), []
        for peer in self.peers:
            row = dict.fromkeys(COLUMNS, "")
            row |= {"date": datetime.date.today().isoformat(), "machine": machine(),
                    "model": self.model.name, "threads": self.args.threads, "texts": texts,
                    "tokens": tokens, "impl": peer.name, "version": peer.version,
                    "peak_gflop_s": peak, "copy_gb_s": limits.get("gb_s", 0),
                    "note": peer.error or peer.failed or peer.note}
            if peer.max_err is not None:
                row["max_err"] = peer.max_err
            if times[peer.name]:
                row |= row_of(times[peer.name], texts, tokens, self.config, peak)
            rows.append(row)
        if rows[0]["median_us"]:
            for row in rows[1:]:
                if row["median_us"]:
                    row["ours_is"] = row["median_us"] / rows[0]["median_us"]
        rows[0]["version"] += f" ({commit()})"
        return rows


def short(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show(rows):
    first = rows[0]
    print(f"\n{first['model']}, {first['texts']} x {first['tokens']} tokens, {first['threads']} threads,"
          f" float32; sgemm {short(first['peak_gflop_s'])} GFLOP/s, copy {short(first['copy_gb_s'])}"
          f" GB/s in this run\n")
    names = ["impl", "median_us", "p90_us", "spread", "tok_s", "gflop_s", "pct_peak", "max_err",
             "ours_is", "version", "note"]
    titles = names[:8] + ["ours is x times as fast"] + names[9:]
    print("| " + " | ".join(titles) + " |\n|" + "---|" * len(names))
    for row in sorted(rows, key=lambda r: r["median_us"] or 1e30):
        print("| " + " | ".join(short(row[n]) for n in names) + " |")
    sys.stdout.flush()


def write_csv(path, rows):
    new = not Path(path).exists()
    with open(path, "a", newline="") as f:
        out = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        if new:
            out.writeheader()
        out.writerows({k: short(v) for k, v in row.items()} for row in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--install", action="store_true", help="install the peers into build/venv-bench, then stop")
    add("-m", "--model", help="checkpoint directory: bert, or nomic_bert with experts")
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--rounds", type=int, default=7)
    add("--rep-tokens", type=int, default=600, help="tokens a peer handles in a row in one round;"
        " always at least one call (600)")
    add("--case", action="append", help="TEXTSxTOKENS; may be repeated (64x128 and 1x12)")
    add("--only", action="append", help="only this engine; may be repeated; embed is always needed")
    add("--tolerance", type=float, default=5e-3, help="relative L2 error of the median text allowed to a peer (5e-3)")
    add("--csv", help="append the rows to this file")
    add("--lock", help="file to hold an exclusive flock on while measuring")
    args = parser.parse_args()
    if args.install:
        return install()
    if not args.model:
        parser.error("-m DIR is needed")
    own = VENV / "bin" / "python"
    if own.exists() and Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(own, [str(own), *sys.argv])
    WORK.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    for case in args.case or ["64x128", "1x12"]:
        texts, tokens = map(int, case.split("x"))
        rows = bench.case(texts, tokens)
        show(rows)
        if args.csv:
            write_csv(args.csv, rows)
    for peer in [*bench.peers, *([bench.copy_of_ours] if bench.copy_of_ours else [])]:
        peer.close()


if __name__ == "__main__":
    main()
