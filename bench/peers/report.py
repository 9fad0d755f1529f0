"""What a comparison found, as Markdown; the JSON is the same data."""

import statistics
from dataclasses import dataclass, field

from works import CONVNET, is_exact

# How far outputs in f32 may be from PyTorch's, as a share of the largest.
TOLERANCE = 1e-2


@dataclass
class Result:
    """What one engine did in one work."""

    engine: str
    # The median run of each turn that counts, and of each in which other processes worked.
    turns_ms: list[float] = field(default_factory=list)
    left_out_ms: list[float] = field(default_factory=list)
    peak_memory_bytes: int | None = None
    # Largest difference of a logit from PyTorch's, as a share of the largest logit.
    difference: float | None = None
    failure: str | None = None
    # The least that the machine's peaks allow, which convnet measures.
    least_ms: float | None = None

    @property
    def median(self) -> float | None:
        return statistics.median(self.turns_ms) if self.turns_ms else None

    @property
    def disagrees(self) -> bool:
        return self.difference is not None and is_exact(self.engine) and self.difference > TOLERANCE

    def json(self, reference: float | None) -> dict[str, object]:
        median = self.median
        return {
            "engine": self.engine,
            "median_ms": median,
            "min_ms": min(self.turns_ms, default=None),
            "max_ms": max(self.turns_ms, default=None),
            "times_convnet": median / reference if median and reference else None,
            "turns_ms": self.turns_ms,
            "left_out_ms": self.left_out_ms,
            "peak_memory_bytes": self.peak_memory_bytes,
            "difference": self.difference,
            "least_ms": self.least_ms,
            "failure": self.failure,
        }


def reference(results: list[Result]) -> float | None:
    """convnet's median."""
    return next((result.median for result in results if result.engine == CONVNET), None)


def least(results: list[Result]) -> float | None:
    """The least time that the machine's peaks allow."""
    return next((result.least_ms for result in results if result.engine == CONVNET), None)


def as_json(header: dict[str, object], works: dict[str, list[Result]]) -> dict[str, object]:
    listed = [
        {"work": name, "engines": [result.json(reference(results)) for result in results]}
        for name, results in works.items()
    ]
    return {**header, "works": listed}


def as_markdown(header: dict[str, object], works: dict[str, list[Result]]) -> str:
    parts = ["# convnet and its peers", head(header)]
    parts.append(
        "The limit is the least time that the machine's peaks of arithmetic in f32 and of memory allow, with Winograd's "
        "algorithm where it applies (`convnet summary` explains it), and convnet's share of it is the limit over its time."
    )
    for mode, title in [("infer", "Inference"), ("train", "Training step")]:
        chosen = {name: results for name, results in works.items() if name.startswith(mode)}
        if chosen:
            parts += [f"## {title}, median milliseconds (times convnet's)", overview(chosen)]
    parts.append("## Details")
    parts += [f"### {name}\n\n{details(results)}" for name, results in works.items()]
    return "\n\n".join(parts) + "\n"


def head(header: dict[str, object]) -> str:
    machine, versions, settings = header["machine"], header["versions"], header["settings"]
    assert isinstance(machine, dict) and isinstance(versions, dict) and isinstance(settings, dict)
    size = f"{machine['processors']} processors, {machine['memory_bytes'] / 2**30:.0f} GiB"
    said = [
        f"{header['date']}; {machine['cpu']}; {size}; {machine['system']}",
        f"{settings['threads']} threads for each engine; f32 unless its name says bf16",
        f"{settings['turns']} turns of {settings['seconds']} s in which other processes used at most "
        f"{settings['others']:.0%} of the processors; a turn's figure is its median run, the spread is that of turns",
        "; ".join(f"{name} {version}" for name, version in versions.items()),
    ]
    if settings["isa"]:
        isa = str(settings["isa"]).upper()
        said.append(
            f"what came after {isa} was hidden from all engines, by CPUID"
            if settings["isa_hidden"]
            else f"convnet, PyTorch and OpenVINO were kept to {isa}; the others cannot be, and took what is there"
        )
    return "\n".join(f"- {line}" for line in said)


def overview(works: dict[str, list[Result]]) -> str:
    engines = list(dict.fromkeys(result.engine for results in works.values() for result in results))
    rows = []
    for name, results in works.items():
        base, cells = reference(results), {result.engine: result for result in results}
        rows.append([name, *(cell(cells.get(engine), base) for engine in engines), limit(results)])
    return table(["", *engines, "limit (convnet's share)"], rows)


def limit(results: list[Result]) -> str:
    """The least time, and how near convnet comes to it."""
    base, bound = reference(results), least(results)
    return f"{number(bound)} ({bound / base:.0%})" if base and bound else ""


def cell(result: Result | None, base: float | None) -> str:
    if result is None or result.median is None:
        return ""
    if base is None or result.engine == CONVNET:
        return number(result.median)
    return f"{number(result.median)} ({result.median / base:.2f})"


def details(results: list[Result]) -> str:
    base, rows = reference(results), []
    for result in results:
        if result.failure:
            rows.append([result.engine, f"failed: {result.failure}".replace("|", "/"), *[""] * 5])
            continue
        times, memory, median = result.turns_ms, result.peak_memory_bytes, result.median
        row = [
            result.engine,
            number(median) if median else "no quiet turn",
            f"{number(min(times))} to {number(max(times))}" if times else "",
            f"{median / base:.2f}" if median and base else "",
            f"{len(times)} ({len(result.left_out_ms)})",
            f"{memory / 2**20:,.0f}" if memory else "",
            "" if result.difference is None else f"{result.difference:.1e}" + (" !" if result.disagrees else ""),
        ]
        rows.append(row)
    titles = ["engine", "median ms", "spread", "times convnet", "turns (left out)", "peak MiB", "outputs differ by"]
    return table(titles, rows)


def table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(ms: float) -> str:
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"
