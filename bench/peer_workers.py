"""One engine per process: a worker of peers.py.

A worker is started as `peer_workers.py NAME MODEL_DIR THREADS WORK_DIR`, answers one JSON line per
JSON line on stdin and keeps stdout to itself, so that whatever a library prints goes to stderr.

    {"do": "open"}                               {"ok": ..., "version": ...}
    {"do": "run", "ids": [[...]...]}             {"vectors": path of a .npy}
    {"do": "time", "ids": ..., "reps": n}        {"us": [...]}
    {"do": "limits"}                             {"gflop_s": ..., "gb_s": ...}
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def normalized(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class Worker:
    """ids is an int array [texts, tokens]; run returns unit vectors [texts, dim]."""

    def __init__(self, model, threads, work):
        self.model, self.threads, self.work = Path(model), threads, Path(work)
        self.config = json.loads((self.model / "config.json").read_text())
        self.moe = self.config["model_type"] == "nomic_bert"


class Embed(Worker):
    """This library, through ctypes."""

    class Ids(ctypes.Structure):
        _fields_ = [("ptr", ctypes.c_void_p), ("len", ctypes.c_size_t)]

    class ContextParams(ctypes.Structure):
        _fields_ = [("struct_size", ctypes.c_size_t), ("threads", ctypes.c_int32),
                    ("batch_tokens", ctypes.c_int32)]

    def open(self):
        path = os.environ.get("EMBED_LIBRARY", ROOT / "build" / "release" / "lib" / "libembed.so")
        self.lib = ctypes.CDLL(str(path))
        self.lib.embed_last_error.restype = ctypes.c_char_p
        self.handle, self.ctx = ctypes.c_void_p(), ctypes.c_void_p()
        params = self.ContextParams(ctypes.sizeof(self.ContextParams), self.threads, 0)
        self.check(self.lib.embed_model_open(ctypes.byref(self.handle), str(self.model).encode(), None))
        self.check(self.lib.embed_context_create(ctypes.byref(self.ctx), self.handle,
                                                 ctypes.byref(params)))
        self.dim = self.config.get("n_embd") or self.config["hidden_size"]
        version = self.lib.embed_version()
        return f"embed {version // 1000000}.{version // 1000 % 1000}.{version % 1000}"

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.lib.embed_last_error().decode())

    def run(self, ids):
        ids = np.ascontiguousarray(ids, np.int32)
        n, tokens = ids.shape
        out = np.empty((n, self.dim), np.float32)
        rows = (self.Ids * n)(*[(ids.ctypes.data + 4 * tokens * i, tokens) for i in range(n)])
        self.check(self.lib.embed_encode_ids(self.ctx, rows, ctypes.c_size_t(n), None,
                                             out.ctypes.data_as(ctypes.c_void_p),
                                             ctypes.c_size_t(out.size)))
        return out


class Torch(Worker):
    """transformers' BertModel; for the MoE shape the plain implementation below."""

    def open(self):
        import torch
        torch.set_num_threads(self.threads)
        torch.set_grad_enabled(False)
        self.torch = torch
        if self.moe:
            self.net = PlainMoE(torch, self.model, self.config)
            return f"torch {torch.__version__}, plain MoE of this file"
        import transformers
        self.net = transformers.AutoModel.from_pretrained(
            str(self.model), dtype=torch.float32, attn_implementation="sdpa").eval()
        return f"torch {torch.__version__}, transformers {transformers.__version__}"

    def run(self, ids):
        ids = self.torch.from_numpy(np.ascontiguousarray(ids, np.int64))
        hidden = self.net(ids) if self.moe else self.net(input_ids=ids)[0]
        return normalized(hidden.mean(1).numpy())

    def limits(self):
        """Best of a few: a large sgemm, and a copy (read and write counted)."""
        n = 3072
        a, b = self.torch.randn(n, n), self.torch.randn(n, n)
        src = self.torch.randn(64 << 20)
        dst = self.torch.empty_like(src)
        gemm = min(timed(lambda: self.torch.mm(a, b, out=a.new_empty(n, n))) for _ in range(5))
        copy = min(timed(lambda: dst.copy_(src)) for _ in range(5))
        return {"gflop_s": 2 * n**3 / gemm / 1e9, "gb_s": 2 * 4 * src.numel() / copy / 1e9}


class PlainMoE:
    """nomic-embed-text-v2-moe in plain PyTorch, each expert on its tokens only."""

    def __init__(self, torch, path, config):
        from safetensors.torch import load_file
        self.torch, self.w = torch, load_file(path / "model.safetensors")
        self.heads, self.layers = config["n_head"], config["n_layer"]
        self.eps, self.base = config["layer_norm_epsilon"], config["rotary_emb_base"]
        self.every, self.experts = config["moe_every_n_layers"], config["num_experts"]
        self.top_k, self.inner = config["moe_top_k"], config["n_inner"]

    def norm(self, x, name):
        return self.torch.nn.functional.layer_norm(
            x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], self.eps)

    def linear(self, x, name):
        return self.torch.nn.functional.linear(x, self.w[name + ".weight"], self.w[name + ".bias"])

    def rotary(self, tokens, dim):
        t = self.torch
        angle = t.outer(t.arange(tokens).float(), self.base ** (-t.arange(0, dim, 2).float() / dim))
        return t.cat([angle, angle], -1).cos(), t.cat([angle, angle], -1).sin()

    def moe(self, x, name):
        t, f = self.torch, self.torch.nn.functional
        p = f.linear(x, self.w[name + "router.layer.weight"]).softmax(-1)
        gates, chosen = p.topk(self.top_k, -1)
        w1 = self.w[name + "experts.mlp.w1"].view(self.experts, self.inner, -1)
        w2 = self.w[name + "experts.mlp.w2"].view(self.experts, self.inner, -1)
        y = t.zeros_like(x)
        for e in range(self.experts):
            rows, which = t.where(chosen == e)
            if len(rows):
                out = f.gelu(f.linear(x[rows], w1[e])) @ w2[e]
                y.index_add_(0, rows, out * gates[rows, which, None])
        return y + self.w[name + "experts.bias"]

    def __call__(self, ids):
        t, f = self.torch, self.torch.nn.functional
        n, tokens = ids.shape
        x = self.w["embeddings.word_embeddings.weight"][ids.reshape(-1)]
        x = self.norm(x + self.w["embeddings.token_type_embeddings.weight"][0], "emb_ln")
        hd = x.shape[-1] // self.heads
        cos, sin = self.rotary(tokens, hd)

        def turn(v):
            return v * cos + t.cat([-v[..., hd // 2:], v[..., :hd // 2]], -1) * sin

        for i in range(self.layers):
            name = f"encoder.layers.{i}."
            qkv = self.linear(x, name + "attn.Wqkv").view(n, tokens, 3, self.heads, hd)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            a = f.scaled_dot_product_attention(turn(q), turn(k), v)
            a = a.transpose(1, 2).reshape(n * tokens, -1)
            x = self.norm(x + self.linear(a, name + "attn.out_proj"), name + "norm1")
            if i % self.every == 1:
                m = self.moe(x, name + "mlp.")
            else:
                m = self.linear(f.gelu(self.linear(x, name + "mlp.fc1")), name + "mlp.fc2")
            x = self.norm(x + m, name + "norm2")
        return x.view(n, tokens, -1)


class SentenceTransformers(Worker):
    def open(self):
        import sentence_transformers
        import torch
        torch.set_num_threads(self.threads)
        torch.set_grad_enabled(False)
        self.torch = torch
        self.net = sentence_transformers.SentenceTransformer(str(self.model), device="cpu").eval()
        return f"sentence-transformers {sentence_transformers.__version__}"

    def run(self, ids):
        ids = self.torch.from_numpy(np.ascontiguousarray(ids, np.int64))
        return self.net({"input_ids": ids, "attention_mask": self.torch.ones_like(ids),
                         "token_type_ids": self.torch.zeros_like(ids)})["sentence_embedding"].numpy()


def onnx_file(model, work):
    """The encoder as ONNX, exported once."""
    path = work / (model.name + ".onnx")
    if not path.exists():
        import torch
        import transformers
        net = transformers.AutoModel.from_pretrained(str(model), attn_implementation="eager").eval()

        class Hidden(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net.requires_grad_(False)

            def forward(self, input_ids, attention_mask, token_type_ids):
                return self.net(input_ids=input_ids, attention_mask=attention_mask,
                                token_type_ids=token_type_ids)[0]

        example = torch.ones((2, 9), dtype=torch.int64)
        names = ["input_ids", "attention_mask", "token_type_ids"]
        axes = {n: {0: "texts", 1: "tokens"} for n in [*names, "hidden"]}
        part = path.with_suffix(".part")
        torch.onnx.export(Hidden(), (example,) * 3, str(part), input_names=names,
                          output_names=["hidden"], dynamic_axes=axes, opset_version=17, dynamo=False)
        part.rename(path)
    return path


def onnx_inputs(ids):
    ids = np.ascontiguousarray(ids, np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


class OnnxRuntime(Worker):
    def open(self):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        path = onnx_file(self.model, self.work)
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return f"onnxruntime {ort.__version__}"

    def run(self, ids):
        return normalized(self.session.run(["hidden"], onnx_inputs(ids))[0].mean(1))


class OpenVino(Worker):
    def open(self):
        import openvino as ov
        core = ov.Core()
        net = core.read_model(str(onnx_file(self.model, self.work)))
        self.net = core.compile_model(net, "CPU", {
            "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(self.threads),
            "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"})
        self.request = self.net.create_infer_request()
        return f"openvino {ov.__version__.split('-')[0]}"

    def run(self, ids):
        out = self.request.infer(onnx_inputs(ids))
        return normalized(next(iter(out.values())).mean(1))


class CTranslate2(Worker):
    def open(self):
        import ctranslate2
        path = self.work / (self.model.name + ".ct2")
        if not path.exists():
            ctranslate2.converters.TransformersConverter(str(self.model)).convert(
                str(path), quantization="float32")
        self.net = ctranslate2.Encoder(str(path), device="cpu", inter_threads=1,
                                       intra_threads=self.threads, compute_type="float32")
        return f"ctranslate2 {ctranslate2.__version__}"

    def run(self, ids):
        out = self.net.forward_batch(np.asarray(ids).tolist())
        return normalized(np.array(out.last_hidden_state).mean(1))


class LlamaCpp(Worker):
    """libllama built from the sources inside the llama-cpp-python sdist, micro-batch 512."""

    UBATCH = 512

    def open(self):
        import importlib
        import types
        source = self.work / "llama"
        lib_dir = self.work / "llama-build" / "bin"
        if not list(lib_dir.glob("libllama.so*")):
            raise RuntimeError("not built; run bench/peers.py --install")
        gguf = self.convert(source / "vendor" / "llama.cpp")
        os.environ["LLAMA_CPP_LIB_PATH"] = str(lib_dir)
        package = types.ModuleType("llama_cpp")  # its low-level half needs no other package
        package.__path__ = [str(source / "llama_cpp")]
        sys.modules["llama_cpp"] = package
        self.ll = ll = importlib.import_module("llama_cpp.llama_cpp")
        ll.llama_backend_init()
        self.net = ll.llama_model_load_from_file(str(gguf).encode(), ll.llama_model_default_params())
        params = ll.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = self.UBATCH * 4, self.UBATCH, self.UBATCH
        params.n_seq_max, params.embeddings, params.kv_unified = 64, True, True
        params.pooling_type = ll.LLAMA_POOLING_TYPE_MEAN
        params.n_threads = params.n_threads_batch = self.threads
        self.ctx = ll.llama_init_from_model(self.net, params)
        if not self.ctx:
            raise RuntimeError("llama_init_from_model failed")
        self.dim = self.config.get("n_embd") or self.config["hidden_size"]
        self.batch, self.token, self.position, self.text = self.make_batch()
        version = next(line.split('"')[1] for line in (source / "llama_cpp" / "__init__.py")
                       .read_text().splitlines() if "__version__" in line)
        return f"llama.cpp of llama-cpp-python {version}"

    def make_batch(self):
        """A llama_batch over numpy arrays, so that filling it costs nothing."""
        token, position, text, one = (np.ones(self.UBATCH, np.int32) for _ in range(4))
        rows = (text.ctypes.data + 4 * np.arange(self.UBATCH)).astype(np.uintp)
        output = np.ones(self.UBATCH, np.int8)
        self.kept = token, position, text, one, rows, output
        kinds = dict(self.ll.llama_batch._fields_)
        pointer = lambda array, field: ctypes.cast(array.ctypes.data, kinds[field])
        batch = self.ll.llama_batch(0, pointer(token, "token"), None, pointer(position, "pos"),
                                    pointer(one, "n_seq_id"), pointer(rows, "seq_id"),
                                    pointer(output, "logits"))
        return batch, token, position, text

    def convert(self, source):
        path = self.work / (self.model.name + ".f32.gguf")
        if not path.exists():
            part = path.with_suffix(".part")
            subprocess.run([sys.executable, str(source / "convert_hf_to_gguf.py"), str(self.model),
                            "--outtype", "f32", "--outfile", str(part)], check=True, stdout=sys.stderr)
            self.repair(source, part)
            part.rename(path)
        return path

    def repair(self, source, path):
        """Beside a current transformers the converter writes its defaults, rotary base 1000 and
        epsilon 1e-12, in place of the checkpoint's values: put those back."""
        sys.path.insert(0, str(source / "gguf-py"))
        import gguf
        reader = gguf.GGUFReader(str(path), "r+")
        right = {"layer_norm_epsilon": self.config.get("layer_norm_epsilon")
                 or self.config.get("layer_norm_eps"), "rope.freq_base": self.config.get(
                     "rotary_emb_base")}
        for name, field in reader.fields.items():
            key = name.split(".", 1)[-1]
            if right.get(key.removeprefix("attention.")) is not None:
                value = right[key.removeprefix("attention.")]
                found = float(field.parts[field.data[0]][0])
                if abs(found - value) > 1e-6 * value:
                    print(f"{path.name}: {name} was {found:g}, the checkpoint says {value:g}",
                          file=sys.stderr)
                    field.parts[field.data[0]][0] = value

    def run(self, ids):
        ll, batch = self.ll, self.batch
        ids = np.asarray(ids, np.int32)
        out = np.empty((len(ids), self.dim), np.float32)
        at_once = max(1, self.UBATCH // ids.shape[1])
        for first in range(0, len(ids), at_once):
            part = ids[first:first + at_once]
            batch.n_tokens = part.size
            self.token[:part.size] = part.reshape(-1)
            self.position[:part.size] = np.tile(np.arange(part.shape[1]), len(part))
            self.text[:part.size] = np.repeat(np.arange(len(part)), part.shape[1])
            if ll.llama_encode(self.ctx, batch) != 0:
                raise RuntimeError("llama_encode failed")
            for text in range(len(part)):
                row = ll.llama_get_embeddings_seq(self.ctx, text)
                out[first + text] = np.ctypeslib.as_array(row, (self.dim,))
        return normalized(out)


WORKERS = {"embed": Embed, "PyTorch": Torch, "sentence-transformers": SentenceTransformers,
           "ONNX Runtime": OnnxRuntime, "OpenVINO": OpenVino, "CTranslate2": CTranslate2,
           "llama.cpp": LlamaCpp}


def timed(call):
    start = time.monotonic()
    call()
    return time.monotonic() - start


def main():
    name, model, threads, work = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = WORKERS[name](model, int(threads), work)
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            if ask["do"] == "open":
                answer = {"version": worker.open()}
            elif ask["do"] == "limits":
                answer = worker.limits()
            else:
                ids = np.array(ask["ids"])
                if ask["do"] == "run":
                    path = Path(work) / f"{name.replace(' ', '_')}.{os.getpid()}.npy"
                    np.save(path, worker.run(ids))
                    answer = {"vectors": str(path)}
                else:
                    answer = {"us": [1e6 * timed(lambda: worker.run(ids)) for _ in range(ask["reps"])]}
        except Exception as e:  # a missing package, a failed conversion: the row says so
            answer = {"error": f"{type(e).__name__}: {e}".splitlines()[0][:200]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
