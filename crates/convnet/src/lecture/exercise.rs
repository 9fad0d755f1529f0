//! L15: the exercise, a configurable CNN on MNIST.

use super::figure::{NO_UNIT, PARAMETERS, PIXELS, product};
use super::live::{layer, maps, side, table, weights};
use super::{Block, Figure, Text};
use crate::Result;
use crate::columns::thousands;
use crate::geometry::Window;
use crate::ops::{Init, Role};
use crate::train::{Optimizer, Recipe};
use crate::zoo::{Cnn, cnn};

/// L15.
pub(super) fn explain() -> Result<Vec<Block>> {
    let settings = Cnn::default();
    let net = cnn(&settings)?;
    let layers = net.table(1);
    let size = |name: &str| layer(&layers, name).map(|row| maps(&row.output));
    let shown = layers
        .layers
        .iter()
        .filter(|row| row.weights + row.biases > 0 || row.op == "max_pool2d" || row.op == "flatten");
    let rows: Vec<Vec<String>> = shown
        .map(|row| {
            let output =
                if row.output.len() == 3 { product(&maps(&row.output), "×") } else { row.output[0].to_string() };
            let parameters = match row.weights + row.biases {
                0 => "-".to_owned(),
                parameters => thousands(parameters),
            };
            vec![row.name.clone(), row.op.to_owned(), output, parameters]
        })
        .collect();
    let headings = [
        Text::new("layer", "layer"),
        Text::new("op", "연산"),
        Text::new("output", "출력"),
        Text::new("parameters", "파라미터"),
    ];
    Ok([
        vec![
            Block::Words(Text::new(
                "The exercise builds a CNN from settings: for each entry of `cdims` a convolution (padding `ksize` // 2), batch norm, ReLU, 2×2 max \
                 pooling and dropout of whole channels; then flatten; for each entry of `hdims` a linear layer and ReLU; then a linear layer to \
                 the classes. Layers have names and are joined in order. The model `cnn` is that, with the exercise's defaults:",
                "과제는 설정값으로 CNN을 만드는 것이다. `cdims`의 값마다 convolution(padding은 `ksize` // 2), BatchNorm, ReLU, 2×2 max pooling, \
                 dropout(channel 단위)을 쌓고, flatten으로 편 다음, `hdims`의 값마다 linear와 ReLU를 쌓고, 마지막으로 출력 차원까지 linear를 둔다. \
                 각 layer에 이름을 붙여 순서대로 연결한다. 모델 `cnn`이 바로 그것이고 기본값도 과제와 같다.",
            )),
            Block::Exhibit(table(2, &headings, &rows)),
            Block::Figure(Figure::size(Text::new("after the first pooling", "첫 pooling 뒤"), size("pool1")?).notes([14, 14, 32])),
            Block::Figure(Figure::size(Text::new("after the second pooling", "둘째 pooling 뒤"), size("pool2")?).notes([7, 7, 64])),
            Block::Figure(
                Figure::new(Text::new("after flatten", "flatten 뒤"), size("flatten")?[2], NO_UNIT)
                    .working(product(&size("pool2")?, " · "))
                    .notes(3_136_u64),
            ),
            Block::Figure(
                Figure::new(Text::new("28 pixels, filter 3, no padding", "28픽셀, filter 3, padding 없이"), side(&Window::square(3), 28)?, PIXELS)
                    .working("28 − 3 + 1")
                    .notes(26_u64),
            ),
            Block::Figure(
                Figure::new(
                    Text::new("with padding 3 // 2 = 1", "padding 3 // 2 = 1을 주면"),
                    side(&Window::square(3).padding(3 / 2), 28)?,
                    PIXELS,
                )
                .working("(28 + 2) − 3 + 1")
                .notes(28_u64),
            ),
            Block::Figure(weights(&net, "linear1", Text::new("weights of the first linear layer", "첫 linear의 가중치"))?),
            Block::Figure(Figure::new(Text::new("parameters in all", "파라미터 전체"), layers.total.params, PARAMETERS).remark(Text::with(
                format!("{:.1} % of them are behind the flatten.", 100.0 * layers.classifier.params as f64 / layers.total.params as f64),
                format!("{:.1} %가 flatten 뒤에 있다.", 100.0 * layers.classifier.params as f64 / layers.total.params as f64),
            ))),
        ],
        training(&net)?,
        slips(),
        commands(),
    ]
    .concat())
}

/// How it starts and how it is trained.
fn training(net: &crate::net::Net) -> Result<Vec<Block>> {
    let defaults = Recipe::default();
    let deviations: Vec<String> = net
        .parameters()
        .into_iter()
        .filter(|(.., parameter)| parameter.role == Role::Weight)
        .filter_map(|(name, _, parameter)| match parameter.init {
            Init::Normal { std } => Some(format!(
                "{:<8} √(2 / {}) = {std:.4}\n",
                name.trim_end_matches(".weight"),
                fan_in(&parameter.shape)
            )),
            Init::Constant(_) | Init::Uniform { .. } | Init::Dirac { .. } => None,
        })
        .collect();
    let optimizer = match defaults.optimizer.name {
        Optimizer::Adam => "Adam",
        Optimizer::AdamW => "AdamW",
        Optimizer::Sgd => "SGD",
        Optimizer::Lamb => "LAMB",
        Optimizer::Muon => "Muon",
    };
    Ok(vec![
        Block::Words(Text::new(
            "Weights of convolutions and linear layers start as Kaiming He's normal distribution, biases at 0; batch norm starts with weight 1 and \
             bias 0. The standard deviation depends on how many products an output sums:",
            "convolution과 linear의 weight는 Kaiming He normal로, bias는 0으로 초기화한다. BatchNorm은 weight를 1, bias를 0으로 둔다. 표준편차는 출력 \
             하나가 더하는 곱의 개수에 따라 정해진다.",
        )),
        Block::Exhibit(Text::same(deviations.concat())),
        Block::Figure(Figure::new(Text::new("optimizer", "optimizer"), optimizer, NO_UNIT).notes("Adam")),
        Block::Figure(
            Figure::new(Text::new("learning rate", "learning rate"), defaults.optimizer.lr, NO_UNIT).notes(1e-3),
        ),
        Block::Figure(Figure::new(Text::new("batch size", "batch size"), defaults.batch_size, NO_UNIT).notes(256_u64)),
        Block::Figure(Figure::new(Text::new("epochs", "epoch"), defaults.epochs, NO_UNIT).notes(10_u64)),
    ])
}

/// Products that one output sums.
fn fan_in(shape: &[usize]) -> String {
    thousands(shape[1..].iter().product::<usize>() as u64)
}

fn slips() -> Vec<Block> {
    vec![
        Block::Slip(Text::new(
            "The notes divide 28 by 2 to the power of \"the number of hidden layers\". What counts is the number of poolings, one per entry of \
             `cdims`. Here `cdims` and `hdims` both have two entries, so the slip goes unseen.",
            "노트는 28을 \"2^(hidden layer 길이)\"로 나눈다고 한다. 실제로 세어야 하는 것은 pooling의 수, 즉 `cdims`의 길이이다. 여기서는 `cdims`와 \
             `hdims`의 길이가 둘 다 2라서 드러나지 않을 뿐이다.",
        )),
        Block::Slip(Text::new(
            "\"Concatenate all layers\" means joining them one after another (Sequential), not the concatenation of channels of L12 and L14.",
            "\"전체 layer 연결(Concatenate all layers)\"은 layer를 순차적으로(Sequential) 잇는다는 뜻이다. L12와 L14에서 channel을 이어 붙이는 \
             concatenate와는 다르다.",
        )),
        Block::Words(Text::new(
            "\"Very accurate\", say the notes of the result: about 99 % of MNIST's test pictures after ten epochs. Each run leaves a grid of \
             test pictures with predicted and true labels (`predictions.png`) and the accuracy on both sets per epoch (`metrics.jsonl`).",
            "노트는 결과를 두고 \"매우 예측이 정확함을 알 수 있다\"고 한다. 10 epoch이면 MNIST test 이미지의 약 99 %를 맞힌다. 학습할 때마다 예측과 \
             정답을 함께 적은 test 이미지 모음(`predictions.png`)과 epoch마다 training·test set의 accuracy(`metrics.jsonl`)가 남는다.",
        )),
    ]
}

fn commands() -> Vec<Block> {
    vec![
        Block::Try(
            "convnet train",
            Text::new("on built-in digits: nothing to fetch, about 20 s", "내장된 숫자 이미지로 바로 학습, 20초 정도"),
        ),
        Block::Try(
            "convnet train --data mnist --download",
            Text::new("the exercise itself", "과제 그대로 MNIST로 학습"),
        ),
        Block::Try(
            "convnet train --cdims 16,32,64 --hdims 256 --no-batch-norm",
            Text::new("other settings: compare the curves", "설정을 바꾸고 곡선을 비교해 본다"),
        ),
        Block::Try("convnet eval --run runs/cnn-1", Text::new("the accuracy of a run", "학습한 결과의 정확도")),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{agreeing, computed, differing};
    use super::*;

    #[test]
    fn lecture_l15_shapes_and_settings() {
        let expected = ["14×14×32", "7×7×64", "3,136", "26", "28", "Adam", "0.001", "256", "10"];
        assert_eq!(agreeing(explain()), expected);
        assert!(differing(explain()).is_empty());
        assert_eq!(computed(explain())[5..7], ["3,211,264", "3,363,786"]);
    }

    #[test]
    fn lecture_l15_defaults_are_the_exercises() {
        let Cnn { xdim, ksize, cdims, hdims, ydim, batch_norm, dropout } = Cnn::default();
        assert_eq!((xdim, ksize, cdims, hdims), ([1, 28, 28], 3, vec![32, 64], vec![1024, 128]));
        assert_eq!((ydim, batch_norm, dropout), (10, true, 0.5));
    }
}
