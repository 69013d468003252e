"""Write expected.json: what the float64 reference says of the random checkpoint of the true shape.

    build/release/bin/write_nomic_moe DIR TOKENIZER
    python make_expected.py DIR
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "golden"))
from make_checkpoints import expert_stats, rounded  # noqa: E402
from reference import Model  # noqa: E402

LENGTHS = [3, 3, 12, 130, 500]
LIMIT_MARGIN = 2e-5


def margin(record):
    least = 1.0
    for r in record:
        rest = r["p"].copy()
        np.put_along_axis(rest, r["chosen"], 0, 1)
        last = np.take_along_axis(r["p"], r["chosen"], 1)[:, -1]
        least = min(least, (last - rest.max(1)).min())
    return least


def main():
    model = Model(sys.argv[1])
    rng = np.random.Generator(np.random.PCG64(2502))
    rows, vectors, records = [], [], []
    while len(rows) < len(LENGTHS):
        n = LENGTHS[len(rows)]
        ids = [0, *rng.integers(4, 250000, n - 2).tolist(), 2]
        record = []
        vector = model.finish(model.pool(model.hidden(ids, record)))
        found = margin(record)
        print(f"{n} tokens, router margin {found:.1e}")
        if found >= LIMIT_MARGIN:
            rows.append(ids)
            vectors.append(rounded(vector))
            records.append(record)
    out = {"ids": rows, "vectors": vectors, "experts": expert_stats(model, records)}
    text = json.dumps(out, separators=(",", ":")).replace("],[", "],\n[").replace("},{", "},\n{")
    (HERE / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
