"""What a comparison needs and runs on: the peers in a virtual environment, convnet, the machine."""

import os
import platform
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
REQUIREMENTS = HERE / "requirements.txt"
RUST = HERE / "rust"
RUST_PACKAGES = ["rten", "tract-onnx"]
HIDING = HERE / "hide_avx512.c"
PACKAGES = ["torch", "torchvision", "onnx", "onnxruntime", "openvino", "ncnn", "pnnx"]


def fail(message: str) -> SystemExit:
    return SystemExit(f"error: {message}")


def check_system() -> None:
    if sys.platform != "linux":
        raise fail("this needs Linux: it reads /proc, and stops processes between their turns")
    if sys.version_info < (3, 11):
        raise fail(f"this needs Python 3.11 or newer, which the peers need, and runs in {platform.python_version()}")


def install_peers(venv: Path) -> Path:
    """Makes the virtual environment what requirements.txt says; its Python."""
    python = venv / "bin" / "python"
    stamp = venv / "convnet-peers.txt"
    wanted = REQUIREMENTS.read_text()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    if not python.exists():
        print(f"making a virtual environment in {venv}", file=sys.stderr)
        if subprocess.run([sys.executable, "-m", "venv", venv], check=False).returncode:
            raise fail(
                f"`python -m venv {venv}` failed: see above; on Debian and Ubuntu it needs the package python3-venv"
            )
    print("installing the peers (several GB, once: PyTorch brings its CUDA libraries along)", file=sys.stderr)
    command: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
        REQUIREMENTS,
    ]
    if subprocess.run(command, check=False).returncode:
        raise fail(
            f"pip could not install the peers into {venv}: see above. It needs the network and 6 GB of disk; "
            "an environment that has them already goes by --venv"
        )
    stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    code = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]))"
    output = run_for_output([python, "-c", code, *PACKAGES])
    if output is None:
        raise fail(f"{python} lacks a peer: remove the folder of the environment and start again")
    version = (run_for_output([python, "-V"]) or "").removeprefix("Python ")
    return {"python": version, **dict(zip(PACKAGES, output.split(), strict=True))}


def convnet(given: Path | None) -> Path:
    """The program that is given, or else built from this checkout."""
    if given:
        if not os.access(given, os.X_OK):
            raise fail(f"--convnet {given}: there is no such program")
        return given.resolve()
    print("building convnet", file=sys.stderr)
    try:
        command = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "convnet-cli"]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
    except FileNotFoundError:
        raise fail("cargo is missing: install Rust, or name a built program with --convnet") from None
    if status:
        raise fail("convnet could not be built: see above")
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "convnet"


def rust_peers() -> Path:
    """Builds Rust's peers; the folder of their programs."""
    print("building Rust's peers", file=sys.stderr)
    target = ROOT / "target" / "peers-rust"
    command: list[str | Path] = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", target]
    if subprocess.run(command, cwd=RUST, check=False).returncode:
        raise fail("Rust's peers could not be built: see above; --engines leaves them out")
    return target / "release"


def hiding_avx512(folder: Path) -> Path | None:
    """A library that keeps the processes that load it first from finding AVX-512; nothing where this machine cannot do it."""
    library = folder / "hide_avx512.so"
    try:
        if subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HIDING], check=False).returncode:
            return None
    except FileNotFoundError:
        return None
    loaded = os.environ | {"LD_PRELOAD": str(library)}
    return None if subprocess.run([sys.executable, "-c", ""], env=loaded, check=False).returncode else library


def rust_versions() -> dict[str, str]:
    """Of the packages that Rust's peers are, from their lock file."""
    packages = tomllib.loads((RUST / "Cargo.lock").read_text())["package"]
    return {package["name"]: package["version"] for package in packages if package["name"] in RUST_PACKAGES}


def commit() -> str:
    """The checkout's, with a word on changes that are not in it."""
    name = run_for_output(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]) or "unknown"
    changed = run_for_output(["git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no"])
    return f"{name}, changed" if changed else name


def machine() -> dict[str, str | int]:
    lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    fields = {key.strip(): value.strip() for key, value in lines}
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    flags = fields.get("flags", "").split()
    shown = [flag for flag in ["avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"] if flag in flags]
    model = "family {}, model {}".format(fields.get("cpu family", "?"), fields.get("model", "?"))
    return {
        "cpu": f"{fields.get('model name', platform.machine())} ({model}; {' '.join(shown)})",
        "processors": os.cpu_count() or 1,
        "memory_bytes": int(memory.split()[1]) * 1024,
        "system": f"{platform.system()} {platform.release()}",
    }


def run_for_output(command: list[str | Path]) -> str | None:
    """What a command prints, without the last line's end; nothing where it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
