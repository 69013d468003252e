"""Would the goldens notice? Make one plausible mistake at a time in the reference and print the
relative L2 error it causes, per checkpoint that it can touch: the largest over the texts, which has
to be far above the 3e-6 that test_golden.c allows. The table in README.md is this output.

    python mutations.py
"""

import numpy as np

import reference
from make_checkpoints import CHECKPOINTS, HERE, TEXTS
from reference import Model

TEXT_IDS = [1, 3, 4, 11, 13, 14, 22, 25, 26, 27]


def vectors(model):
    return [model.encode(TEXTS[i])[0] for i in TEXT_IDS]


def patched(name, function):
    def mutate(model):
        old = getattr(reference, name)
        setattr(reference, name, function(old))
        return lambda: setattr(reference, name, old)
    return mutate


def config(key, value):
    def mutate(model):
        if key not in model.config:
            return None
        new = value(model.config[key]) if callable(value) else value
        if new == model.config[key]:
            return None
        model.config[key] = new
        return lambda: None
    return mutate


def method(name, function):
    def mutate(model):
        setattr(model, name, function(model, getattr(model, name)))
        return lambda: None
    return mutate


def activation(old, new):
    """By name, as config.act holds the function."""
    return config("act", lambda act: getattr(reference, new) if act.__name__ == old else act)


def drop(suffix):
    """One tensor, of the last layer that has it, as if it were not there."""
    def mutate(model):
        names = [n for n in model.tensors if n.endswith(suffix)]
        names.sort(key=lambda n: [int(p) if p.isdigit() else p for p in n.split(".")])
        if not names:
            return None
        model.replaced[names[-1]] = np.zeros(model.tensors[names[-1]][1].shape)
        return lambda: None
    return mutate


def swap(a, b):
    def mutate(model):
        pairs = [n for n in model.tensors if a in n]
        if not pairs:
            return None
        for n in pairs:
            other = n.replace(a, b)
            first, second = model.w(n), model.w(other)
            model.replaced[n], model.replaced[other] = second, first
        return lambda: None
    return mutate


def unbiased_norm(old):
    def norm(x, gamma, beta, eps):
        c = x - x.mean(-1, keepdims=True)
        return c / np.sqrt((c**2).sum(-1, keepdims=True) / (x.shape[-1] - 1) + eps) * gamma + beta
    return norm


def interleaved(old):
    def rotate(x, positions, base, dim):
        order = np.concatenate([np.arange(0, dim, 2), np.arange(1, dim, 2)])
        y = x.copy()
        y[..., :dim] = x[..., order]
        y = old(y, positions, base, dim)
        y[..., order] = y[..., :dim].copy()
        return y
    return rotate


def expert_bias_inside(model, old):
    def moe(x, prefix, record):
        own = []
        y = old(x, prefix, own)
        return y + (own[0]["gate"].sum(-1, keepdims=True) - 1) * model.w(prefix + "experts.bias")
    return moe


def softmax_of_chosen(model, old):
    def moe(x, prefix, record):
        model.config["renormalize"] = True
        return old(x, prefix, record)
    return moe


MUTATIONS = {
    "GELU in its tanh form": activation("gelu", "gelu_tanh"),
    "GELU erf for the tanh form": activation("gelu_tanh", "gelu"),
    "SiLU for GELU": activation("gelu", "silu"),
    "GELU for SiLU": activation("silu", "gelu"),
    "gate and up swapped": swap("mlp.fc11", "mlp.fc12"),
    "epsilon 1e-12 for 1e-5 or the reverse": config("eps", lambda e: 1e-5 if e < 1e-7 else 1e-12),
    "unbiased variance": patched("layer_norm", unbiased_norm),
    "rotary base 1000 for 10000 or the reverse": config("base", lambda b: 1e7 / b),
    "rotary interleaved": patched("rotate", interleaved),
    "no rotary": config("rotary_dim", lambda d: 0 if d else d),
    "positions off by one": method("positions", lambda m, old: lambda ids: np.maximum(
        old(ids) - 1, 0)),
    "positions count pad tokens": method("positions", lambda m, old: lambda ids: (
        np.arange(len(ids)) + m.raw.get("pad_token_id", 0) + 1)
        if m.config["arch"] == "xlm-roberta" else old(ids)),
    "no token type embedding": drop("token_type_embeddings.weight"),
    "Wqkv or query bias dropped in one layer": drop("attn.Wqkv.bias"),
    "query bias dropped in one layer": drop("query.bias"),
    "key bias dropped: no change, softmax cancels it": drop("key.bias"),
    "value bias dropped in one layer": drop("value.bias"),
    "attention output bias dropped": drop("out_proj.bias"),
    "attention output bias dropped (bert)": drop("attention.output.dense.bias"),
    "MLP up bias dropped": drop("fc1.bias"),
    "MLP up bias dropped (bert)": drop("intermediate.dense.bias"),
    "gate bias dropped": drop("fc12.bias"),
    "MLP down bias dropped": drop("fc2.bias"),
    "experts.bias dropped": drop("experts.bias"),
    "experts.bias weighted by the gates": method("moe", expert_bias_inside),
    "gates renormalised or not": config("renormalize", lambda r: not r),
    "one expert fewer": config("top_k", lambda k: k - 1),
    "ties to the higher expert": patched("top_k", lambda old: lambda p, k: (
        p.shape[1] - 1 - old(p[:, ::-1], k))),
    "beta of the last norm dropped": drop("norm2.bias"),
    "weightedmean from 0": method("pool", lambda m, old: lambda x, skip=0: old(
        np.vstack([x[-1:], x]), 1) if m.modes == ["weightedmean"] else old(x, skip)),
}


def main():
    for name, mutate in MUTATIONS.items():
        row = []
        for checkpoint in CHECKPOINTS:
            model = Model(HERE / "checkpoints" / checkpoint)
            right = vectors(model)
            undo = mutate(model)
            if undo is None:
                continue
            wrong = vectors(model)
            undo()
            worst = max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(wrong, right))
            if worst > 1e-14:
                row.append((worst, checkpoint))
        least, most = min(row, default=(0, "-")), max(row, default=(0, "-"))
        print(f"| {name} | {len(row)} | {most[0]:.1e} ({most[1]}) | {least[0]:.1e} ({least[1]}) |")


if __name__ == "__main__":
    main()
