#!/usr/bin/env python3
"""The peer of gpu_mixed.c: PyTorch on a GPU, f16, texts sorted by length, padded batches.

    gpu_peer.py MODEL IDS                 IDS: int32 n, lengths [n], ids one after the other
    gpu_peer.py MODEL write:CHECKPOINTS   writes a random BERT base to MODEL, unless it is there, with
                                          the small files of CHECKPOINTS/bert

Says "ready NAME" or why not; then, for each line on stdin, "run" (encode all texts) or "vectors FILE"
(the same, float32 [n, hidden] to FILE), a line "ok".

BERT and XLM-RoBERTa are transformers' own; for nomic_bert, whose code transformers does not have,
what follows the authors' in plain PyTorch: fused QKV, SDPA, one pair of products per expert on its
own tokens.
"""

import ctypes
import json
import os
import shutil
import sys
import time
from array import array
from pathlib import Path


def refuse(why):
    print(" ".join(str(why).split())[:200], flush=True)
    sys.exit(0)


try:
    import torch
    from torch.nn import functional as F
except ImportError as error:
    refuse(f"no PyTorch: {error}")

DEVICE = os.environ.get("GPU_PEER_DEVICE", "cuda")


class PlainNomic:
    """NomicBertModel with or without experts, GELU, as the checkpoint says."""

    name = "plain PyTorch"

    def __init__(self, path, config):
        from safetensors.torch import load_file
        self.w = {name: tensor.to(DEVICE, torch.float16)
                  for name, tensor in load_file(path / "model.safetensors").items()}
        self.heads, self.layers = config["n_head"], config["n_layer"]
        self.eps, self.base = config["layer_norm_epsilon"], config["rotary_emb_base"]
        self.every = config["moe_every_n_layers"]
        self.experts, self.top_k = config["num_experts"], config["moe_top_k"]

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], self.eps)

    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def rotary(self, tokens, dim):
        angle = torch.outer(torch.arange(tokens, device=DEVICE).float(),
                            self.base ** (-torch.arange(0, dim, 2, device=DEVICE).float() / dim))
        angle = torch.cat([angle, angle], -1)
        return angle.cos().half(), angle.sin().half()

    def moe(self, x, name):
        p = F.linear(x, self.w[name + "router.layer.weight"]).float().softmax(-1)
        gates, chosen = p.topk(self.top_k, -1)
        w1 = self.w[name + "experts.mlp.w1"].view(self.experts, -1, x.shape[-1])
        w2 = self.w[name + "experts.mlp.w2"].view(self.experts, -1, x.shape[-1])
        y = torch.zeros_like(x)
        for e in range(self.experts):
            rows, which = torch.where(chosen == e)
            if len(rows):
                out = F.gelu(F.linear(x[rows], w1[e])) @ w2[e]
                y.index_add_(0, rows, out * gates[rows, which, None].to(out.dtype))
        return y + self.w[name + "experts.bias"]

    def __call__(self, ids, mask):
        n, tokens = ids.shape
        x = self.w["embeddings.word_embeddings.weight"][ids.reshape(-1)]
        x = self.norm(x + self.w["embeddings.token_type_embeddings.weight"][0], "emb_ln")
        hd = x.shape[-1] // self.heads
        cos, sin = self.rotary(tokens, hd)
        attend = mask[:, None, None, :].bool()

        def turn(v):
            return v * cos + torch.cat([-v[..., hd // 2:], v[..., :hd // 2]], -1) * sin

        for i in range(self.layers):
            name = f"encoder.layers.{i}."
            q, k, v = self.linear(x, name + "attn.Wqkv").view(n, tokens, 3, self.heads, hd).permute(2, 0, 3, 1, 4)
            a = F.scaled_dot_product_attention(turn(q), turn(k), v, attn_mask=attend)
            x = self.norm(x + self.linear(a.transpose(1, 2).reshape(n * tokens, -1), name + "attn.out_proj"),
                          name + "norm1")
            if self.every and i % self.every == 1:
                m = self.moe(x, name + "mlp.")
            else:
                m = self.linear(F.gelu(self.linear(x, name + "mlp.fc1")), name + "mlp.fc2")
            x = self.norm(x + m, name + "norm2")
        return x.view(n, tokens, -1)


class Transformers:
    def __init__(self, path):
        import transformers
        self.net = transformers.AutoModel.from_pretrained(
            str(path), dtype=torch.float16, attn_implementation="sdpa", local_files_only=True)
        self.net = self.net.to(DEVICE).eval()
        self.name = f"transformers {transformers.__version__}"

    def __call__(self, ids, mask):
        return self.net(input_ids=ids, attention_mask=mask)[0]


def write_bert(path, checkpoints):
    import transformers
    if (path / "model.safetensors").exists():
        return
    small = Path(checkpoints) / "bert"
    torch.manual_seed(1)
    transformers.BertModel(transformers.BertConfig(), add_pooling_layer=False).save_pretrained(str(path))
    for file in small.rglob("*"):
        target = path / file.relative_to(small)
        if file.is_file() and file.name not in ("config.json", "model.safetensors") or file.parent != small:
            target.parent.mkdir(exist_ok=True)
            if file.is_file():
                shutil.copy(file, target)
    pooling = path / "1_Pooling" / "config.json"
    if pooling.exists():
        config = json.loads(pooling.read_text())
        config["word_embedding_dimension"] = 768
        pooling.write_text(json.dumps(config))
    limits = path / "sentence_bert_config.json"
    if limits.exists():
        limits.write_text(json.dumps({**json.loads(limits.read_text()), "max_seq_length": 512}))


def read_ids(path):
    data = array("i")
    data.frombytes(Path(path).read_bytes())
    n, at, texts = data[0], 1 + data[0], []
    for length in data[1:1 + n]:
        texts.append(torch.tensor(data[at:at + length], dtype=torch.int64))
        at += length
    return texts


def encode(net, texts, batch):
    """Unit vectors in the order of the texts, on the host, as sentence-transformers returns them."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    out = [None] * len(texts)
    for start in range(0, len(order), batch):
        part = order[start:start + batch]
        ids = torch.nn.utils.rnn.pad_sequence([texts[i] for i in part], batch_first=True, padding_value=-1)
        mask = (ids >= 0).to(torch.int64).to(DEVICE)
        x = net(ids.clamp(min=0).to(DEVICE), mask)
        pooled = (x * mask[..., None]).sum(1, dtype=torch.float32) / mask.sum(1, keepdim=True)
        for i, vector in zip(part, F.normalize(pooled, dim=-1).cpu()):
            out[i] = vector
    return torch.stack(out)


def main():
    path, what = Path(sys.argv[1]), sys.argv[2]
    if DEVICE == "cuda" and not torch.cuda.is_available():
        refuse(f"PyTorch {torch.__version__} has no CUDA device")
    torch.set_grad_enabled(False)
    try:
        if what.startswith("write:"):
            write_bert(path, what[len("write:"):])
            print("ready written", flush=True)
            return
        config = json.loads((path / "config.json").read_text())
        net = PlainNomic(path, config) if config["model_type"] == "nomic_bert" else Transformers(path)
        texts = read_ids(what)
        best = None
        for batch in (32, 128, 512):
            encode(net, texts, batch)
            start = time.perf_counter()
            encode(net, texts, batch)
            took = time.perf_counter() - start
            if best is None or took < best[0]:
                best = took, batch
    except Exception as error:  # whatever a library of this machine does not do
        refuse(f"{type(error).__name__}: {error}")
    print(f"ready {net.name}, torch {torch.__version__}, batches of {best[1]}", flush=True)
    for line in sys.stdin:
        vectors = encode(net, texts, best[1])
        if line.startswith("vectors "):
            vectors = vectors.to(torch.float32).contiguous()
            data = ctypes.string_at(vectors.data_ptr(), 4 * vectors.numel())
            Path(line.split(" ", 1)[1].strip()).write_bytes(data)
        print("ok", flush=True)


main()
