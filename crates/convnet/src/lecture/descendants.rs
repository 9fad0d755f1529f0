//! L16: how later families descend from the lecture's five.

use super::figure::{PARAMETERS, product};
use super::live::{layer, named, table, weight_axes};
use super::{Block, Figure, Lang, Text};
use crate::Result;
use crate::columns::thousands;

/// A family's smallest net or best known one, what it comes from, and what is new in it.
const FAMILIES: [(&str, &str, [&str; 2]); 9] = [
    ("inception_v3", "GoogLeNet", ["n×n kernels as 1×n and n×1", "n×n kernel을 1×n과 n×1로"]),
    ("resnext50_32x4d", "ResNet", ["3×3 in 32 groups", "3×3을 32개 group으로"]),
    ("squeezenet1_1", "GoogLeNet", ["1×1 beside 3×3, no dense layer", "1×1 옆에 3×3, dense layer 없음"]),
    ("mobilenet_v2", "ResNet", ["wide inside, 3×3 per channel", "안쪽이 넓고, 3×3은 channel마다"]),
    ("shufflenet_v2_x1_0", "DenseNet", ["half the channels pass, shuffle", "channel 절반은 그대로, 섞기"]),
    ("mnasnet1_0", "ResNet", ["kernels and depths by search", "kernel과 깊이를 탐색으로"]),
    ("efficientnet_b0", "ResNet", ["channels weighed by their means", "channel마다 평균으로 가중"]),
    ("regnet_y_400mf", "ResNet", ["widths that grow by a line", "너비가 직선으로 증가"]),
    ("convnext_tiny", "ResNet", ["7×7 per channel, layer norm", "7×7은 channel마다, layer norm"]),
];

/// L16.
pub(super) fn explain() -> Result<Vec<Block>> {
    let headings = [
        Text::new("model", "모델"),
        Text::new("from", "뿌리"),
        Text::new("what is new", "새로운 점"),
        Text::new("parameters", "파라미터"),
    ];
    let rows = FAMILIES.iter().map(|&(name, from, news)| {
        let count = thousands(named(name)?.parameter_count());
        Ok(news.map(|new| vec![name.to_owned(), from.to_owned(), new.to_owned(), count.clone()]))
    });
    let rows = rows.collect::<Result<Vec<[Vec<String>; 2]>>>()?;
    let [en, ko] =
        [0, 1].map(|lang| table(3, &headings, &rows.iter().map(|row| row[lang].clone()).collect::<Vec<_>>()));
    let (mobile, inside) = (named("mobilenet_v2")?, "features.17.conv.1.0");
    let layers = mobile.table(1);
    let depthwise = layer(&layers, inside)?.weights;
    let axes = weight_axes(&mobile, inside)?;
    let (height, width, filters) = (axes[0], axes[1], axes[3]);
    let dense = (height * width * filters * filters) as u64;
    let pointwise = layer(&layers, "features.17.conv.2")?.weights;
    Ok(vec![
        Block::Words(Text::new(
            "What came after these five keeps their ideas: VGGNet's small kernels in stages, GoogLeNet's 1×1 convolution and parallel \
             branches, ResNet's skip connection, DenseNet's concatenation. Most of what is new makes the 3×3 convolution cheaper.",
            "이 다섯 이후에 나온 모델도 같은 생각을 이어간다. VGGNet의 작은 kernel, GoogLeNet의 1 × 1 conv와 나란한 branch, ResNet의 skip connection, \
             DenseNet의 concatenation이다. 새로운 것은 대부분 3 × 3 conv를 싸게 만드는 방법이다.",
        )),
        Block::Exhibit(Text::with(en.get(Lang::En).to_owned(), ko.get(Lang::Ko).to_owned())),
        Block::Figure(
            Figure::weights(Text::new("3×3 from 960 to 960 channels", "960 channel을 960 channel로 보내는 3×3"), dense)
                .working(product(&[height, width, filters, filters], " · ")),
        ),
        Block::Figure(
            Figure::weights(
                Text::new("one 3×3 filter per channel (depthwise)", "channel마다 3×3 하나씩 (depthwise)"),
                depthwise,
            )
            .working(product(&[height, width, filters], " · "))
            .remark(Text::with(
                format!("The 1×1 convolution after it, which mixes the channels, has {}.", thousands(pointwise)),
                format!("channel을 섞는 것은 그다음 1×1 conv이고, weight는 {}개다.", thousands(pointwise)),
            )),
        ),
        Block::Figure(Figure::new(
            Text::new("all of MobileNet v2 (VGG-16: 138 million)", "MobileNet v2 전체 (VGG-16은 1억 3,800만)"),
            mobile.parameter_count(),
            PARAMETERS,
        )),
        Block::Try(
            "convnet models",
            Text::new("all of them, with parameters and multiply-adds", "모든 모델의 파라미터와 곱셈 수"),
        ),
        Block::Try(
            "convnet summary mobilenet_v2",
            Text::new("inverted residuals in the summary", "inverted residual을 summary에서 본다"),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::tests::computed;
    use super::*;

    #[test]
    fn depthwise_filters_are_few() {
        assert_eq!(computed(explain()), ["8,294,400", "8,640", "3,504,872"]);
    }
}
