//! How torchvision's default weights (0.29) of a network are used: the size to which a picture's shorter side is resized, what is
//! cut out of its middle, how pixels between pixels are found, and what is subtracted and divided by.

use super::find;

/// What is done to a picture before a network sees it that has torchvision's default weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Pixels of the shorter side before the middle is cut out.
    pub resize: usize,
    /// Side of the square that is cut out.
    pub crop: usize,
    /// Whether resizing is bicubic; bilinear otherwise. Both are antialiased.
    pub bicubic: bool,
    /// What is subtracted from red, green and blue in 0..1.
    pub mean: [f32; 3],
    /// What they are divided by then.
    pub std: [f32; 3],
}

/// What most weights want.
const USUAL: Published =
    Published { resize: 256, crop: 224, bicubic: false, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
/// Numbers from -1 to 1: for the first inception networks, what `transform_input` makes of the usual ones.
const HALF: Published = Published { mean: [0.5; 3], std: [0.5; 3], ..USUAL };

/// Names of weights of torchvision's newer recipe, whose pictures are resized to 232 pixels.
const NEWER: &[&str] = &[
    "convnext_base",
    "convnext_large",
    "mnasnet0_75",
    "mnasnet1_3",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
    "wide_resnet50_2",
    "wide_resnet101_2",
];

/// Families of torchvision; others have no published weights.
const FAMILIES: &[&str] = &[
    "AlexNet",
    "VGG",
    "GoogLeNet",
    "ResNet",
    "ResNeXt",
    "Wide ResNet",
    "DenseNet",
    "Inception v3",
    "SqueezeNet",
    "MobileNet v2",
    "MobileNet v3",
    "ShuffleNet v2",
    "MNASNet",
    "EfficientNet",
    "EfficientNet V2",
    "RegNet",
    "ConvNeXt",
];

/// How the default weights of that name are used; nothing for networks that torchvision does not have.
///
/// ```
/// let published = convnet::zoo::published("efficientnet_b3").unwrap();
/// assert_eq!((published.resize, published.crop, published.bicubic), (320, 300, true));
/// assert!(convnet::zoo::published("lenet5").is_none());
/// ```
pub fn published(name: &str) -> Option<Published> {
    let sized = |resize, crop| Published { resize, crop, ..USUAL };
    let bicubic = |resize, crop| Published { bicubic: true, ..sized(resize, crop) };
    let model = find(name).ok().filter(|model| FAMILIES.contains(&model.family))?;
    Some(match model.name {
        "alexnet_2012" | "googlenet_v1" => return None,
        "googlenet" => HALF,
        "inception_v3" => Published { resize: 342, crop: 299, ..HALF },
        "convnext_tiny" => sized(236, 224),
        "convnext_small" => sized(230, 224),
        "efficientnet_b0" => bicubic(256, 224),
        "efficientnet_b1" => sized(255, 240),
        "efficientnet_b2" => bicubic(288, 288),
        "efficientnet_b3" => bicubic(320, 300),
        "efficientnet_b4" => bicubic(384, 380),
        "efficientnet_b5" => bicubic(456, 456),
        "efficientnet_b6" => bicubic(528, 528),
        "efficientnet_b7" => bicubic(600, 600),
        "efficientnet_v2_s" => sized(384, 384),
        "efficientnet_v2_m" => sized(480, 480),
        "efficientnet_v2_l" => Published { resize: 480, crop: 480, bicubic: true, ..HALF },
        // Weights that were tuned at a larger size than the network's own (SWAG).
        "regnet_y_128gf" => bicubic(384, 384),
        name if NEWER.contains(&name) || model.family == "RegNet" => sized(232, 224),
        _ => USUAL,
    })
}
