"""Float64 reference of every architecture that embed reads: plain numpy, one text at a time.

It reads the same checkpoint directories (both generations of files) and is written to be obviously
right, not fast. Sources:
  nomic_bert   Nomic Embed, arXiv:2402.01613; Nomic Embed v2, arXiv:2502.07972; the authors'
               contrastors (models/huggingface/modeling_hf_nomic_bert.py, layers/moe.py);
               transformers 5 NomicBertModel
  bert         Devlin et al. 2018, arXiv:1810.04805; transformers BertModel
  xlm-roberta  Conneau et al. 2019, arXiv:1911.02116; transformers XLMRobertaModel
  pooling ...  sentence-transformers 6 Pooling, Dense, Normalize
"""

import json
import math
import struct
from pathlib import Path

import numpy as np
from scipy.special import erf
from tokenizers import Tokenizer

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}
PREFIXES = ("0.auto_model.", "model.", "bert.", "roberta.", "nomic_bert.")


def widen(array, dtype):
    """Any stored dtype to float64, exactly."""
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return array.astype(np.float64)


def read_safetensors(path):
    """name -> (dtype, memory-mapped array)."""
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
    tensors = {}
    for name, t in header.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            tensors[name] = (t["dtype"], np.memmap(path, DTYPES[t["dtype"]], "r", 8 + size + begin,
                                                   tuple(t["shape"])))
    return tensors


def read_json(path, default=None):
    return json.loads(path.read_text()) if path.exists() else default


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def relu(x):
    return np.maximum(x, 0)


def identity(x):
    return x


# config value -> (activation, gated). In nomic's gated MLP fc12 is the gate and fc11 the other.
ACTIVATIONS = {
    "gelu": (gelu, False), "gelu_new": (gelu_tanh, False), "gelu_pytorch_tanh": (gelu_tanh, False),
    "relu": (relu, False), "silu": (silu, False), "swiglu": (silu, True), "geglu": (gelu, True),
    "glu": (sigmoid, True),
}
DENSE_ACTIVATIONS = {
    "Tanh": np.tanh, "Identity": identity, "ReLU": relu, "GELU": gelu, "SiLU": silu,
    "Sigmoid": sigmoid,
}


def layer_norm(x, gamma, beta, eps):
    """Ba et al. 2016, eq. 3: biased variance, eps inside the root."""
    centred = x - x.mean(-1, keepdims=True)
    var = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(var + eps) * gamma + beta


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rotate(x, positions, base, rotary_dim):
    """Su et al. 2021, non-interleaved: dimension i pairs with i + rotary_dim / 2. x [T, heads, hd]"""
    half = rotary_dim // 2
    angle = positions[:, None, None] * base ** (-np.arange(half) * 2.0 / rotary_dim)
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = x[..., :half], x[..., half:rotary_dim]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[..., rotary_dim:]], -1)


def top_k(p, k):
    """The k largest, descending, ties (equal to within float64 rounding) to the lower index."""
    return np.argsort(-np.round(p, 13), axis=-1, kind="stable")[:, :k]


class Model:
    """config: dict of plain facts; tensors: name without prefix -> float64 on use."""

    def __init__(self, path, layers=None):
        self.path = Path(path)
        self.raw = read_json(self.path / "config.json")
        self.config = self.read_config(self.raw)
        if layers is not None:
            self.config["layers"] = layers
        self.tensors = self.read_tensors()
        self.replaced = {}  # name -> float64 array used instead (mutations.py)
        self.read_pipeline()

    # ------------------------------------------------------------------ files

    @staticmethod
    def read_config(raw):
        arch = raw["model_type"]
        c = {"arch": arch, "moe_every": 0, "rotary_dim": 0}
        if arch == "nomic_bert" and "n_embd" in raw:  # the authors' own class
            c["hidden"], c["layers"], c["heads"] = raw["n_embd"], raw["n_layer"], raw["n_head"]
            c["eps"], c["max_positions"] = raw["layer_norm_epsilon"], raw["n_positions"]
            c["act"], c["gated"] = ACTIVATIONS[raw["activation_function"]]
            c["base"] = float(raw["rotary_emb_base"])
            head_dim = c["hidden"] // c["heads"]
            c["rotary_dim"] = int(head_dim * raw["rotary_emb_fraction"])
            c["moe_every"] = raw.get("moe_every_n_layers", 0)
            if c["moe_every"]:
                c["experts"], c["top_k"] = raw["num_experts"], raw["moe_top_k"]
                c["renormalize"] = raw["moe_normalize_expert_weights"]
        else:
            c["hidden"], c["layers"] = raw["hidden_size"], raw["num_hidden_layers"]
            c["heads"], c["eps"] = raw["num_attention_heads"], raw["layer_norm_eps"]
            c["act"], c["gated"] = ACTIVATIONS[raw["hidden_act"]]
            c["max_positions"] = raw["max_position_embeddings"]
            if arch == "nomic_bert":
                c["gated"] = True
                c["base"] = float(raw["rope_parameters"]["rope_theta"])
                c["rotary_dim"] = c["hidden"] // c["heads"]
            elif arch == "xlm-roberta":
                c["max_positions"] -= raw["pad_token_id"] + 1
        return c

    def read_tensors(self):
        index = self.path / "model.safetensors.index.json"
        files = sorted(set(read_json(index)["weight_map"].values())) if index.exists() else [
            "model.safetensors"]
        tensors = {}
        for file in files:
            for name, tensor in read_safetensors(self.path / file).items():
                cut = True
                while cut:
                    cut = next((p for p in PREFIXES if name.startswith(p)), "")
                    name = name[len(cut):]
                tensors[name] = tensor
        return tensors

    def read_pipeline(self):
        read = lambda *parts: read_json(self.path.joinpath(*parts), {})
        self.normalize, self.dense, self.modes, self.include_prompt = False, [], ["mean"], True
        for module in read_json(self.path / "modules.json", []):
            kind = module["type"].split(".")[-1]
            config = read(module["path"], "config.json") if module["path"] else {}
            if kind == "Normalize":
                self.normalize = True
            elif kind == "Dense":
                weights = read_safetensors(self.path / module["path"] / "model.safetensors")
                self.dense.append((
                    widen(weights["linear.weight"][1], weights["linear.weight"][0]),
                    widen(weights["linear.bias"][1], weights["linear.bias"][0])
                    if config["bias"] else 0.0,
                    DENSE_ACTIVATIONS[config["activation_function"].split(".")[-1]]))
            elif kind == "Pooling":
                modes = config.get("pooling_mode")
                if modes is None:
                    keys = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean",
                            "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
                            "weightedmean_tokens": "weightedmean", "lasttoken": "lasttoken"}
                    modes = [m for k, m in keys.items() if config.get("pooling_mode_" + k)]
                self.modes = [modes] if isinstance(modes, str) else modes
                self.include_prompt = config.get("include_prompt", True)
        settings = read("config_sentence_transformers.json")
        self.prompts = settings.get("prompts", {})
        self.default_prompt = settings.get("default_prompt_name")
        limits = [self.config["max_positions"], read("sentence_bert_config.json").get("max_seq_length"),
                  read("tokenizer_config.json").get("model_max_length")]
        self.max_tokens = int(min(x for x in limits if x))
        self.tokenizer = Tokenizer.from_file(str(self.path / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    # ---------------------------------------------------------------- encoder

    def has(self, name):
        return name in self.tensors

    def w(self, name):
        """The tensor in float64, or 0 for a bias that the checkpoint does not have."""
        if name in self.replaced:
            return self.replaced[name]
        if name.endswith("bias") and name not in self.tensors:
            return 0.0
        dtype, array = self.tensors[name]
        return widen(np.asarray(array), dtype)

    def rows(self, name, ids):
        if name in self.replaced:
            return self.replaced[name][ids]
        dtype, array = self.tensors[name]
        return widen(np.asarray(array[ids]), dtype)

    def linear(self, x, name):
        return x @ self.w(name + ".weight").T + self.w(name + ".bias")

    def norm(self, x, name):
        return layer_norm(x, self.w(name + ".weight"), self.w(name + ".bias"), self.config["eps"])

    def positions(self, ids):
        """Rows of the position table. xlm-roberta counts from pad + 1 and does not count pad tokens
        (transformers create_position_ids_from_input_ids)."""
        if self.config["arch"] != "xlm-roberta":
            return np.arange(len(ids))
        real = ids != self.raw["pad_token_id"]
        return np.cumsum(real) * real + self.raw["pad_token_id"]

    def embed(self, ids):
        x = self.rows("embeddings.word_embeddings.weight", ids)
        if self.has("embeddings.position_embeddings.weight"):
            positions = self.positions(ids)
            x = x + self.rows("embeddings.position_embeddings.weight", positions)
        if self.has("embeddings.token_type_embeddings.weight"):
            x = x + self.rows("embeddings.token_type_embeddings.weight", np.zeros(1, int))
        nomic = self.config["arch"] == "nomic_bert"
        return self.norm(x, "emb_ln" if nomic else "embeddings.LayerNorm")

    def attention(self, q, k, v):
        c, tokens = self.config, len(q)
        q, k, v = (a.reshape(tokens, c["heads"], -1) for a in (q, k, v))
        if c["rotary_dim"]:
            positions = np.arange(tokens, dtype=np.float64)
            q = rotate(q, positions, c["base"], c["rotary_dim"])
            k = rotate(k, positions, c["base"], c["rotary_dim"])
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[-1])
        return np.einsum("hij,jhd->ihd", softmax(scores), v).reshape(tokens, -1)

    def moe(self, x, prefix, record):
        """Softmax over all experts, the top k of the probabilities, weighted sum of their outputs,
        then one bias for all (contrastors layers/moe.py)."""
        c = self.config
        p = softmax(self.linear(x, prefix + "router.layer"))
        chosen = top_k(p, c["top_k"])
        gate = np.take_along_axis(p, chosen, -1)
        if c["renormalize"]:
            gate = gate / gate.sum(-1, keepdims=True)
        w1, w2 = (self.w(prefix + "experts.mlp." + n).reshape(c["experts"], -1, c["hidden"])
                  for n in ("w1", "w2"))
        y = np.zeros_like(x)
        for e in range(c["experts"]):
            t, j = np.nonzero(chosen == e)
            y[t] += gate[t, j][:, None] * (c["act"](x[t] @ w1[e].T) @ w2[e])
        if record is not None:
            record.append({"p": p, "chosen": chosen, "gate": gate})
        return y + self.w(prefix + "experts.bias")

    def mlp(self, x, prefix):
        if self.config["gated"]:
            gate = self.config["act"](self.linear(x, prefix + "fc12"))
            return self.linear(self.linear(x, prefix + "fc11") * gate, prefix + "fc2")
        return self.linear(self.config["act"](self.linear(x, prefix + "fc1")), prefix + "fc2")

    def nomic_layer(self, x, i, record):
        name, every = f"encoder.layers.{i}.", self.config["moe_every"]
        q, k, v = np.split(self.linear(x, name + "attn.Wqkv"), 3, -1)
        a = self.linear(self.attention(q, k, v), name + "attn.out_proj")
        x = self.norm(x + a, name + "norm1")
        is_moe = every > 0 and i % every == 1
        m = self.moe(x, name + "mlp.", record) if is_moe else self.mlp(x, name + "mlp.")
        return self.norm(x + m, name + "norm2")

    def bert_layer(self, x, i):
        name = f"encoder.layer.{i}."
        q, k, v = (self.linear(x, name + "attention.self." + n) for n in ("query", "key", "value"))
        a = self.linear(self.attention(q, k, v), name + "attention.output.dense")
        x = self.norm(x + a, name + "attention.output.LayerNorm")
        m = self.config["act"](self.linear(x, name + "intermediate.dense"))
        return self.norm(x + self.linear(m, name + "output.dense"), name + "output.LayerNorm")

    def hidden(self, ids, record=None):
        """[T, hidden] after the last layer; record, a list, gets one dict per MoE layer."""
        x = self.embed(np.asarray(ids))
        for i in range(self.config["layers"]):
            if self.config["arch"] == "nomic_bert":
                x = self.nomic_layer(x, i, record)
            else:
                x = self.bert_layer(x, i)
        return x

    # ------------------------------------------------------- around the encoder

    def pool(self, x, skip=0):
        """skip: leading tokens left out (include_prompt false). As sentence-transformers 6: the
        weights of weightedmean keep their positions, cls is the first token that is left."""
        positions = np.arange(1.0, len(x) + 1)[skip:, None]
        x = x[skip:]
        parts = {
            "cls": lambda: x[0],
            "max": lambda: x.max(0),
            "mean": lambda: x.mean(0),
            "mean_sqrt_len_tokens": lambda: x.sum(0) / math.sqrt(len(x)),
            "weightedmean": lambda: (x * positions).sum(0) / positions.sum(),
            "lasttoken": lambda: x[-1],
        }
        return np.concatenate([parts[m]() for m in self.modes])

    def finish(self, v, dim=0, normalize=None):
        for weight, bias, act in self.dense:
            v = act(weight @ v + bias)
        if dim:
            v = v[:dim]
        if self.normalize if normalize is None else normalize:
            v = v / max(np.linalg.norm(v), 1e-12)
        return v

    def tokenize(self, text):
        return self.tokenizer.encode(text).ids

    def encode(self, text, prompt="", dim=0, normalize=None, max_tokens=0, record=None):
        """vector, ids, truncated"""
        limit = max_tokens or self.max_tokens
        full = self.tokenize(prompt + text)
        self.tokenizer.enable_truncation(limit)
        ids = self.tokenize(prompt + text)
        skip = 0
        if prompt and not self.include_prompt:
            skip = len(self.tokenize(prompt)) - 1  # all but the closing special token
        self.tokenizer.no_truncation()
        v = self.pool(self.hidden(ids, record), skip)
        return self.finish(v, dim, normalize), ids, len(full) > len(ids)
