#!/usr/bin/env python3
"""Other people's clients against `convnet serve`: NVIDIA's tritonclient and schemathesis.

    cargo build --release -p convnet-cli
    python tests/serve/clients.py       # needs requirements.txt

Trains the small network on built-in digits for one epoch and serves it. tritonclient asks for metadata, health, inference as JSON and
as bytes, classification and errors, and then for a thousand pictures at once, whose logits must have the bits of `convnet predict
--npy`. schemathesis makes requests from the served OpenAPI document: no answer may be a 5xx, of an undocumented status, or of
another form than is documented.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tritonclient.http as triton

ROOT = Path(__file__).resolve().parents[2]
PICTURES = 1000


@contextmanager
def served(convnet, run, *flags):
    """A server of a run on a free port; its address."""
    command = [convnet, "serve", f"digits={run}", "--port", "0", "-q", "--max-wait", "60000", "--max-queue", "4000", *flags]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        code = server.wait(timeout=40)
        if code != 0:
            raise SystemExit(f"error: expected the server to stop with 0, got {code}")


def check(holds, what):
    if not holds:
        raise SystemExit(f"error: {what}")
    print(f"ok: {what}", file=sys.stderr)


def infer(client, pictures, binary, output="logits", **options):
    tensor = triton.InferInput("input", list(pictures.shape), "FP32")
    tensor.set_data_from_numpy(pictures, binary_data=binary)
    asked = triton.InferRequestedOutput(output, binary_data=binary, **options)
    return client.infer("digits", [tensor], outputs=[asked]).as_numpy(output)


def protocol(client, pictures, expected):
    check(client.is_server_live() and client.is_server_ready() and client.is_model_ready("digits"), "health")
    check("binary_tensor_data" in client.get_server_metadata()["extensions"], "the server's metadata")
    metadata = client.get_model_metadata("digits")
    check(metadata["inputs"][0]["shape"] == [-1, 1, 28, 28], "the model's metadata")
    for binary in (False, True):
        check(np.array_equal(infer(client, pictures[:5], binary), expected[:5]), f"logits, binary: {binary}")
    probabilities = infer(client, pictures[:5], True, "probabilities")
    shifted = np.exp(expected[:5].astype(np.float64) - expected[:5].max(1, keepdims=True))
    check(np.allclose(probabilities, shifted / shifted.sum(1, keepdims=True), atol=1e-6), "probabilities")
    for binary in (False, True):
        best = infer(client, pictures[:2], binary, "probabilities", class_count=2)
        text = best[0][0].decode() if isinstance(best[0][0], bytes) else best[0][0]
        check(int(text.split(":")[1]) == expected[0].argmax(), f"classification, binary: {binary}")
    check([model["name"] for model in client.get_model_repository_index()] == ["digits"], "the repository's index")
    client.load_model("digits")
    check(client.get_model_metadata("digits")["versions"] == ["2"], "loading again")
    for model, shape, problem in [("other", (1, 1, 28, 28), "no model"), ("digits", (1, 1, 28, 27), "expected shape")]:
        try:
            tensor = triton.InferInput("input", list(shape), "FP32")
            tensor.set_data_from_numpy(np.zeros(shape, np.float32))
            client.infer(model, [tensor])
            check(False, f"an error for {model} {shape}")
        except triton.InferenceServerException as error:
            check(problem in str(error), f"an error: {error}")


def concurrently(address, pictures, expected):
    client = triton.InferenceServerClient(address, concurrency=200, network_timeout=120.0, connection_timeout=120.0)
    asked = []
    for index, picture in enumerate(pictures):
        tensor = triton.InferInput("input", [1, 1, 28, 28], "FP32")
        tensor.set_data_from_numpy(picture[None], binary_data=index % 2 == 0)
        wanted = triton.InferRequestedOutput("logits", binary_data=index % 2 == 0)
        asked.append(client.async_infer("digits", [tensor], outputs=[wanted]))
    found = np.concatenate([answer.get_result().as_numpy("logits") for answer in asked])
    check(np.array_equal(found, expected), f"{len(pictures)} pictures at once have the bits of predict --npy")


def schema(address, examples, folder):
    command = [Path(sys.executable).parent / "schemathesis", "run", f"{address}/openapi.json", "--max-examples", str(examples)]
    command += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"]
    # A stream ends with its run.
    command += ["--exclude-path", "/v1/runs/{run}/events", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    check(done.returncode == 0, f"schemathesis\n{done.stdout[-6000:] if done.returncode else done.stdout[-600:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--convnet", type=Path, default=ROOT / "target/release/convnet")
    parser.add_argument("--examples", type=int, default=20, help="of schemathesis for each operation")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run, npy = Path(folder) / "run", Path(folder) / "pictures.npy"
        subprocess.run([arguments.convnet, "train", "--epochs", "1", "--out", run, "-q"], check=True, stdout=subprocess.DEVNULL)
        pictures = np.random.default_rng(0).standard_normal((PICTURES, 1, 28, 28), np.float32)
        np.save(npy, pictures)
        command = [arguments.convnet, "predict", "--run", run, "--npy", npy, "--logits", "--json", "-q"]
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        expected = np.array([entry["logits"] for entry in said["predictions"]], np.float32)
        with served(arguments.convnet, run) as address:
            host = address.removeprefix("http://")
            protocol(triton.InferenceServerClient(host), pictures, expected)
            concurrently(host, pictures, expected)
            schema(address, arguments.examples, folder)


if __name__ == "__main__":
    main()
