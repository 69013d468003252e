"""Compare reference.py once with transformers and sentence-transformers in float64, wherever they
can load a checkpoint: python crosscheck.py [DIR ...] (default: all of tests/golden/checkpoints that
they have classes for). Needs torch, transformers and sentence-transformers."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from make_checkpoints import HERE, TEXTS
from reference import Model

NAMES = ["bert", "bert-modes", "bert-dense", "bert-prompt", "xlm-roberta", "xlm-roberta-cls",
         "nomic-native"]


def plain_tokenizer(path, copy):
    """transformers 5 rebuilds the tokenizers of known classes from their vocabulary; this copy of
    the checkpoint makes it take tokenizer.json as it is."""
    shutil.copytree(path, copy)
    config = json.loads((copy / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    return str(copy)


def main():
    temporary = tempfile.TemporaryDirectory()
    paths = [Path(p) for p in sys.argv[1:]] or [HERE / "checkpoints" / n for n in NAMES]
    for path in paths:
        ours = Model(path)
        theirs = SentenceTransformer(plain_tokenizer(path, Path(temporary.name) / path.name), device="cpu", model_kwargs={"dtype": torch.float64})
        theirs.to(torch.float64)
        theirs.max_seq_length = ours.max_tokens
        worst = 0.0
        for name in [None, *ours.prompts]:
            prompt = ours.prompts.get(name, "")
            for text in TEXTS:
                a = ours.encode(text, prompt)[0]
                b = theirs.encode(text, prompt=prompt, convert_to_numpy=True)
                assert b.dtype == np.float64, b.dtype
                worst = max(worst, np.linalg.norm(a - b) / np.linalg.norm(b))
        print(f"{path.name:18} {1 + len(ours.prompts)} x {len(TEXTS)} texts, relative L2 at most "
              f"{worst:.1e}")


if __name__ == "__main__":
    main()
