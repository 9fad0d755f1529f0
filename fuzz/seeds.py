#!/usr/bin/env python3
"""Seeds for the target onnx: the tests of the package `onnx` on single operators, with constants inside: seeds.py FOLDER."""

import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/onnx"))
from node_tests import VOCABULARY, cases

LARGEST = 1 << 16


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for _, name, *makers in cases(set(VOCABULARY)):
        for index, make in enumerate(makers):
            try:
                content = make()[0].SerializeToString()
            except Exception:  # Sequences, optional values and types that NumPy lacks.
                continue
            if len(content) <= LARGEST:
                (folder / f"{name}-{index}").write_bytes(content)
    print(f"{folder}: {len(list(folder.iterdir()))} files")


main()
