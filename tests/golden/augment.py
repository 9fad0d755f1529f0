"""Golden values from torchvision and Pillow for crates/convnet/src/data/augment/.

Run in the repository's root, with PyTorch, torchvision, NumPy and Pillow (made with torchvision 0.29.2 and Pillow 13.0.0):

    python tests/golden/augment.py

It writes crates/convnet/tests/golden/pillow/augment.json: torchvision's functions on Pillow's pictures (by formula: the
tests compute them themselves), the matrices of its maps, the tables of its policies, its crops for evaluation, and its
mixtures of a batch. Bytes are in hexadecimal; of large pictures the SHA-256 stands instead.
"""

import hashlib
import json
import pathlib

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, _functional_pil, autoaugment
from torchvision.transforms import functional as F
from torchvision.transforms import v2

FILE = pathlib.Path(__file__).parents[2] / "crates/convnet/tests/golden/pillow/augment.json"
MODES = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR,
         "bicubic": InterpolationMode.BICUBIC, "lanczos": InterpolationMode.LANCZOS, "box": InterpolationMode.BOX}
LARGE = 2000
# Corners of the source and of the output.
CORNERS = [[[[0, 0], [16, 0], [16, 12], [0, 12]], end]
           for end in [[[1, 2], [14, 0], [16, 11], [3, 12]], [[4, 0], [15, 3], [12, 9], [0, 10]]]]


def picture(channels, height, width, smooth):
    """`rough` runs through all values, `smooth` stays within 60..200."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * 37 + y * 11) % 256, (x * y) % 256, (x * x + 3 * y) % 251]
    if smooth:
        planes = [60 + (x * 3 + y * 5) % 90, 100 + (x + 2 * y) % 101, 90 + (x * x // 8 + y) % 50]
    pixels = np.stack(planes, -1).astype(np.uint8)
    return Image.fromarray(pixels if channels == 3 else pixels[..., 0])


def area(a):
    return a["top"], a["left"], a["height"], a["width"]


def padded_crop(img, top, left, size, mode, fill):
    """pad, then crop: with as much padding as the place needs."""
    pad = [max(0, -left), max(0, -top), max(0, left + size[1] - img.width), max(0, top + size[0] - img.height)]
    fill = tuple(fill[: len(img.getbands())])
    padded = F.pad(img, pad, fill if len(fill) > 1 else fill[0], mode)
    return F.crop(padded, top + pad[1], left + pad[0], *size)


def affine(img, map, interpolation, fill):
    return F.affine(img, map["angle"], [int(x) for x in map["translate"]], map["scale"], map["shear"],
                    MODES[interpolation], fill[: len(img.getbands())], map["center"])


def rotate(img, angle, interpolation, fill):
    return F.rotate(img, angle, MODES[interpolation], fill=fill[: len(img.getbands())])


def perspective(img, map, interpolation, fill):
    return _functional_pil.perspective(img, map, {"nearest": 0, "bilinear": 2}[interpolation],
                                         fill[: len(img.getbands())])


def resized_crop(img, size, interpolation, area):
    return F.resized_crop(img, area["top"], area["left"], area["height"], area["width"], size, MODES[interpolation])


def erase(img, area, ink):
    planes = F.pil_to_tensor(img)
    value = torch.tensor(ink["pixel"][: planes.shape[0]], dtype=torch.uint8)[:, None, None]
    return F.to_pil_image(F.erase(planes, area["top"], area["left"], area["height"], area["width"], value))


FUNCTIONS = {
    "resized_crop": resized_crop,
    "padded_crop": padded_crop,
    "rotate": rotate,
    "affine": affine,
    "perspective": perspective,
    "erase": erase,
    "gaussian_blur": lambda img, kernel, sigma: F.gaussian_blur(img, kernel, [sigma, sigma]),
    "horizontal_flip": F.hflip,
    "vertical_flip": F.vflip,
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
    "sharpness": F.adjust_sharpness,
    "grayscale": lambda img: F.to_grayscale(img, len(img.getbands())),
    "posterize": F.posterize,
    "solarize": F.solarize,
    "equalize": F.equalize,
    "autocontrast": F.autocontrast,
    "invert": F.invert,
}


def run(img, step):
    if isinstance(step, str):
        return FUNCTIONS[step](img)
    (name, value), = step.items()
    return FUNCTIONS[name](img, **value) if isinstance(value, dict) else FUNCTIONS[name](img, value)


def affine_map(angle=0.0, translate=(0.0, 0.0), scale=1.0, shear=(0.0, 0.0), center=None):
    return {"angle": angle, "translate": list(translate), "scale": scale, "shear": list(shear), "center": center}


def steps():
    box = {"top": 2, "left": 3, "height": 9, "width": 11}
    for how in MODES:
        yield {"resized_crop": {"area": box, "size": [7, 8], "interpolation": how}}
        yield {"resized_crop": {"area": box, "size": [12, 20], "interpolation": how}}
    yield {"resized_crop": {"area": box, "size": [9, 20], "interpolation": "bilinear"}}
    yield {"resized_crop": {"area": box, "size": [5, 11], "interpolation": "bilinear"}}
    yield {"resized_crop": {"area": box, "size": [9, 11], "interpolation": "bilinear"}}
    yield {"resized_crop": {"area": {**box, "height": 1, "width": 2}, "size": [5, 11], "interpolation": "bicubic"}}
    for mode, top, left in [("constant", -3, 4), ("constant", 2, 1), ("edge", -3, -5), ("reflect", -4, -2),
                            ("reflect", 5, 9), ("symmetric", -4, 8), ("constant", -1, -1)]:
        size = [15, 19] if top == -1 else [13, 17]
        yield {"padded_crop": {"top": top, "left": left, "size": size, "mode": mode, "fill": [9, 200, 31]}}
    for how in ["nearest", "bilinear"]:
        look = {"interpolation": how, "fill": [255, 0, 77]}
        for angle in [0.0, 17.5, -30.0, 90.0, 123.4, 180.0, 270.0, -400.0]:
            yield {"rotate": {"angle": angle, **look}}
        for map in [affine_map(translate=(3.0, -2.0)), affine_map(angle=25.0), affine_map(scale=1.37),
                    affine_map(scale=0.6, translate=(1.0, 0.0)), affine_map(shear=(16.7, 0.0), center=[0.0, 0.0]),
                    affine_map(shear=(0.0, -11.3), center=[0.0, 0.0]), affine_map(shear=(-20.0, 12.0)),
                    affine_map(-77.0, (2.0, 1.0), 0.83, (9.0, -4.0))]:
            yield {"affine": {"map": map, **look}}
        for corners in CORNERS:
            yield {"perspective": {"map": F._get_perspective_coeffs(*corners), **look}}
    for factor in [0.0, 0.1, 0.55, 1.0, 1.27, 1.9, 3.5]:
        for name in ["brightness", "contrast", "saturation", "sharpness"]:
            yield {name: factor}
    for factor in [-0.5, -0.21, 0.0, 0.013, 0.1, 0.37, 0.5]:
        yield {"hue": factor}
    for bits in range(1, 9):
        yield {"posterize": bits}
    for threshold in [0.0, 76.5, 128.0, 255.0]:
        yield {"solarize": threshold}
    yield {"gaussian_blur": {"kernel": [3, 3], "sigma": 0.4}}
    yield {"gaussian_blur": {"kernel": [7, 5], "sigma": 1.7}}
    yield {"erase": {"area": {"top": 3, "left": 5, "height": 4, "width": 6}, "ink": {"pixel": [124, 116, 104]}}}
    yield from ["horizontal_flip", "vertical_flip", "grayscale", "equalize", "autocontrast", "invert"]


def case(shape, smooth, step):
    img = run(picture(*shape, smooth), step)
    data = np.asarray(img)
    planes = data.transpose(2, 0, 1) if data.ndim == 3 else data[None]
    data = np.ascontiguousarray(planes).tobytes()
    found = hashlib.sha256(data).hexdigest() if len(data) > LARGE else data.hex()
    return {"shape": list(shape), "smooth": smooth, "step": step, "size": [img.height, img.width], "expected": found}


def functions():
    for step in steps():
        yield case((3, 13, 17), False, step)
        smooth = isinstance(step, str) or set(step) & {"contrast", "saturation", "hue", "sharpness", "gaussian_blur"}
        if smooth:
            yield case((3, 13, 17), True, step)
            yield case((1, 13, 17), True, step)
    # One channel, larger pictures, square ones.
    look = {"interpolation": "bilinear", "fill": [7, 8, 9]}
    yield case((1, 13, 17), False, {"rotate": {"angle": 40.0, **look}})
    yield case((1, 13, 17), False, {"resized_crop": {"area": {"top": 0, "left": 0, "height": 13, "width": 16},
                                                    "size": [6, 6], "interpolation": "bilinear"}})
    for angle in [90.0, 270.0, -90.0, 45.0]:
        yield case((3, 12, 12), False, {"rotate": {"angle": angle, "interpolation": "nearest", "fill": [1, 2, 3]}})
    for step in ["equalize", "autocontrast", {"hue": 0.31}, {"saturation": 1.6}, {"sharpness": 0.3}, {"contrast": 0.45},
                 {"gaussian_blur": {"kernel": [23, 23], "sigma": 2.0}}, {"rotate": {"angle": 12.3, **look}},
                 {"resized_crop": {"area": {"top": 20, "left": 41, "height": 301, "width": 333}, "size": [224, 224],
                                   "interpolation": "bilinear"}},
                 {"resized_crop": {"area": {"top": 0, "left": 0, "height": 375, "width": 500}, "size": [40, 30],
                                   "interpolation": "bilinear"}}]:
        yield case((3, 375, 500), True, step)
        # Sums in another order round differently where values lie close to halves, in some rough pictures of a blur.
        if "gaussian_blur" not in step:
            yield case((3, 375, 500), False, step)


def spaces():
    """The tables of magnitudes."""
    for name, policy, args in [("rand_augment", autoaugment.RandAugment(), (31, (224, 192))),
                               ("rand_augment", autoaugment.RandAugment(num_magnitude_bins=10), (10, (32, 33))),
                               ("trivial_augment_wide", autoaugment.TrivialAugmentWide(), (31,)),
                               ("aug_mix", autoaugment.AugMix(), (10, (97, 33)))]:
        table = policy._augmentation_space(*args)
        rows = [[op, signed, [float(m) for m in magnitudes.reshape(-1)]] for op, (magnitudes, signed) in table.items()]
        yield {"name": name, "bins": args[0], "size": list(args[1]) if len(args) > 1 else [1, 1], "rows": rows}


def operations():
    """`_apply_op`."""
    for op, magnitude in [("ShearX", 0.21), ("ShearX", -0.3), ("ShearY", 0.13), ("TranslateX", 4.7), ("TranslateX", -4.7),
                          ("TranslateY", 3.2), ("Rotate", -21.0), ("Brightness", -0.4), ("Color", 0.7), ("Contrast", 0.3),
                          ("Sharpness", 0.9), ("Posterize", 5), ("Solarize", 93.5), ("AutoContrast", 0.0),
                          ("Equalize", 0.0), ("Identity", 0.0)]:
        img = autoaugment._apply_op(picture(3, 13, 17, True), op, magnitude, InterpolationMode.NEAREST, None)
        yield {"operation": op, "magnitude": magnitude, "expected": np.asarray(img).transpose(2, 0, 1).tobytes().hex()}


def crops():
    """Where ten_crop looks, found by what it sees of a picture whose pixels say where they are."""
    img = Image.fromarray((np.mgrid[:14, :11][0] * 11 + np.mgrid[:14, :11][1]).astype(np.uint8))
    return [np.asarray(crop).tobytes().hex() for crop in F.ten_crop(img, [5, 8])]


def mixtures():
    images = torch.arange(3 * 2 * 4 * 6, dtype=torch.float32).reshape(3, 2, 4, 6).sin()
    labels = torch.tensor([2, 0, 3])
    mixup, cutmix = v2.MixUp(num_classes=4), v2.CutMix(num_classes=4)
    params = {"labels": labels, "batch_size": 3}
    for lam in [0.3, 0.951]:
        yield {"mix": "mixup", "lambda": lam,
               "images": mixup.transform(images, {**params, "lam": lam}).flatten().tolist(),
               "targets": mixup._mixup_label(labels, lam=lam).flatten().tolist()}
    for lam, row, column in [(0.3, 1, 4), (0.9, 3, 0), (0.0, 0, 5), (1.0, 2, 2)]:
        drawn = iter([torch.tensor([column]), torch.tensor([row])])
        real, torch.randint = torch.randint, lambda *_, **__: next(drawn)
        cutmix._dist = type("Fixed", (), {"sample": staticmethod(lambda _: torch.tensor([lam], dtype=torch.float64))})
        made = cutmix.make_params([images])
        torch.randint = real
        yield {"mix": "cutmix", "lambda": lam, "center": [row, column],
               "images": cutmix.transform(images, {**params, **made}).flatten().tolist(),
               "targets": cutmix._mixup_label(labels, lam=made["lam_adjusted"]).flatten().tolist()}


if __name__ == "__main__":
    golden = {"functions": list(functions()), "spaces": list(spaces()), "operations": list(operations()),
              "crops": crops(), "perspectives": [[*corners, F._get_perspective_coeffs(*corners)] for corners in CORNERS],
              "mixtures": list(mixtures())}
    lines = [f"{json.dumps(key)}:[\n" + ",\n".join(json.dumps(x, separators=(",", ":")) for x in values) + "\n]"
             for key, values in golden.items()]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
