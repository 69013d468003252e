#!/usr/bin/env python3
"""numpy_embed: the shared library from Python through ctypes; strings in, a numpy array out.

usage: numpy_embed.py LIBEMBED_SO MODEL_DIR TEXT...
"""
import ctypes
import sys

import numpy as np


class Text(ctypes.Structure):  # embed_text
    _fields_ = [("ptr", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Embedder:
    """A model with one context; encode() gives a float32 array [n, dim]."""

    def __init__(self, library, model_dir):
        self.lib = ctypes.CDLL(library)
        self.lib.embed_last_error.restype = ctypes.c_char_p
        self.lib.embed_model_free.argtypes = self.lib.embed_context_free.argtypes = [ctypes.c_void_p]
        self.lib.embed_model_free.restype = self.lib.embed_context_free.restype = None
        self.model, self.context = ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.lib.embed_model_open(ctypes.byref(self.model), model_dir.encode(), None))
        self.check(self.lib.embed_context_create(ctypes.byref(self.context), self.model, None))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lib.embed_context_free(self.context)
        self.lib.embed_model_free(self.model)

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.lib.embed_last_error().decode())

    def encode(self, texts):
        data = [text.encode() for text in texts]  # keeps the bytes alive during the call
        spans = (Text * len(data))(*[Text(d, len(d)) for d in data])
        need = ctypes.c_size_t()
        n = ctypes.c_size_t(len(data))
        self.check(self.lib.embed_output_len(self.model, None, n, ctypes.byref(need)))
        out = np.empty((len(data), need.value // max(len(data), 1)), np.float32)
        self.check(self.lib.embed_encode(self.context, spans, n, None,
                                         out.ctypes.data_as(ctypes.c_void_p), need))
        return out


def main():
    if len(sys.argv) < 4:
        print(__doc__.strip().splitlines()[-1], file=sys.stderr)
        return 2
    try:
        with Embedder(sys.argv[1], sys.argv[2]) as embedder:
            vectors = embedder.encode(sys.argv[3:])
    except (OSError, RuntimeError) as error:
        print(f"numpy_embed.py: {error}", file=sys.stderr)
        return 1
    np.set_printoptions(precision=4, suppress=True)
    print(vectors.shape, vectors.dtype)
    print(vectors @ vectors.T)
    return 0


if __name__ == "__main__":
    sys.exit(main())
