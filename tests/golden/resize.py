"""Golden values from Pillow for crates/convnet/src/data/preprocessing.rs.

Run in the repository's root, with NumPy and Pillow (made with Pillow 13.0.0):

    python tests/golden/resize.py

It writes crates/convnet/tests/golden/pillow/resize.json: pictures by formula (the test computes them itself), resized and
cut out as torchvision's `resize` (antialiased) and `center_crop` do it.
"""

import json
import pathlib

import numpy as np
from PIL import Image

FILE = pathlib.Path(__file__).parents[2] / "crates/convnet/tests/golden/pillow/resize.json"


def picture(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 37 + y * 11) % 256, (x * y) % 256, (x * x + 3 * y) % 251], -1).astype(np.uint8)


def fit(pixels, resize, height, width, interpolation):
    """torchvision.transforms.functional: resize, then center_crop."""
    high, wide = pixels.shape[:2]
    size = (resize, int(resize * high / wide)) if wide <= high else (int(resize * wide / high), resize)
    image = Image.fromarray(pixels).resize(size, Image.Resampling[interpolation.upper()])
    left, top = int(round((size[0] - width) / 2.0)), int(round((size[1] - height) / 2.0))
    return np.asarray(image.crop((left, top, left + width, top + height)))


if __name__ == "__main__":
    cases = []
    # Smaller, larger, long and thin, and nearly the same size.
    for (high, wide), side in [((37, 51), 12), ((9, 7), 14), ((8, 90), 7), ((17, 16), 14)]:
        resize = (side * 256 + 112) // 224
        for how in ["bilinear", "nearest", "box", "hamming", "bicubic", "lanczos"]:
            expected = fit(picture(high, wide), resize, side, side, how).ravel().tolist()
            cases.append({"picture": [high, wide], "side": side, "resize": resize, "interpolation": how,
                          "expected": expected})
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]\n")
