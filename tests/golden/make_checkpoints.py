"""Write tests/golden: tiny random checkpoints in the on-disk layout of real ones, and what the
float64 reference (reference.py) says of them. See README.md.

    python make_checkpoints.py                       all checkpoints and expected files
    python make_checkpoints.py NAME ...              only these
    python make_checkpoints.py --tokenizers W X      cut the two small tokenizers from a WordPiece
                                                     and an XLM-R tokenizer.json first
    python make_checkpoints.py --model DIR NAME      expected/NAME.json for a real checkpoint
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from reference import Model

HERE = Path(__file__).resolve().parent
LIMIT_MARGIN = 2e-5  # least distance between the last chosen and the first rejected expert

PARAGRAPH = (
    "The boundary layer is the thin region next to a surface in which the speed of the flow changes "
    "from zero to that of the free stream. Its thickness grows along the plate, and where pressure "
    "rises it may leave the surface; then lift falls and drag grows. ")
TEXTS = [
    "", "a", ".", "wing", "Hello, world!", "how tall is the Eiffel tower?", "What is Deep Learning?",
    "  leading and trailing   spaces  ", "\t\n ", "3.14159 = pi, 2026-11-23", "UPPER lower MiXeD",
    "naïve café, Ångström, ﬁne", "Grüße aus München und Köln", "Привет, как дела?", "今日は良い天気です。",
    "这是一个关于机器学习的句子", "مرحبا بالعالم", "नमस्ते दुनिया", "안녕하세요 세계", "สวัสดีชาวโลก", "🙂🚀 emoji 👩‍🔬",
    "[SEP] inside <s> special </s> tokens [MASK]", "a <pad> b <pad> c",
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "The cat sat on the mat.", "The dog lay on the rug.", PARAGRAPH, PARAGRAPH * 2, PARAGRAPH * 12,
]


# --------------------------------------------------------------------------------- tokenizers

def cut_wordpiece(source, target):
    """Keep the special tokens, all single characters of TEXTS and the pieces that TEXTS use."""
    tok = json.loads(Path(source).read_text())
    full = Tokenizer.from_file(str(source))
    full.no_truncation()
    full.no_padding()
    vocab = tok["model"]["vocab"]
    keep = [t["content"] for t in tok["added_tokens"]]
    used = {t for text in TEXTS for t in full.encode(text).tokens}
    chars = {c for t in used for c in t.removeprefix("##")}
    used |= {c for c in chars} | {"##" + c for c in chars}
    used -= set(sorted(u for u in used if len(u) > 9)[::2])  # so that long words split
    keep += [t for t in sorted(vocab, key=vocab.get) if t in used and t not in keep]
    tok["model"]["vocab"] = {t: i for i, t in enumerate(keep)}
    ids = {t: i for i, t in enumerate(keep)}
    for t in tok["added_tokens"]:
        t["id"] = ids[t["content"]]
    for name, t in tok["post_processor"]["special_tokens"].items():
        t["ids"] = [ids[name]]
    tok["truncation"] = tok["padding"] = None
    target.write_text(json.dumps(tok, ensure_ascii=False, indent=0) + "\n")


def cut_unigram(source, target, collapse):
    """Keep the first pieces and those that TEXTS use. collapse: the other form in circulation,
    Replace and Metaspace alone, instead of WhitespaceSplit and Metaspace."""
    tok = json.loads(Path(source).read_text())
    full = Tokenizer.from_file(str(source))
    used = {t for text in TEXTS for t in full.encode(text).tokens}
    used |= {c for t in used for c in t if not "一" <= c <= "鿿"}
    used -= set(sorted(u for u in used if len(u) > 6)[::2])
    specials = {t["content"]: t for t in tok["added_tokens"]}
    pieces = [p for i, p in enumerate(tok["model"]["vocab"])
              if i < 40 or p[0] in used or p[0] == "<mask>"]
    tok["model"]["vocab"] = pieces
    for i, (piece, _) in enumerate(pieces):
        if piece in specials:
            specials[piece]["id"] = i
    tok["normalizer"] = None
    if collapse:
        tok["normalizer"] = {"type": "Sequence", "normalizers": [
            {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}
        tok["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always",
                                "split": True}
    target.write_text(json.dumps(tok, ensure_ascii=False, indent=0) + "\n")


def vocab_size(name):
    return Tokenizer.from_file(str(HERE / "tokenizers" / f"{name}.json")).get_vocab_size()


# ------------------------------------------------------------------------------------- tensors

def stored(x, dtype):
    """float64 -> bytes of the dtype, round to nearest even."""
    x = x.astype(np.float32)
    if dtype == "F16":
        x = x.astype(np.float16)
    elif dtype == "BF16":
        bits = x.view(np.uint32).astype(np.uint64)
        x = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.ascontiguousarray(x).tobytes()


def write_safetensors(path, tensors, dtype):
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        x = tensors[name]
        kind = "I64" if x.dtype == np.int64 else dtype
        blob = x.tobytes() if kind == "I64" else stored(x, kind)
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [at, at + len(blob)]}
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))


class Weights:
    """Random tensors of the scale that trained encoders have: small embeddings, attention scores
    and router logits of a few units, clearly non-zero biases, layer norms off (1, 0)."""

    def __init__(self, seed):
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.t = {}

    def normal(self, name, shape, std, mean=0.0):
        self.t[name] = mean + std * self.rng.standard_normal(shape)

    def linear(self, name, out, inn, gain, bias):
        self.normal(name + ".weight", (out, inn), gain / np.sqrt(inn))
        if bias:
            self.normal(name + ".bias", out, 0.25)

    def norm(self, name, size):
        self.normal(name + ".weight", size, 0.2, 1.0)
        self.normal(name + ".bias", size, 0.2)


def nomic_tensors(c, seed, ties=None):
    w, h = Weights(seed), c["hidden"]
    w.normal("embeddings.word_embeddings.weight", (c["vocab"], h), 0.05)
    if c["type_vocab"]:
        w.normal("embeddings.token_type_embeddings.weight", (c["type_vocab"], h), 0.03)
    w.norm("emb_ln", h)
    for i in range(c["layers"]):
        p = f"encoder.layers.{i}."
        w.linear(p + "attn.Wqkv", 3 * h, h, 1.4, c["qkv_bias"])
        w.linear(p + "attn.out_proj", h, h, 0.9, c["qkv_bias"])
        if c.get("moe_every") and i % c["moe_every"] == 1:
            w.linear(p + "mlp.router.layer", c["experts"], h, 1.6, False)
            for a, b in ties or []:
                w.t[p + "mlp.router.layer.weight"][b] = w.t[p + "mlp.router.layer.weight"][a]
            rows = c["experts"] * c["inner"]
            w.normal(p + "mlp.experts.mlp.w1", (rows, h), 1.3 / np.sqrt(h))
            w.normal(p + "mlp.experts.mlp.w2", (rows, h), 1.6 / np.sqrt(c["inner"]))
            w.normal(p + "mlp.experts.bias", h, 0.25)
        else:
            for fc in ("fc11", "fc12") if c["gated"] else ("fc1",):
                w.linear(p + "mlp." + fc, c["inner"], h, 1.3, c["fc1_bias"])
            w.linear(p + "mlp.fc2", h, c["inner"], 1.2, c["fc2_bias"])
        w.norm(p + "norm1", h)
        w.norm(p + "norm2", h)
    return w.t


def bert_tensors(c, seed):
    w, h = Weights(seed), c["hidden"]
    w.normal("embeddings.word_embeddings.weight", (c["vocab"], h), 0.05)
    w.normal("embeddings.position_embeddings.weight", (c["positions"], h), 0.03)
    w.normal("embeddings.token_type_embeddings.weight", (c["type_vocab"], h), 0.03)
    w.norm("embeddings.LayerNorm", h)
    for i in range(c["layers"]):
        p = f"encoder.layer.{i}."
        for n in ("query", "key", "value"):
            w.linear(p + "attention.self." + n, h, h, 1.3, True)
        w.linear(p + "attention.output.dense", h, h, 0.9, True)
        w.norm(p + "attention.output.LayerNorm", h)
        w.linear(p + "intermediate.dense", c["inner"], h, 1.3, True)
        w.linear(p + "output.dense", h, c["inner"], 1.2, True)
        w.norm(p + "output.LayerNorm", h)
    return w.t


# ----------------------------------------------------------------------------------- JSON files

def nomic_config(c):
    """config.json of nomic-embed-text-v1.5 and v2-moe: the authors' class on top of GPT2Config."""
    config = {
        "activation_function": c["act"], "architectures": ["NomicBertModel"], "attn_pdrop": 0.0,
        "bos_token_id": None, "causal": False, "dense_seq_output": True, "embd_pdrop": 0.0,
        "eos_token_id": None, "fused_bias_fc": True, "fused_dropout_add_ln": True,
        "initializer_range": 0.02, "layer_norm_epsilon": c["eps"], "max_trained_positions": 2048,
        "mlp_fc1_bias": c["fc1_bias"], "mlp_fc2_bias": c["fc2_bias"], "model_type": "nomic_bert",
        "n_embd": c["hidden"], "n_head": c["heads"], "n_inner": c["inner"], "n_layer": c["layers"],
        "n_positions": 2048, "pad_vocab_size_multiple": 64, "parallel_block": False,
        "parallel_block_tied_norm": False, "prenorm": False, "qkv_proj_bias": c["qkv_bias"],
        "reorder_and_upcast_attn": False, "resid_pdrop": 0.0, "rotary_emb_base": c["base"],
        "rotary_emb_fraction": c.get("fraction", 1.0), "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None, "rotary_scaling_factor": None,
        "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True,
        "summary_activation": None, "summary_first_dropout": 0.0,
        "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
        "torch_dtype": "float32", "transformers_version": "4.44.2",
        "type_vocab_size": c["type_vocab"], "use_cache": True, "use_flash_attn": True,
        "use_rms_norm": False, "use_xentropy": True, "vocab_size": c["vocab"],
    }
    if c.get("moe_every"):
        config |= {
            "add_pooling_layer": False, "expert_choice_router": False, "ffn_div": 1,
            "moe_every_n_layers": c["moe_every"], "moe_impl": "megablocks",
            "moe_normalize_expert_weights": c["renormalize"], "moe_resid_pdrop": 0.0,
            "moe_top_k": c["top_k"], "num_experts": c["experts"], "num_shared_experts": 0,
            "pad_token_id": 1, "router_aux_loss_coef": 0.1, "use_rms_norm": None,
        }
    return dict(sorted(config.items()))


def native_config(c):
    """config.json as transformers 5 writes it."""
    config = {
        "architectures": [{"nomic_bert": "NomicBertModel", "bert": "BertModel",
                           "xlm-roberta": "XLMRobertaModel"}[c["arch"]]],
        "attention_probs_dropout_prob": 0.0, "bos_token_id": None, "classifier_dropout": None,
        "dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[c["dtype"]],
        "eos_token_id": None, "hidden_act": c["act"], "hidden_dropout_prob": 0.0,
        "hidden_size": c["hidden"], "initializer_range": 0.02, "intermediate_size": c["inner"],
        "layer_norm_eps": c["eps"], "max_position_embeddings": c["positions"],
        "model_type": c["arch"], "num_attention_heads": c["heads"],
        "num_hidden_layers": c["layers"], "pad_token_id": c["pad"],
        "transformers_version": "5.23.0", "type_vocab_size": c["type_vocab"],
        "vocab_size": c["vocab"],
    }
    if c["arch"] == "nomic_bert":
        config["head_dim"] = c["hidden"] // c["heads"]
        config["rope_parameters"] = {"rope_theta": c["base"], "rope_type": "default"}
    else:
        config |= {"add_cross_attention": False, "is_decoder": False, "tie_word_embeddings": True,
                   "use_cache": False}
    return dict(sorted(config.items()))


def bert_config(c):
    """config.json as transformers 4 wrote it."""
    config = native_config(c)
    for key in ("dtype", "add_cross_attention", "is_decoder", "tie_word_embeddings", "bos_token_id",
                "eos_token_id"):
        config.pop(key)
    config |= {"position_embedding_type": "absolute", "transformers_version": "4.8.2",
               "gradient_checkpointing": False, "use_cache": True}
    return dict(sorted(config.items()))


OLD = "sentence_transformers.models."
NEW = {"Transformer": "sentence_transformers.base.modules.transformer.Transformer",
       "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
       "Dense": "sentence_transformers.base.modules.dense.Dense",
       "Normalize": "sentence_transformers.base.modules.normalize.Normalize"}
OLD_MODES = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens",
             "mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "weightedmean": "weightedmean_tokens",
             "lasttoken": "lasttoken"}


def write_json(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_pipeline(path, c, seed):
    """Everything around the encoder, in the files of sentence-transformers 5 or 6."""
    new = c["files"] == 6
    modes = c["modes"]
    modules = [("Transformer", "")]
    width = c["hidden"] * len(modes)
    if new:
        pooling = {"embedding_dimension": c["hidden"],
                   "pooling_mode": modes[0] if len(modes) == 1 else modes,
                   "include_prompt": c.get("include_prompt", True)}
    else:
        pooling = {"word_embedding_dimension": c["hidden"]}
        pooling |= {"pooling_mode_" + key: mode in modes for mode, key in OLD_MODES.items()}
        if "include_prompt" in c:
            pooling["include_prompt"] = c["include_prompt"]
    modules.append(("Pooling", "1_Pooling"))
    write_json(path / "1_Pooling" / "config.json", pooling)
    for out, bias, act in c.get("dense", []):
        name = f"{len(modules)}_Dense"
        modules.append(("Dense", name))
        config = {"in_features": width, "out_features": out, "bias": bias,
                  "activation_function": act}
        if new:
            config |= {"module_input_name": "sentence_embedding",
                       "module_output_name": "sentence_embedding"}
        write_json(path / name / "config.json", config)
        w = Weights(seed + 1000)
        w.linear("linear", out, width, 0.9, bias)
        write_safetensors(path / name / "model.safetensors", w.t, "F32")
        width = out
    if c.get("normalize"):
        modules.append(("Normalize", f"{len(modules)}_Normalize"))
        if new:
            write_json(path / modules[-1][1] / "config.json", {})
    write_json(path / "modules.json", [
        {"idx": i, "name": str(i), "path": p, "type": NEW[k] if new else OLD + k}
        for i, (k, p) in enumerate(modules)])
    settings = {"__version__": {"sentence_transformers": "6.2.0" if new else "2.4.0",
                                "transformers": "5.23.0" if new else "4.37.2",
                                "pytorch": "2.15.0" if new else "2.1.0+cu121"}}
    if new:
        settings |= {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"}
    if "prompts" in c:
        settings |= {"prompts": c["prompts"], "default_prompt_name": c.get("default_prompt")}
    write_json(path / "config_sentence_transformers.json", settings)
    if new:
        write_json(path / "sentence_bert_config.json", {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward",
                                         "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings"})
    else:
        write_json(path / "sentence_bert_config.json",
                   {"max_seq_length": c["limit"], "do_lower_case": False})
    unigram = c["tokenizer"].startswith("unigram")
    write_json(path / "tokenizer_config.json", {
        "cls_token": "<s>" if unigram else "[CLS]", "sep_token": "</s>" if unigram else "[SEP]",
        "pad_token": "<pad>" if unigram else "[PAD]", "mask_token": "<mask>" if unigram else "[MASK]",
        "unk_token": "<unk>" if unigram else "[UNK]",
        "model_max_length": c["limit"] if new else 512,
        "tokenizer_class": "XLMRobertaTokenizer" if unigram else "BertTokenizer"})
    os.symlink(f"../../tokenizers/{c['tokenizer']}.json", path / "tokenizer.json")


def write_checkpoint(name, c, seed):
    path = HERE / "checkpoints" / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    step = 64 if c["arch"] == "nomic_bert" and c["files"] == 5 else 8
    c["vocab"] = -(-vocab_size(c["tokenizer"]) // step) * step  # padded, as nomic's are
    if c["arch"] == "nomic_bert":
        tensors = nomic_tensors(c, seed, c.get("ties"))
        config = native_config(c) if c["files"] == 6 else nomic_config(c)
    else:
        tensors = bert_tensors(c, seed)
        config = native_config(c) if c["files"] == 6 else bert_config(c)
    tensors = {c.get("prefix", "") + k: v for k, v in tensors.items()}
    for extra, shape in c.get("extra", {}).items():  # tensors that the encoder has no use for
        tensors[extra] = (np.arange(shape[-1], dtype=np.int64).reshape(shape)
                          if extra.endswith("position_ids") else np.full(shape, 7.0))
    write_json(path / "config.json", config)
    if c.get("shards"):
        names, n = sorted(tensors), c["shards"]
        index = {"metadata": {"total_size": 0}, "weight_map": {}}
        for i in range(n):
            file = f"model-{i + 1:05d}-of-{n:05d}.safetensors"
            part = {k: tensors[k] for k in names[i::n]}
            write_safetensors(path / file, part, c["dtype"])
            index["weight_map"] |= {k: file for k in part}
        write_json(path / "model.safetensors.index.json", index)
    else:
        write_safetensors(path / "model.safetensors", tensors, c["dtype"])
    write_pipeline(path, c, seed)
    return path


# ------------------------------------------------------------------------------------ expected

def rounded(v):
    return [float(f"{x:.9g}") for x in np.asarray(v).ravel()]


def run_case(model, case, texts):
    """case: role, prefix, dim, max_tokens, normalize (None: as the checkpoint says)."""
    prompts = model.prompts
    prompt = case.get("prefix")
    if prompt is None:
        first = lambda *names: next((prompts[n] for n in names if n in prompts), "")
        prompt = {"none": "", "query": first("query", "search_query"),
                  "document": first("document", "passage", "search_document"),
                  "default": prompts.get(model.default_prompt, "")}[case["role"]]
    out = dict(case) | {"texts": texts, "tokens": [], "truncated": [], "vectors": []}
    records = []
    for i in texts:
        record = []
        v, ids, cut = model.encode(TEXTS[i], prompt, case.get("dim", 0), case.get("normalize"),
                                   case.get("max_tokens", 0), record)
        out["vectors"].append(rounded(v))
        out["tokens"].append(len(ids))
        out["truncated"].append(int(cut))
        records.append(record)
    out["experts"] = expert_stats(model, records)
    return out


def expert_stats(model, records):
    """Per MoE layer over the whole call: tokens per expert, mean gate per expert."""
    c, stats = model.config, []
    moe = [i for i in range(c["layers"]) if c["moe_every"] and i % c["moe_every"] == 1]
    for at, layer in enumerate(moe):
        tokens, gates = np.zeros(c["experts"], int), np.zeros(c["experts"])
        for record in records:
            r = record[at]
            np.add.at(tokens, r["chosen"].ravel(), 1)
            np.add.at(gates, r["chosen"].ravel(), r["gate"].ravel())
        stats.append({"layer": layer, "tokens": tokens.tolist(),
                      "mean_gate": rounded(gates / np.maximum(tokens, 1))})
    return stats


def least_margin(model, ties):
    """Least gap between the last chosen and the best rejected expert over all texts."""
    least = 1.0
    for text in TEXTS:
        record = []
        model.encode(text, record=record)
        for r in record:
            k = r["chosen"].shape[1]
            p = r["p"].copy()
            for a, b in ties or []:  # exact by construction: judge the pair as one
                p[:, b] = np.where(np.isin(r["chosen"], [a, b]).any(1), np.nan, p[:, b])
            last = np.take_along_axis(r["p"], r["chosen"], 1)[:, -1]
            np.put_along_axis(p, r["chosen"], np.nan, 1)
            gap = last - np.nanmax(p, 1)
            least = min(least, gap.min())
    return least


def expected(path, name, texts=None, hidden=()):
    model = Model(path)
    texts = list(range(len(TEXTS))) if texts is None else texts
    few = [i for i in texts if i in (0, 4, 13, 25, 26)]
    cases = [run_case(model, {"role": "none"}, texts)]
    if model.prompts:
        for role in ("query", "document", "default"):
            cases.append(run_case(model, {"role": role}, few))
    cases.append(run_case(model, {"role": "none", "prefix": "query: "}, few))
    cases.append(run_case(model, {"role": "none", "max_tokens": 7}, few))
    width = len(cases[0]["vectors"][0])
    cases.append(run_case(model, {"role": "none", "normalize": not model.normalize}, few))
    cases.append(run_case(model, {"role": "none", "dim": width // 3, "normalize": True}, few))
    out = {"checkpoint": name, "dim": width, "hidden": model.config["hidden"],
           "max_tokens": model.max_tokens, "normalized": int(model.normalize),
           "texts": TEXTS, "ids": [model.tokenize(t) for t in TEXTS], "cases": cases, "states": []}
    for layers in hidden:
        part = Model(path, layers)
        for i in (1, 4):
            ids = model.tokenize(TEXTS[i])
            out["states"].append({"layers": layers, "text": i, "tokens": len(ids),
                                  "values": rounded(part.hidden(ids))})
    write_json_compact(HERE / "expected" / f"{name}.json", out)
    return model


def write_json_compact(path, value):
    """One line per list of numbers, so that a change shows where it is."""
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text.replace("],[", "],\n[").replace("},{", "},\n{") + "\n")


# --------------------------------------------------------------------------------- checkpoints

NOMIC = {"arch": "nomic_bert", "files": 5, "dtype": "F32", "eps": 1e-5, "base": 10000, "limit": 128,
         "act": "gelu", "gated": False, "qkv_bias": True, "fc1_bias": True, "fc2_bias": True,
         "type_vocab": 1, "tokenizer": "unigram", "modes": ["mean"], "normalize": True, "pad": 1}
BERT = {"arch": "bert", "files": 5, "dtype": "F32", "eps": 1e-12, "limit": 96, "act": "gelu",
        "type_vocab": 2, "tokenizer": "wordpiece", "modes": ["mean"], "pad": 0, "positions": 96}
PROMPTS = {"query": "search_query: ", "passage": "search_document: ", "Classification": "classification: "}
TANH, IDENTITY = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"

CHECKPOINTS = {
    # like nomic-embed-text-v2-moe
    "nomic-moe": NOMIC | {"hidden": 36, "heads": 3, "inner": 56, "layers": 4, "moe_every": 2,
                          "experts": 8, "top_k": 2, "renormalize": False, "prompts": PROMPTS},
    # odd sizes, no biases, renormalised top 3 of 5, sharded, whole-pipeline names
    "nomic-moe-odd": NOMIC | {"hidden": 40, "heads": 4, "inner": 52, "layers": 3, "moe_every": 2,
                              "experts": 5, "top_k": 3, "renormalize": True, "dtype": "BF16",
                              "qkv_bias": False, "fc1_bias": False, "fc2_bias": False,
                              "type_vocab": 0, "shards": 2, "prefix": "0.auto_model.",
                              "tokenizer": "unigram-collapse"},
    # two pairs of equal router rows: ties go to the lower expert; experts in layers 1 and 4
    "nomic-moe-ties": NOMIC | {"hidden": 32, "heads": 2, "inner": 60, "layers": 5, "moe_every": 3,
                               "experts": 6, "top_k": 2, "renormalize": False, "dtype": "F16",
                               "ties": [(1, 3), (2, 5)], "modes": ["cls"]},
    # like nomic-embed-text-v1.5, with a limit that reaches far rotary positions
    "nomic-swiglu": NOMIC | {"hidden": 40, "heads": 2, "inner": 256, "layers": 2, "act": "swiglu",
                             "gated": True, "base": 1000, "eps": 1e-12, "qkv_bias": False,
                             "fc1_bias": False, "fc2_bias": False, "type_vocab": 2, "limit": 512,
                             "tokenizer": "wordpiece", "normalize": False,
                             "prompts": {"search_query": "search_query: ",
                                         "search_document": "search_document: "}},
    # the same family as transformers 5 and sentence-transformers 6 write it
    "nomic-native": NOMIC | {"files": 6, "hidden": 36, "heads": 3, "inner": 52, "layers": 3,
                             "act": "silu", "gated": True, "base": 1000.0, "eps": 1e-12,
                             "qkv_bias": False, "fc1_bias": False, "fc2_bias": False, "pad": 0,
                             "type_vocab": 2, "positions": 2048, "tokenizer": "wordpiece",
                             "prompts": {"query": "search_query: ", "document": "search_document: "},
                             "default_prompt": "document"},
    "nomic-geglu": NOMIC | {"hidden": 32, "heads": 2, "inner": 256, "layers": 2, "act": "geglu",
                            "gated": True, "fraction": 0.5, "type_vocab": 0, "dtype": "BF16",
                            "tokenizer": "wordpiece", "modes": ["max"], "normalize": False},
    "nomic-glu": NOMIC | {"hidden": 32, "heads": 4, "inner": 256, "layers": 2, "act": "glu",
                          "gated": True, "dtype": "F16", "tokenizer": "wordpiece",
                          "modes": ["mean_sqrt_len_tokens"], "prefix": "model."},
    "nomic-dense": NOMIC | {"hidden": 30, "heads": 3, "inner": 52, "layers": 3, "eps": 1e-6,
                            "tokenizer": "wordpiece", "modes": ["weightedmean"], "prefix": "bert.",
                            "type_vocab": 2, "normalize": False,
                            "extra": {"cls.predictions.bias": (9,), "bert.pooler.dense.weight": (30, 30)}},
    # like all-MiniLM-L6-v2
    "bert": BERT | {"hidden": 60, "heads": 6, "inner": 52, "layers": 3, "normalize": True,
                    "extra": {"embeddings.position_ids": (1, 96), "pooler.dense.weight": (60, 60),
                              "pooler.dense.bias": (60,)}},
    "bert-modes": BERT | {"files": 6, "hidden": 24, "heads": 3, "inner": 52, "layers": 2,
                          "dtype": "F16", "act": "gelu_new", "prefix": "bert.", "eps": 1e-5,
                          "modes": ["mean", "lasttoken", "cls", "mean_sqrt_len_tokens", "max",
                                    "weightedmean"]},
    # like LaBSE: dense modules after the pooling
    "bert-dense": BERT | {"hidden": 40, "heads": 4, "inner": 52, "layers": 2, "act": "relu",
                          "modes": ["cls"], "normalize": True,
                          "dense": [(33, True, TANH), (27, False, IDENTITY)]},
    # the prompt's tokens are left out of the pooling
    "bert-prompt": BERT | {"files": 6, "hidden": 32, "heads": 4, "inner": 52, "layers": 2,
                           "dtype": "BF16",
                           "modes": ["cls", "mean", "weightedmean", "lasttoken"],
                           "include_prompt": False, "default_prompt": "query",
                           "prompts": {"query": "Represent the question: ", "document": "title: "},
                           "dense": [(45, True, TANH)], "normalize": True},
    # like multilingual-e5
    "xlm-roberta": BERT | {"arch": "xlm-roberta", "hidden": 32, "heads": 4, "inner": 52, "layers": 3,
                           "eps": 1e-5, "pad": 1, "positions": 98, "type_vocab": 1,
                           "tokenizer": "unigram-collapse", "prefix": "roberta.", "normalize": True,
                           "extra": {"lm_head.bias": (9,)}},
    # like BGE-M3's dense output, newer files
    "xlm-roberta-cls": BERT | {"arch": "xlm-roberta", "files": 6, "hidden": 40, "heads": 2,
                               "inner": 52, "layers": 2, "dtype": "BF16", "eps": 1e-5, "pad": 1,
                               "positions": 98, "type_vocab": 1, "tokenizer": "unigram",
                               "modes": ["cls"], "normalize": True, "shards": 3},
}
STATES = {"nomic-moe": (1, 2, 4), "nomic-moe-odd": (1, 2, 3), "nomic-native": (1, 3),
          "bert": (1, 3), "xlm-roberta": (1, 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--tokenizers", nargs=2, metavar=("WORDPIECE", "XLMR"))
    parser.add_argument("--model", nargs=2, metavar=("DIR", "NAME"))
    args = parser.parse_args()
    if args.tokenizers:
        (HERE / "tokenizers").mkdir(exist_ok=True)
        cut_wordpiece(args.tokenizers[0], HERE / "tokenizers" / "wordpiece.json")
        cut_unigram(args.tokenizers[1], HERE / "tokenizers" / "unigram.json", False)
        cut_unigram(args.tokenizers[1], HERE / "tokenizers" / "unigram-collapse.json", True)
    if args.model:
        expected(Path(args.model[0]), args.model[1], [0, 1, 4, 5, 7, 11, 13, 15, 20, 24, 25, 26, 28])
        return
    for name in args.names or CHECKPOINTS:
        c = CHECKPOINTS[name]
        seed = 20261123 + list(CHECKPOINTS).index(name)
        while True:
            path = write_checkpoint(name, dict(c), seed)
            margin = least_margin(Model(path), c.get("ties"))
            if margin >= LIMIT_MARGIN:
                break
            print(f"{name}: seed {seed} has a router margin of {margin:.1e}, trying the next")
            seed += 100
        model = expected(path, name, hidden=STATES.get(name, ()))
        size = sum(f.stat().st_size for f in path.rglob("*") if not f.is_symlink() and f.is_file())
        print(f"{name:18} seed {seed} {size / 1024:6.0f} KiB, router margin {margin:.1e}, "
              f"{max(len(model.tokenize(t)) for t in TEXTS)} tokens at most")


if __name__ == "__main__":
    main()
