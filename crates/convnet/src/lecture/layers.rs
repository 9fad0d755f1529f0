//! L5 to L9: what a CNN is made of, and the arithmetic of its layers.

use super::figure::{NO_UNIT, PARAMETERS, PIXELS, product};
use super::live::{chain, conv, layer, maps, named, run, side, table, weights};
use super::{Block, Figure, Text};
use crate::Result;
use crate::columns::thousands;
use crate::geometry::{Padding, Window};
use crate::net::Net;
use crate::ops::{Conv2d, Linear, Op};

/// L5.
pub(super) fn parts() -> Result<Vec<Block>> {
    let mut rows = Vec::new();
    let mut of_vgg = None;
    for (name, year) in
        [("alexnet_2012", 2012), ("vgg16", 2014), ("googlenet", 2014), ("resnet50", 2015), ("densenet121", 2016)]
    {
        let parts = named(name)?.table(1);
        let [features, classifier, total] = [parts.features, parts.classifier, parts.total].map(|part| part.params);
        let share = format!("{:.1} %", 100.0 * classifier as f64 / total as f64);
        rows.push(vec![name.to_owned(), year.to_string(), thousands(features), thousands(classifier), share]);
        if name == "vgg16" {
            of_vgg = Some(Figure::new(
                Text::new("vgg16's fully connected part", "vgg16의 fully connected 부분"),
                classifier,
                PARAMETERS,
            ));
        }
    }
    let headings = [
        Text::new("network", "신경망"),
        Text::new("year", "연도"),
        Text::new("features", "feature extraction"),
        Text::new("fully connected", "fully connected"),
        Text::new("share", "비율"),
    ];
    Ok([
        Block::Words(Text::new(
            "A CNN has two parts. Convolution and pooling layers slide over the picture and extract features; fully connected \
             layers at the end put everything together and decide. The second part is shrinking: the more parameters there \
             are to train, the harder it is to learn, and the worse the generalization performance, which is how well it works \
             on pictures that it was not trained on.",
            "CNN은 두 부분으로 이루어진다. convolution layer와 pooling layer는 이미지를 훑어서 특징을 뽑아내고(feature extraction), 마지막의 \
             fully connected layer는 다 합쳐서 최종 결과를 낸다(decision making). 요새는 이 뒷부분을 최소화하거나 없애는 추세이다. 학습할 \
             파라미터가 늘어나면 학습이 어려워지고, 학습에 쓰지 않은 데이터에서 얼마나 잘 동작하는지를 뜻하는 generalization performance가 \
             떨어지기 때문이다.",
        )),
        Block::Words(Text::new("The trend, counted in the networks of this lecture:", "이 강의에 나오는 신경망들을 세어 보면 추세가 보인다.")),
        Block::Exhibit(table(1, &headings, &rows)),
    ]
    .into_iter()
    .chain(of_vgg.map(Block::Figure))
    .chain([
        Block::Slip(Text::new(
            "Pooling is not only averaging: most of these networks take the maximum (max pooling). And many parameters need not \
             overfit; regularisation, augmentation and more data matter as much. What is \
             sure is that the fully connected part held most of the weights, and that networks without it do better: since GoogLeNet one mean per channel (global average pooling) \
             feeds a single layer.",
            "pooling이 average pooling만 있는 것은 아니다. 여기 나오는 신경망은 대부분 최댓값을 고르는 max pooling을 쓴다. 또 파라미터가 많다고 \
             반드시 overfitting하는 것은 아니며 regularization, data augmentation, 데이터의 양도 그만큼 중요하다. 분명한 것은 가중치 대부분이 \
             fully connected 부분에 있었고 그것을 없앤 신경망이 오히려 더 잘한다는 점이다. GoogLeNet부터는 channel마다 평균 하나만 \
             남기고(global average pooling) layer 하나로 결정한다.",
        )),
        Block::Try("convnet summary vgg16", Text::new("its last lines: features, classifier, total", "마지막 줄에서 features, classifier, total을 볼 수 있다")),
        Block::Try("convnet summary googlenet", Text::new("the same for GoogLeNet", "GoogLeNet도 마찬가지로 본다")),
    ])
    .collect())
}

/// The placements of a window along a row of pixels, one line each, under a heading.
fn placements(window: &Window, input: usize) -> Result<Vec<String>> {
    let outputs = side(window, input)?;
    let covers = |place: usize, pixel: usize| {
        (0..window.kernel[1]).any(|tap| window.pixel(1, place, tap, [input; 2]) == Some(pixel))
    };
    let line = |place| (0..input).map(|pixel| if covers(place, pixel) { '#' } else { '.' }).collect();
    let heading = format!("stride {}: {outputs:<6}", window.stride[1]);
    Ok([heading].into_iter().chain((0..outputs).map(line)).collect())
}

/// L6.
pub(super) fn stride() -> Result<Vec<Block>> {
    let strides = [1, 2, 3].map(|stride| Window::square(3).stride(stride));
    let drawn = strides.iter().map(|window| placements(window, 7)).collect::<Result<Vec<_>>>()?;
    let mut blocks = vec![
        Block::Words(Text::new(
            "The stride says how densely the filter is stamped: at every pixel, at every second, and so on. A stride of 2 \
             halves height and width, and so quarters the work of all layers that follow.",
            "Stride는 convolution filter를 얼마나 자주(촘촘히) 찍을지를 말한다. 1이면 모든 픽셀에, 2이면 한 픽셀씩 건너뛰며 찍는다. \
             stride가 2이면 가로세로가 절반이 되고, 뒤따르는 layer들의 계산량은 4분의 1로 준다.",
        )),
        Block::Words(Text::new("A filter of 3 on a row of 7 pixels:", "픽셀 7개 위를 지나가는 크기 3의 filter:")),
        Block::Exhibit(Text::same(super::live::beside(&drawn, "     "))),
    ];
    for window in strides {
        let stride = window.stride[0];
        let name = Text::with(format!("outputs at stride {stride}"), format!("stride {stride}의 출력 개수"));
        let working = format!("⌊(7 − 3) / {stride}⌋ + 1");
        blocks.push(Block::Figure(Figure::new(name, side(&window, 7)?, PIXELS).working(working)));
    }
    let uneven = Window { stride: [1, 2], ..Window::square(3) };
    let [height, width] = uneven.output([7, 7]).map_err(|error| crate::Error::invalid(error.to_string()))?;
    blocks.extend([
        Block::Figure(Figure::size(
            Text::new("7×7, stride 1 down and 2 across", "7×7에 세로 stride 1, 가로 stride 2"),
            [height, width, 1],
        )),
        Block::Slip(Text::new(
            "Where the stride does not divide the room, the result is rounded down, and the last pixels are never looked at: at \
             stride 3 above, the seventh. Some poolings round up instead (GoogLeNet's).",
            "stride로 나누어떨어지지 않으면 내림하므로 마지막 픽셀은 한 번도 보지 않게 된다. 위의 stride 3에서는 일곱째 픽셀이 그렇다. 반대로 \
             올림하는 pooling도 있다(GoogLeNet).",
        )),
        Block::Try(
            "convnet filter --demo --filter outline --stride 4 --out small.png",
            Text::new("a quarter of the height and width", "가로세로가 4분의 1이 된다"),
        ),
    ]);
    Ok(blocks)
}

/// L7.
pub(super) fn padding() -> Result<Vec<Block>> {
    let window = Window::square(3).padding(1);
    let mut rows = Vec::new();
    for kernel in [1, 3, 5, 7, 11] {
        let half = kernel / 2;
        let without = side(&Window::square(kernel), 224)?;
        let with = side(&Window::square(kernel).padding(half), 224)?;
        rows.push([kernel, without, half, with].map(|n| n.to_string()).to_vec());
    }
    let headings = [
        Text::new("filter", "filter"),
        Text::new("without padding", "padding 없이"),
        Text::new("k // 2", "k // 2"),
        Text::new("padded by k // 2", "k // 2만큼 padding"),
    ];
    let even = Window::square(4);
    let same = Window { padding: Padding::Same, ..even };
    let (begin, end) = same.pads([224; 2]);
    let strided = side(&window.stride(2), 224)?;
    // The notes' formula as its brackets say: only the padding is divided by the stride.
    let [n, kernel, pixels, step] = [224, 3, 1, 2];
    let misread = (n - kernel + (2 * pixels) / step) + 1;
    Ok(vec![
        Block::Words(Text::new(
            "A filter of size k fits n − k + 1 times into n pixels: each convolution eats the border. Zero padding adds p zeros on \
             every side first. For odd k at stride 1, p = k // 2 keeps the spatial dimension. In general, with stride s and dilation \
             d (1 for an ordinary filter), the output has so many pixels:",
            "크기 k인 filter는 픽셀 n개에 n − k + 1번 들어가므로, convolution을 할 때마다 가장자리가 깎여 나간다. zero padding은 먼저 사방에 \
             0을 p개씩 붙인다. k가 홀수이고 stride가 1이면 p = k // 2일 때 spatial dimension이 그대로 유지된다. 일반적으로 stride가 s, \
             dilation이 d(보통의 filter는 1)일 때 출력의 픽셀 수는 다음과 같다.",
        )),
        Block::Exhibit(Text::same("⌊(n + 2p − d(k − 1) − 1) / s⌋ + 1\n")),
        Block::Words(Text::new("224 pixels, at stride 1:", "224픽셀, stride 1일 때:")),
        Block::Exhibit(table(0, &headings, &rows)),
        Block::Figure(
            Figure::new(Text::new("224, filter 3, padding 1", "224, filter 3, padding 1"), side(&window, 224)?, PIXELS)
                .working("(224 − 3 + 2·1) / 1 + 1")
                .notes(224_u64)
                .remark(Text::new(
                    "The result is right, but the notes' formula (224 − 3 + (2·1)/1) + 1 has a bracket misplaced: the whole \
                     of n − k + 2p is divided by the stride, not the padding alone. At stride 1 nobody notices.",
                    "결과는 맞지만 노트의 식 (224 − 3 + (2·1)/1) + 1은 괄호 위치가 잘못되었다. padding만이 아니라 n − k + 2p 전체를 stride로 \
                     나눠야 한다. stride가 1이면 차이가 드러나지 않는다.",
                )),
        ),
        Block::Figure(
            Figure::new(Text::new("the same at stride 2", "같은 설정에서 stride 2"), strided, PIXELS)
                .working("⌊(224 − 3 + 2·1) / 2⌋ + 1")
                .remark(Text::with(
                    format!("With the notes' brackets it would be (224 − 3 + (2·1)/2) + 1 = {misread}."),
                    format!("노트의 괄호대로 계산하면 (224 − 3 + (2·1)/2) + 1 = {misread}이 되어 버린다."),
                )),
        ),
        Block::Figure(
            Figure::new(
                Text::new("224, filter 4, padding 4 // 2", "224, filter 4, padding 4 // 2"),
                side(&even.padding(2), 224)?,
                PIXELS,
            )
            .working("(224 − 4 + 2·2) / 1 + 1")
            .remark(Text::with(
                format!("k // 2 is one too many for even k. \"Same\" padding adds {} before and {} after: {}.", begin[0], end[0], side(&same, 224)?),
                format!("k가 짝수이면 k // 2로는 1픽셀이 늘어난다. \"same\" padding은 앞에 {}, 뒤에 {}픽셀을 붙여 {}를 유지한다.", begin[0], end[0], side(&same, 224)?),
            )),
        ),
        Block::Slip(Text::new(
            "The notes say that filters larger than 3×3 make the maps smaller, and that VGG uses 3×3 to keep the size. The \
             table shows that each odd size keeps it, with its own padding. What speaks for 3×3 is the parameters (L11).",
            "노트에는 3 × 3보다 큰 filter를 쓰면 feature map이 작아지므로 크기를 유지하려고 3 × 3을 썼다고 되어 있다. 그러나 표에서 보듯 \
             홀수 filter는 알맞은 padding만 주면 모두 크기가 유지된다. 3 × 3을 쓰는 진짜 이유는 파라미터 수이다(L11).",
        )),
        Block::Try(
            "convnet filter --demo --filter box-blur-5x5 --padding 0 --out smaller.png",
            Text::new("300×200 becomes 296×196; leave out --padding and it stays", "300×200이 296×196이 된다. --padding을 빼면 그대로이다"),
        ),
        Block::Try("convnet summary cnn --ksize 7", Text::new("padded by 3: the maps keep their size", "3픽셀씩 padding하므로 map 크기가 유지된다")),
    ])
}

/// L8.
pub(super) fn arithmetic() -> Result<Vec<Block>> {
    let input = [128, 14, 14];
    let net = chain(input, &[("conv", conv(64, Window::square(3).padding(1)))])?;
    let layers = net.table(1);
    let counted = layer(&layers, "conv")?;
    let outputs = counted.output.iter().product();
    let dense = Op::Linear(Linear { bias: false, ..Linear::new(outputs) });
    let dense = chain(input, &[("flatten", Op::Flatten), ("dense", dense)])?;
    Ok(vec![
        Block::Words(Text::new(
            "A convolution from 128 to 64 channels needs 64 filters, and each is as deep as the input: 3×3×128. The size of the \
             picture does not occur: the same filter is used at every place (a shared parameter).",
            "128 channel을 64 channel로 바꾸는 convolution에는 filter가 64개 필요하고, 각 filter의 깊이는 입력과 같아서 3×3×128이다. 이미지의 \
             크기는 식에 나오지 않는다. convolution operator는 하나의 kernel이 모든 위치에 똑같이 적용되는 shared parameter이기 때문이다.",
        )),
        Block::Figure(
            weights(&net, "conv", Text::new("3×3, 128 → 64 channels", "3×3, 128 → 64 channel"))?.notes(73_728_u64),
        ),
        Block::Figure(Figure::new(
            Text::new("biases, one per filter", "bias, filter마다 하나"),
            counted.biases,
            PARAMETERS,
        )),
        Block::Figure(
            Figure::new(
                Text::new("multiply-adds on 14×14", "14×14에서의 곱셈-덧셈 횟수"),
                counted.macs,
                Text::new("MACs", "MAC"),
            )
            .working(format!("{} · 14 · 14", thousands(counted.weights))),
        ),
        Block::Words(Text::new(
            "A dense (fully connected) layer that makes as many outputs of the same 14×14×128 inputs has a weight for every \
             pair of input and output:",
            "같은 14×14×128 입력에서 같은 개수의 출력을 내는 dense layer(fully connected layer)는 입력과 출력의 쌍마다 가중치를 하나씩 갖는다.",
        )),
        Block::Figure(weights(&dense, "dense", Text::new("a dense layer instead", "dense layer로 대신하면"))?.remark(
            Text::with(
                format!("{} times as many.", thousands(layer(&dense.table(1), "dense")?.weights / counted.weights)),
                format!("{}배나 된다.", thousands(layer(&dense.table(1), "dense")?.weights / counted.weights)),
            ),
        )),
        Block::Slip(Text::new(
            "The notes count weights and leave out the 64 biases; convnet counts both, apart. Sharing saves parameters, not work: \
             each weight of the convolution is used 196 times, each of the dense layer once.",
            "노트는 가중치만 세고 bias 64개는 뺐다. convnet은 둘을 따로 센다. 그리고 가중치를 공유하면 파라미터는 줄지만 계산량까지 그만큼 주는 \
             것은 아니다. convolution의 가중치는 하나가 196번 쓰이고 dense layer의 가중치는 한 번씩 쓰인다.",
        )),
        Block::Try(
            "convnet summary vgg11",
            Text::new("weights, biases and MACs of every layer", "layer마다 가중치, bias, MAC을 보여 준다"),
        ),
    ])
}

/// L9.
pub(super) fn pointwise() -> Result<Vec<Block>> {
    // Weights of a grey picture, ITU-R BT.601.
    const LUMA: [f64; 3] = [0.299, 0.587, 0.114];
    const RED: [f64; 4] = [250., 10., 100., 0.];
    const GREEN: [f64; 4] = [10., 250., 100., 0.];
    const BLUE: [f64; 4] = [10., 10., 100., 250.];
    let point = Window::square(1);
    let without_bias = |filters, window| Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(filters, window) });
    let grey = chain([3, 2, 2], &[("grey", without_bias(1, point))])?;
    let shades = run(&grey, &[("grey", &LUMA)], &[RED, GREEN, BLUE].concat())?;
    let rounded: Vec<f64> = shades.iter().map(|shade| shade.round()).collect();
    let plane = |name: &str, numbers: &[f64]| [vec![format!("{name:<9}")], super::live::matrix(numbers, 2)].concat();
    let planes = super::live::beside(
        &[plane("red", &RED), plane("green", &GREEN), plane("blue", &BLUE), plane("1×1 → grey", &rounded)],
        "    ",
    );
    let reduce =
        chain([128, 14, 14], &[("reduce", conv(32, point)), ("conv", conv(128, Window::square(3).padding(1)))])?;
    let direct = chain([128, 14, 14], &[("conv", conv(128, Window::square(3).padding(1)))])?;
    let count = |net: &Net, name: &str| layer(&net.table(1), name).map(|row| row.weights);
    let (first, second) = (count(&reduce, "reduce")?, count(&reduce, "conv")?);
    let table = reduce.table(1);
    let reduced = layer(&table, "reduce")?;
    Ok(vec![
        Block::Words(Text::new(
            "A 1×1 convolution looks at one pixel and mixes its channels: at every pixel the same small dense layer. It leaves \
             height and width alone and changes the number of channels, mostly to reduce it before an expensive convolution. So \
             a network can be deeper with fewer parameters: that is the bottleneck architecture.",
            "1 × 1 convolution은 한 픽셀만 보고 그 픽셀의 channel들을 섞는다. 모든 픽셀에 똑같은 작은 dense layer를 적용하는 셈이다. 가로세로는 \
             그대로 두고 channel 수만 바꾸는데, 주로 비싼 convolution 앞에서 channel 차원을 줄이려고 쓴다. 그러면 layer를 깊게 쌓으면서도 \
             파라미터 수를 줄일 수 있다. 이것이 bottleneck architecture이다.",
        )),
        Block::Words(Text::new(
            "One 1×1 filter of 0.299, 0.587, 0.114 makes a grey picture of a red, a green, a grey and a blue pixel:",
            "값이 0.299, 0.587, 0.114인 1×1 filter 하나가 빨강, 초록, 회색, 파랑 픽셀을 흑백으로 바꾼다.",
        )),
        Block::Exhibit(Text::same(planes)),
        Block::Figure(
            Figure::new(
                Text::new("pixels that one output sees", "출력 하나가 보는 픽셀"),
                reduced.receptive_field[0],
                NO_UNIT,
            )
            .notes(1_u64),
        ),
        Block::Figure(Figure::size(
            Text::new("14×14×128 after 32 filters of 1×1", "14×14×128에 1×1 filter 32개"),
            maps(&reduced.output),
        )),
        Block::Figure(weights(&direct, "conv", Text::new("3×3, 128 → 128 channels", "3×3, 128 → 128 channel"))?),
        Block::Figure(
            Figure::weights(Text::new("1×1 to 32 channels, then 3×3", "1×1로 32 channel, 그다음 3×3"), first + second)
                .working(format!("{} + {}", product(&[1, 1, 128, 32], " · "), product(&[3, 3, 32, 128], " · ")))
                .remark(Text::new(
                    "The figures of L12, where GoogLeNet does this in each block.",
                    "GoogLeNet의 block마다 쓰이는 L12의 숫자이다.",
                )),
        ),
        Block::Slip(Text::new(
            "The notes speak of reducing the channels. A 1×1 convolution may as well widen them, as the last one of ResNet's \
             bottleneck does (L13).",
            "노트는 channel을 줄이는 것만 말하지만, 1×1 convolution은 늘리는 데에도 쓰인다. ResNet bottleneck의 마지막 1×1이 그렇다(L13).",
        )),
        Block::Try(
            "convnet filter --demo --kernel \"0.299 | 0.587 | 0.114\" --out grey.png",
            Text::new("this 1×1×3 filter on a picture of a lighthouse", "이 1×1×3 filter를 등대 그림에 적용한다"),
        ),
        Block::Try(
            "convnet filter --demo --kernel \"0.299 | 0.587 | 0.114\" --kernel \"1 | -1 | 0\" --kernel \"-0.5 | -0.5 | 1\" --raw --sheet mixed.png",
            Text::new(
                "three at once: brightness, red without green, blue without yellow",
                "세 개를 한꺼번에 적용한다: 밝기, 초록을 뺀 빨강, 노랑을 뺀 파랑",
            ),
        ),
        Block::Try(
            "convnet summary resnet50",
            Text::new("1×1, 3×3, 1×1 in every block", "block마다 1×1, 3×3, 1×1이 보인다"),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{agreeing, computed, differing};
    use super::*;

    #[test]
    fn lecture_l5_parameters_per_part() {
        assert_eq!(computed(parts()), ["123,642,856"]);
        let vgg = named("vgg16").unwrap().table(1);
        assert_eq!((vgg.features.params, vgg.total.params), (14_714_688, 138_357_544));
    }

    #[test]
    fn lecture_l6_stride() {
        assert_eq!(computed(stride()), ["5", "3", "2", "5×3×1"]);
        let lines = placements(&Window::square(3).stride(2), 7).unwrap();
        assert_eq!(lines[1..], ["###....", "..###..", "....###"]);
    }

    #[test]
    fn lecture_l7_padding_keeps_the_size() {
        assert_eq!(agreeing(padding()), ["224"]);
        assert_eq!(computed(padding()), ["224", "112", "225"]);
    }

    #[test]
    fn lecture_l8_weights_of_a_convolution() {
        assert_eq!(agreeing(arithmetic()), ["73,728"]);
        assert_eq!(computed(arithmetic()), ["73,728", "64", "14,450,688", "314,703,872"]);
        assert!(differing(arithmetic()).is_empty());
    }

    #[test]
    fn lecture_l9_one_by_one_convolution_sees_one_pixel() {
        assert_eq!(agreeing(pointwise()), ["1"]);
        assert_eq!(computed(pointwise()), ["1", "14×14×32", "147,456", "40,960"]);
    }
}
