//! L1 to L4: what a convolution is, and what filters do to pictures.

use super::figure::{NO_UNIT, PIXELS, product};
use super::live::{beside, chain, conv, layer, maps, matrix, run, side, weight_axes, weights};
use super::{Block, Figure, Text};
use crate::Result;
use crate::data::bitmap::Bitmap;
use crate::exec::Engine;
use crate::filter::{self, Border, Filter, Kernel, Pass, Placement};
use crate::geometry::Window;
use crate::ops::{Conv2d, Op};

/// L1.
pub(super) fn convolution() -> Result<Vec<Block>> {
    const IMAGE: [f64; 16] = [1., 2., 0., 1., 3., 1., 2., 0., 0., 2., 4., 1., 1., 0., 1., 3.];
    let kernel = Kernel::parse("1 0 2; 0 1 0; 0 0 -1")?;
    let slid = Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(1, Window::square(3)) });
    let net = chain([1, 4, 4], &[("conv", slid)])?;
    let numbers = |kernel: &Kernel| kernel.weights().into_iter().map(f64::from).collect::<Vec<f64>>();
    let slide = |kernel: &Kernel| run(&net, &[("conv", &numbers(kernel))], &IMAGE);
    let (correlated, convolved) = (slide(&kernel)?, slide(&kernel.flipped())?);
    // The first placement, product by product.
    let seen: Vec<f64> = (0..9).map(|i| IMAGE[i / 3 * 4 + i % 3]).collect();
    let products = |kernel: &Kernel| {
        let terms = numbers(kernel).into_iter().zip(&seen).filter(|(weight, _)| *weight != 0.0);
        terms
            .map(
                |(weight, pixel)| {
                    if weight < 0.0 { format!("({weight})·{pixel}") } else { format!("{weight}·{pixel}") }
                },
            )
            .collect::<Vec<String>>()
            .join(" + ")
    };
    let show = |name: &str, result: &[f64]| [vec![format!("{name:<9}")], matrix(result, 2)].concat();
    let grid =
        |name: &str, numbers: &[f64], width: usize| [vec![format!("{name:<11}")], matrix(numbers, width)].concat();
    let (input, flipped) = (grid("I", &IMAGE, 4), kernel.flipped());
    let picture = beside(
        &[input, grid("K", &numbers(&kernel), 3), show("I ⋆ K", &correlated), show("I ∗ K", &convolved)],
        "    ",
    );
    Ok(vec![
        Block::Words(Text::new(
            "A convolution lays a small filter K on every place of the picture I, multiplies what lies on top of each other \
             and adds the products up: each output is a dot product. The formula of the convolution turns the filter by 180° \
             first (its indices have a minus). Networks leave that out: what they call convolution is the cross-correlation, \
             written ⋆. As the filter is learned, it can be learned turned, so nothing is lost.",
            "Convolution은 작은 filter K를 전체 이미지 I의 모든 위치에 찍으면서, 겹치는 값끼리 곱해 모두 더하는 연산이다. \
             즉 출력값 하나는 내적(dot product) 하나이다. convolution의 수식대로라면 filter를 먼저 180° 돌려야 한다(수식의 index가 \
             마이너스이다). 신경망은 이 과정을 생략하므로, 신경망에서 convolution이라고 부르는 것은 사실 cross-correlation(⋆)이다. \
             filter 값은 학습으로 정해지니 돌아간 모양으로 학습되면 그만이고, 잃는 것은 없다.",
        )),
        Block::Exhibit(Text::same(
            "convolution        (I ∗ K)(i, j) = Σ I(i − m, j − n) · K(m, n)\n\
             cross-correlation  (I ⋆ K)(i, j) = Σ I(i + m, j + n) · K(m, n)\n",
        )),
        Block::Words(Text::new("On a picture of 4×4 with a filter of 3×3:", "4×4 이미지에 3×3 filter를 적용하면:")),
        Block::Exhibit(Text::same(picture)),
        Block::Words(Text::new(
            "The top left output of each, computed by hand:",
            "두 결과의 왼쪽 위 값을 손으로 계산해 보면 다음과 같다.",
        )),
        Block::Figure(
            Figure::new(
                Text::new("cross-correlation (networks)", "cross-correlation (신경망)"),
                correlated[0],
                NO_UNIT,
            )
            .working(products(&kernel)),
        ),
        Block::Figure(
            Figure::new(Text::new("convolution (the formula)", "convolution (수식)"), convolved[0], NO_UNIT)
                .working(products(&flipped)),
        ),
        Block::Slip(Text::new(
            "The notes show the formula of the convolution beside the calculation of the cross-correlation and call both \
             convolution, as everybody does. They agree only for filters that look the same after half a turn, such as a blur.",
            "노트는 convolution의 수식 옆에 cross-correlation의 계산법을 놓고 둘 다 convolution이라고 부른다. 다들 그렇게 부르지만, \
             두 결과가 같은 것은 blur처럼 180° 돌려도 모양이 같은 filter뿐이다.",
        )),
        Block::Try(
            "convnet filter --demo --filter emboss,relief --sheet correlation.png",
            Text::new("filters as networks apply them", "신경망 방식으로 filter를 적용한다"),
        ),
        Block::Try(
            "convnet filter --demo --filter emboss,relief --convolution --sheet convolution.png",
            Text::new(
                "the same, turned by 180°: light and shade change sides",
                "filter를 180° 돌려 적용한다. 밝고 어두운 쪽이 뒤바뀐다",
            ),
        ),
    ])
}

/// Characters from dark to bright.
const SHADES: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];
const PICTURE: [usize; 2] = [9, 16];

/// A bright board before a grey wall.
fn picture() -> Result<Bitmap> {
    const ROWS: [&[u8; 16]; 9] = [
        b"................",
        b"................",
        b"...##########...",
        b"...##########...",
        b"...##########...",
        b"...##########...",
        b"...##########...",
        b"................",
        b"................",
    ];
    let pixels = ROWS.iter().flat_map(|row| row.iter().map(|&c| if c == b'#' { 200 } else { 80 })).collect();
    Bitmap::new([1, PICTURE[0], PICTURE[1]], pixels)
}

/// A grey picture as characters under its name.
fn characters(name: &str, picture: &[u8]) -> Vec<String> {
    let width = PICTURE[1];
    let shade = |&pixel: &u8| SHADES[usize::from(pixel) * SHADES.len() / 256];
    let rows = picture.chunks(width).map(|row| row.iter().map(shade).collect());
    [format!("{name:<width$}")].into_iter().chain(rows).collect()
}

/// What a filter makes of a picture, at every place.
fn filtered(engine: &Engine, picture: &Bitmap, filter: Filter) -> Result<Vec<u8>> {
    let placement = Placement { border: Border::Replicate, ..Placement::default() };
    let mut pixels = Vec::new();
    Pass::new(engine, picture, &[filter], &placement)?.run(|bands| {
        pixels.extend_from_slice(&bands[0]);
        Ok::<(), crate::Error>(())
    })?;
    Ok(pixels)
}

/// L2.
pub(super) fn stamps() -> Result<Vec<Block>> {
    const NAMES: [&str; 3] = ["box-blur", "emboss", "outline"];
    let (engine, picture) = (Engine::new(1)?, picture()?);
    let filters = NAMES.map(filter::find).into_iter().collect::<Result<Vec<Filter>>>()?;
    let written: Vec<String> = filters.iter().map(|filter| format!("{:<9} {}\n", filter.name, filter.kernel)).collect();
    let mut shown = vec![characters("picture", picture.pixels())];
    for filter in filters {
        let name = filter.name.clone();
        shown.push(characters(&name, &filtered(&engine, &picture, filter)?));
    }
    let outputs = shown.len() - 1;
    Ok(vec![
        Block::Words(Text::new(
            "To convolve in 2-D is to stamp the filter's shape on the picture, at every pixel. Which shape it is decides what \
             comes out: equal weights blur, a slope from minus to plus embosses, and a peak amid minuses finds outlines. Three \
             filters on one picture give three outputs.",
            "2D Convolution을 한다는 것은 filter의 모양을 이미지의 모든 픽셀에 찍는다는 뜻이다. 어떤 모양을 찍느냐에 따라 결과가 \
             달라진다. 값이 모두 같으면 흐려지고(blur), 음수에서 양수로 기울면 도드라지고(emboss), 가운데만 크고 둘레가 음수면 \
             윤곽선(outline)만 남는다. 한 이미지에 filter 3개를 적용하면 convolution output도 3개가 된다.",
        )),
        Block::Exhibit(Text::same(written.concat())),
        Block::Words(Text::new(
            "Filtered just now by the engine that also runs the networks; dark is blank, @ is bright:",
            "신경망을 실행하는 바로 그 엔진이 방금 계산한 결과이다. 빈칸은 어둡고 @는 밝다.",
        )),
        Block::Exhibit(Text::same(beside(&shown, "    "))),
        Block::Figure(
            Figure::new(Text::new("outputs of three filters", "filter 3개의 output"), outputs, NO_UNIT).notes(3_u64),
        ),
        Block::Words(Text::new(
            "The outline is dark wherever the picture is flat, for its weights add up to 0; those of blur and emboss add up to \
             1, so that flat areas stay as they are.",
            "outline은 가중치의 합이 0이라서 밝기가 일정한 곳은 모두 어두워진다. blur와 emboss는 합이 1이므로 일정한 곳의 밝기가 그대로 \
             남는다.",
        )),
        Block::Try(
            "convnet filter --demo --filter box-blur,emboss,outline --sheet three.png",
            Text::new(
                "the three on a picture of a lighthouse, side by side",
                "등대 그림에 세 filter를 적용해 나란히 놓는다",
            ),
        ),
        Block::Try(
            "convnet filter --demo --kernel \"1 0 -1; 2 0 -2; 1 0 -1\" --out own.png",
            Text::new(
                "a filter of your own; a picture of your own in place of --demo",
                "직접 만든 filter. --demo 자리에 내 사진을 넣어도 된다",
            ),
        ),
        Block::Try("convnet filter --list", Text::new("all filters that have a name", "이름이 있는 filter 전체 목록")),
    ])
}

/// A picture of 3×3 pixels, plane by plane: red, green, blue.
const COLOURS: [[f64; 9]; 3] =
    [[4., 0., 0., 4., 0., 0., 0., 0., 0.], [0., 3., 0., 0., 3., 0., 0., 0., 0.], [1., 1., 1., 1., 1., 1., 1., 1., 5.]];
/// A 2×2×3 filter for it: red with green to its right, and no blue.
const RED_BESIDE_GREEN: &str = "1 0; 1 0 | 0 1; 0 1 | 0 0; 0 -1";
/// Another: blue without red.
const BLUE_NOT_RED: &str = "-1 0; 0 0 | 0 0; 0 0 | 1 0; 0 0";

/// What filters without biases make of [`COLOURS`], and with a second layer what that makes of these.
fn on_colours(filters: &[&str], relu: bool, second: &[f64]) -> Result<Vec<f64>> {
    let convolution = |filters| Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(filters, Window::square(2)) });
    let mut layers = vec![("conv1", convolution(filters.len()))];
    layers.extend(relu.then_some(("relu1", Op::RELU)));
    layers.extend((!second.is_empty()).then(|| ("conv2", convolution(1))));
    let kernels = filters.iter().map(|text| Kernel::parse(text)).collect::<Result<Vec<Kernel>>>()?;
    let first: Vec<f64> = kernels.iter().flat_map(Kernel::weights).map(f64::from).collect();
    let weights = [("conv1", &first[..]), ("conv2", second)];
    run(&chain([3, 3, 3], &layers)?, &weights[..if second.is_empty() { 1 } else { 2 }], COLOURS.as_flattened())
}

/// A named matrix, for [`beside`].
fn plane(name: &str, numbers: &[f64], width: usize) -> Vec<String> {
    [vec![format!("{name:<11}")], matrix(numbers, width)].concat()
}

/// The picture, a filter's three matrices, what each colour adds, and the sum; then the top left number of the last two.
fn colour_by_colour() -> Result<(String, [f64; 4])> {
    let kernel = Kernel::parse(RED_BESIDE_GREEN)?;
    let rows: Vec<Vec<f32>> = kernel.rows().map(<[f32]>::to_vec).collect();
    let matrices: Vec<Vec<Vec<f32>>> = rows.chunks(2).map(<[_]>::to_vec).collect();
    // With the other matrices 0, the sum is one colour's part.
    let part = |colour: usize| {
        let mut alone = vec![vec![vec![0.0; 2]; 2]; 3];
        alone[colour].clone_from(&matrices[colour]);
        on_colours(&[&Kernel::of_channels(&alone, 1.0)?.to_string()], false, &[])
    };
    let parts = (0..3).map(part).collect::<Result<Vec<Vec<f64>>>>()?;
    let sum = on_colours(&[RED_BESIDE_GREEN], false, &[])?;
    let weights: Vec<f64> = kernel.weights().into_iter().map(f64::from).collect();
    let columns = |of: &str, width: usize, numbers: [&[f64]; 3]| {
        let column = |(name, numbers): (&str, &[f64])| plane(&format!("{of} {name}"), numbers, width);
        ["red", "green", "blue"].into_iter().zip(numbers).map(column).collect::<Vec<_>>()
    };
    let picture = columns("I", 3, COLOURS.each_ref().map(|numbers| &numbers[..]));
    let filter = columns("K", 2, [0, 4, 8].map(|at| &weights[at..][..4]));
    let mut sums = columns("I ⋆ K", 2, [0, 1, 2].map(|colour| &parts[colour][..]));
    sums.push(plane("sum", &sum, 2));
    let exhibit = [picture, filter, sums].map(|columns| beside(&columns, "   ")).join("\n");
    Ok((exhibit, [parts[0][0], parts[1][0], parts[2][0], sum[0]]))
}

/// L3.
pub(super) fn channels() -> Result<Vec<Block>> {
    let net = chain([3, 32, 32], &[("conv", conv(1, Window::square(5)))])?;
    let (planes, [red, green, blue, sum]) = colour_by_colour()?;
    let table = net.table(1);
    let conv = layer(&table, "conv")?;
    let axes = weight_axes(&net, "conv")?;
    Ok(vec![
        Block::Words(Text::new(
            "A colour picture has three planes: red, green and blue. \"A 5×5 filter\" on it is short for 5×5×3: a filter is \
             always as deep as its input, so nobody says the depth. It slides over height and width alone, and the products of \
             all three planes go into one sum. So one filter gives one output plane, whatever the number of input planes.",
            "RGB 이미지는 빨강, 초록, 파랑의 세 평면으로 되어 있다. 5 × 5 filter를 쓴다는 말은 5 × 5 × 3 filter(kernel)를 쓴다는 말이다. \
             filter의 깊이는 언제나 입력의 channel 수와 같으므로 굳이 말하지 않는다. filter는 가로세로로만 움직이고, 세 평면의 곱이 \
             모두 합 하나로 더해진다. 그래서 입력 평면이 몇 개든 filter 하나는 출력 평면 하나를 낸다.",
        )),
        Block::Words(Text::new(
            "On a picture of 3×3 with a 2×2×3 filter, computed just now: each colour has its own matrix, and the three results \
             are added up.",
            "3×3 RGB 이미지에 2×2×3 filter를 방금 적용한 결과이다. 색마다 자기 행렬이 있고, 세 결과를 더해 평면 하나가 된다.",
        )),
        Block::Exhibit(Text::same(planes)),
        Block::Figure(
            Figure::new(Text::new("its top left output", "왼쪽 위 출력값"), sum, NO_UNIT)
                .working(format!("{red} + {green} + ({blue})")),
        ),
        Block::Words(Text::new("In the sizes of the notes:", "노트의 크기로는 다음과 같다.")),
        Block::Exhibit(Text::with(
            format!("{} ∗ one filter {} → {}\n", sizes(&conv.input), product(&axes[..3], "×"), sizes(&conv.output)),
            format!("{} ∗ filter 1개 {} → {}\n", sizes(&conv.input), product(&axes[..3], "×"), sizes(&conv.output)),
        )),
        Block::Figure(
            Figure::size(Text::new("a 5×5 filter on RGB", "RGB에 쓰는 5×5 filter"), [axes[0], axes[1], axes[2]])
                .notes([5, 5, 3]),
        ),
        Block::Figure(weights(&net, "conv", Text::new("weights of one filter", "filter 1개의 가중치"))?),
        Block::Figure(Figure::size(Text::new("its output on 32×32×3", "32×32×3에 적용한 output"), maps(&conv.output))),
        Block::Slip(Text::new(
            "\"The filter always has the same size\" holds for the depth. The exception is the grouped convolution, whose \
             filters see a part of the channels only: AlexNet's two towers (L10).",
            "\"filter 크기는 항상 같다\"는 말은 깊이(channel)에 대한 이야기이다. 예외는 channel의 일부만 보는 grouped convolution으로, \
             AlexNet의 두 갈래(L10)가 그렇다.",
        )),
        Block::Try(
            "convnet filter --demo --filter sharpen --out sharp.png",
            Text::new(
                "each colour filtered by itself, as picture editors do",
                "사진 편집기처럼 색마다 따로 filter를 적용한다",
            ),
        ),
        Block::Try(
            "convnet filter --demo --kernel \"-1 0 1; -2 0 2; -1 0 1 | 0 0 0; 0 0 0; 0 0 0 | 1 0 -1; 2 0 -2; 1 0 -1\" --sheet plane.png",
            Text::new(
                "a 3×3×3 filter, as networks apply it: one plane, bright where red minus blue changes from left to right",
                "신경망처럼 3×3×3 filter를 적용한다. 출력은 평면 하나이고, 빨강과 파랑의 차이가 가로로 변하는 곳이 밝다",
            ),
        ),
        Block::Try(
            "convnet summary alexnet",
            Text::new("the first layer: 64 filters of 11×11×3", "첫 layer는 11×11×3 filter 64개이다"),
        ),
    ])
}

/// `[channels, height, width]` as the notes write it.
fn sizes(axes: &[usize]) -> String {
    product(&maps(axes), "×")
}

/// L4.
pub(super) fn stack() -> Result<Vec<Block>> {
    let window = Window::square(5);
    let layers = [("conv1", conv(4, window)), ("relu1", Op::RELU), ("conv2", conv(10, window)), ("relu2", Op::RELU)];
    let net = chain([3, 32, 32], &layers)?;
    let table = net.table(1);
    let (first, second) = (layer(&table, "relu1")?, layer(&table, "relu2")?);
    let depths = [weight_axes(&net, "conv1")?, weight_axes(&net, "conv2")?];
    let deep = |axes: &[usize]| product(&axes[..3], "×");
    let road = format!(
        "{} ─ {} × ({}), ReLU → {} ─ {} × ({}), ReLU → {}\n",
        sizes(&table.input),
        depths[0][3],
        deep(&depths[0]),
        sizes(&first.output),
        depths[1][3],
        deep(&depths[1]),
        sizes(&second.output),
    );
    let two = [RED_BESIDE_GREEN, BLUE_NOT_RED];
    let (sums, clamped) = (on_colours(&two, false, &[])?, on_colours(&two, true, &[])?);
    let last = on_colours(&two, true, &[1., 1., 1., 1., 2., 2., 2., 2.])?;
    let planes = beside(
        &[
            plane("filter 1", &sums[..4], 2),
            plane("filter 2", &sums[4..], 2),
            plane("ReLU 1", &clamped[..4], 2),
            plane("ReLU 2", &clamped[4..], 2),
            plane("one filter 2×2×2", &last, 1),
        ],
        "    ",
    );
    Ok(vec![
        Block::Words(Text::new(
            "Each filter gives one output plane, so there are as many output channels as filters. They are the input of the \
             next convolution, whose filters are as deep as that. After each convolution comes a non-linearity, here ReLU: \
             without it, two convolutions in a row would be no more than one larger one.",
            "filter 하나가 출력 평면 하나를 내므로 output channel 수는 filter 개수와 같다. 이 output이 다음 convolution의 입력이 되고, 다음 \
             filter의 깊이도 그만큼이 된다. convolution을 거치고 나면 nonlinear activation이 들어가는데 여기서는 ReLU이다. 이것이 없으면 \
             convolution을 두 번 이어 붙여도 더 큰 convolution 하나와 다를 것이 없다.",
        )),
        Block::Words(Text::new(
            "The picture of L3 under two filters of 2×2×3: two planes, then ReLU, then a filter of 2×2×2 with weights of 1 for \
             the first plane and 2 for the second. All of it is computed just now.",
            "L3의 이미지에 2×2×3 filter 2개를 적용하면 평면이 2개 나온다. 여기에 ReLU를 거친 뒤, 첫 평면의 가중치가 1이고 둘째 평면의 가중치가 2인 \
             2×2×2 filter를 적용한다. 모두 방금 계산한 값이다.",
        )),
        Block::Exhibit(Text::same(planes)),
        Block::Words(Text::new("In the sizes of the notes:", "노트의 크기로는 다음과 같다.")),
        Block::Exhibit(Text::same(road)),
        Block::Figure(
            Figure::size(Text::new("after 4 filters of 5×5×3", "5×5×3 filter 4개를 거친 뒤"), maps(&first.output))
                .notes([28, 28, 4]),
        ),
        Block::Figure(
            Figure::size(Text::new("after 10 filters of 5×5×4", "5×5×4 filter 10개를 거친 뒤"), maps(&second.output))
                .notes([24, 24, 10]),
        ),
        Block::Figure(
            Figure::new(Text::new("side after one 5×5", "5×5 한 번 뒤의 한 변"), side(&window, 32)?, PIXELS)
                .working("32 − 5 + 1"),
        ),
        Block::Figure(weights(&net, "conv1", Text::new("weights of the first", "첫 convolution의 가중치"))?),
        Block::Figure(weights(&net, "conv2", Text::new("weights of the second", "둘째 convolution의 가중치"))?),
        Block::Slip(Text::new(
            "The notes count no biases. In practice each filter has one: 4 and 10 more parameters here (L8).",
            "노트는 bias를 세지 않는다. 실제로는 filter마다 bias가 하나씩 있어 여기서는 4개와 10개가 더해진다(L8).",
        )),
        Block::Try(
            "convnet summary cnn --input 3x32x32 --cdims 4,10 --ksize 5",
            Text::new("a net with these filters, and pooling between them", "같은 filter에 pooling을 더한 신경망의 표"),
        ),
        Block::Try(
            "convnet filter --demo --kernel \"-1 0 1 | -1 0 1 | -1 0 1\" --kernel \"-1; 0; 1 | -1; 0; 1 | -1; 0; 1\" --kernel \"1 | -1 | 0\" --kernel \"-1 | 0 | 1\" --relu --sheet maps.png",
            Text::new(
                "four filters that see all colours: four planes after ReLU, as the next convolution gets them",
                "모든 색을 보는 filter 4개를 적용한다. ReLU를 거친 평면 4개가 다음 convolution의 입력이 된다",
            ),
        ),
        Block::Try(
            "convnet train --cdims 4,10 --ksize 5 --epochs 2 --out runs/stack",
            Text::new("and trained, on the built-in digits", "내장된 숫자 이미지로 학습까지 해 본다"),
        ),
        Block::Try(
            "convnet filter --demo --grey --weights runs/stack/best.safetensors --sheet learned.png",
            Text::new("its four filters, as they were learned", "학습된 filter 4개를 그림에 적용해 본다"),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{agreeing, computed};
    use super::*;

    #[test]
    fn lecture_l1_convolution_is_correlation_with_a_turned_filter() {
        // By hand: 1·1 + 2·0 + 1·1 - 1·4 = -2 and -1·1 + 1·1 + 2·0 + 1·4 = 4.
        assert_eq!(computed(convolution()), ["-2", "4"]);
    }

    #[test]
    fn lecture_l2_three_filters_give_three_outputs() {
        assert_eq!(agreeing(stamps()), ["3"]);
        let engine = Engine::new(1).unwrap();
        let of = |name| filtered(&engine, &picture().unwrap(), filter::find(name).unwrap()).unwrap();
        // A flat corner stays, or answers 0; the board's corner has its neighbours' mean, and an outline; its middle none.
        assert_eq!(["box-blur", "emboss", "outline"].map(|name| of(name)[0]), [80, 80, 0]);
        assert_eq!(of("box-blur")[2 * 16 + 3], 80 + (120.0 * 4.0_f32 / 9.0).round() as u8);
        assert_eq!([2 * 16 + 3, 4 * 16 + 7].map(|place| of("outline")[place]), [255, 0]);
    }

    #[test]
    fn lecture_l3_filters_are_as_deep_as_the_picture() {
        assert_eq!(agreeing(channels()), ["5×5×3"]);
        // Red twice 4, green twice 3, blue once -1.
        assert_eq!(computed(channels()), ["13", "5×5×3", "75", "28×28×1"]);
        let (shown, parts) = colour_by_colour().unwrap();
        assert_eq!(parts, [8.0, 6.0, -1.0, 13.0]);
        assert!(shown.contains("I ⋆ K red     I ⋆ K green   I ⋆ K blue    sum\n"), "{shown}");
    }

    #[test]
    fn lecture_l4_filters_become_channels() {
        assert_eq!(agreeing(stack()), ["28×28×4", "24×24×10"]);
        let two = [RED_BESIDE_GREEN, BLUE_NOT_RED];
        assert_eq!(on_colours(&two, false, &[]).unwrap(), [13., -1., 6., -5., -3., 1., -3., 1.]);
        assert_eq!(on_colours(&two, true, &[1., 1., 1., 1., 2., 2., 2., 2.]).unwrap(), [19.0 + 2.0 * 2.0]);
        assert_eq!(computed(stack()), ["28×28×4", "24×24×10", "28", "300", "1,000"]);
    }
}
