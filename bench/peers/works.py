"""What is measured, and which engines take part."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Training steps of a net, or passes through it, with so many pictures at a time."""

    mode: str
    model: str
    batch: int
    input: tuple[int, int, int] = (3, 224, 224)
    optimizer: str = "sgd"

    @property
    def name(self) -> str:
        return f"{self.mode}-{self.model}-b{self.batch}"

    @property
    def trains(self) -> bool:
        return self.mode == "train"


WORKS = [
    *(Work("infer", model, 1) for model in ["alexnet", "vgg16", "googlenet", "resnet18", "resnet50", "densenet121"]),
    *(Work("infer", model, 1) for model in ["mobilenet_v2", "efficientnet_b0", "convnext_tiny"]),
    *(Work("infer", model, 16) for model in ["vgg16", "resnet18", "resnet50", "densenet121"]),
    Work("train", "cnn", 256, (1, 28, 28), "adam"),
    Work("train", "resnet20", 128, (3, 32, 32)),
    *(Work("train", model, 16) for model in ["resnet18", "densenet121", "vgg16", "mobilenet_v2", "efficientnet_b0"]),
]

QUICK = ["infer-resnet18-b1", "train-cnn-b256"]

CONVNET = "convnet"
CONVNETS = [CONVNET, "convnet-bf16"]
# convnet with the file that the peers read.
CONVNET_ONNX = "convnet-onnx"
# Programs of their own in rust/.
RUST_PEERS = ["rten", "tract"]
INFERRING = [
    CONVNET_ONNX,
    *["pytorch", "pytorch-channels-last", "onnxruntime", "openvino-f32", "openvino-bf16", "ncnn"],
    *RUST_PEERS,
]
TRAINING = ["pytorch", "pytorch-channels-last", "pytorch-bf16"]
# Takes part where it is named: it compiles each net for a minute or more, and needs a C++ compiler.
ON_REQUEST = ["pytorch-compile"]
ENGINES = [*CONVNETS, *dict.fromkeys([*INFERRING, *TRAINING, *ON_REQUEST])]


def engines_of(work: Work, named: list[str]) -> list[str]:
    """The engines that do this work, of those named or else of all."""
    peers = TRAINING if work.trains else INFERRING
    if work.batch > 1:
        # ncnn takes one picture at a time.
        peers = [engine for engine in peers if engine != "ncnn"]
    able = [*CONVNETS, *peers, *ON_REQUEST]
    return [engine for engine in able if engine in named] if named else [*CONVNETS, *peers]


def is_exact(engine: str) -> bool:
    """Whether the engine computes in f32 throughout, so that its outputs must be those of the others."""
    return not engine.endswith("bf16")
