//! L11: VGGNet, and why 3×3.

use super::figure::{PIXELS, product};
use super::live::{chain, conv, layer, maps, named, table, weight_axes, weights};
use super::{Block, Figure, Text};
use crate::Result;
use crate::columns::thousands;
use crate::geometry::Window;
use crate::ops::Op;

/// The pixels of one row that an element sees through one window after another, line by line from the output down.
fn cone(steps: usize) -> String {
    let widths = (0..=steps).map(|step| 2 * step + 1);
    let side = 2 * steps + 1;
    let line = |(step, width): (usize, usize)| {
        let margin = " ".repeat(side - width);
        let label = ["", "3×3", "3×3"][step.min(2)];
        format!("{margin}{}{margin}   {label}", vec!["#"; width].join(" ")).trim_end().to_owned() + "\n"
    };
    widths.enumerate().map(line).collect()
}

/// L11.
pub(super) fn explain() -> Result<Vec<Block>> {
    let small = Window::square(3).padding(1);
    let twice = chain([128, 28, 28], &[("first", conv(128, small)), ("relu", Op::RELU), ("second", conv(128, small))])?;
    let once = chain([128, 28, 28], &[("wide", conv(128, Window::square(5).padding(2)))])?;
    let (two, one) = (twice.table(1), once.table(1));
    let sum = layer(&two, "first")?.weights + layer(&two, "second")?.weights;
    let each = product(&weight_axes(&twice, "first")?, " · ");
    let seen = |table: &crate::net::Table, name: &str| layer(table, name).map(|row| row.receptive_field[0]);
    let vgg = named("vgg16")?.table(1);
    let mut stages =
        vec![[&"input".to_owned(), &product(&maps(&vgg.input), "×"), &"1".to_owned()].map(String::clone).to_vec()];
    for row in vgg.layers.iter().filter(|row| row.op == "max_pool2d") {
        let size = product(&maps(&row.output), "×");
        stages.push(vec![row.name.clone(), size, row.receptive_field[0].to_string()]);
    }
    let headings = [
        Text::new("after", "layer"),
        Text::new("height × width × channels", "높이 × 너비 × 채널"),
        Text::new("sees pixels", "보는 픽셀"),
    ];
    Ok(vec![
        Block::Words(Text::new(
            "VGGNet uses 3×3 filters and no others. A larger filter sees a larger part of the input, but two 3×3 in a row see what one \
             5×5 sees: an output of the second looks at 3×3 outputs of the first, and those together at 5×5 inputs. They need fewer \
             parameters for it, and have two non-linearities instead of one.",
            "VGGNet은 3 × 3 convolution filter만 사용한다. 보통은 filter가 커져야 고려되는 input의 크기(receptive field)가 커진다. 그런데 3 × 3을 두 \
             번 거치면 5 × 5 한 번과 같은 영역을 본다. 두 번째 layer의 값 하나는 첫 번째 layer의 3 × 3을 보고, 그 값들은 다시 input의 5 × 5 픽셀을 \
             보기 때문이다. 그러면서도 파라미터는 더 적고, 비선형 함수는 한 번이 아니라 두 번 들어간다.",
        )),
        Block::Exhibit(Text::same(cone(2))),
        Block::Figure(
            Figure::new(Text::new("two 3×3 see", "3×3 두 번이 보는 영역"), seen(&two, "second")?, PIXELS).notes(5_u64),
        ),
        Block::Figure(
            Figure::new(Text::new("one 5×5 sees", "5×5 한 번이 보는 영역"), seen(&one, "wide")?, PIXELS).notes(5_u64),
        ),
        Block::Figure(
            Figure::weights(Text::new("two 3×3, 128 channels", "3×3 두 번, 128 channel"), sum)
                .working(format!("{each} + {each}"))
                .notes(294_912_u64),
        ),
        Block::Figure(
            weights(&once, "wide", Text::new("one 5×5, 128 channels", "5×5 한 번, 128 channel"))?.notes(409_600_u64),
        ),
        Block::Words(Text::with(
            format!(
                "That is {:.0} % fewer. In `vgg16` the maps shrink at its poolings alone, and what one element sees grows:",
                100.0 * (1.0 - sum as f64 / layer(&one, "wide")?.weights as f64)
            ),
            format!(
                "{:.0} % 적다. `vgg16`의 map은 pooling에서만 작아지고, 값 하나가 보는 영역은 점점 넓어진다.",
                100.0 * (1.0 - sum as f64 / layer(&one, "wide")?.weights as f64)
            ),
        )),
        Block::Exhibit(table(1, &headings, &stages)),
        Block::Slip(Text::with(
            format!(
                "The notes add that 3×3 is needed to keep the size of the maps; any odd filter does that with its own padding (L7). Few \
                 parameters per layer do not make few in all: `vgg16` has {}, {:.0} % of them in the dense layers.",
                thousands(vgg.total.params),
                100.0 * vgg.classifier.params as f64 / vgg.total.params as f64
            ),
            format!(
                "노트는 map 크기를 유지하려고 3 × 3을 썼다고 덧붙이지만, 홀수 filter라면 알맞은 padding으로 모두 유지된다(L7). 그리고 layer마다 \
                 파라미터가 적다고 전체가 적은 것은 아니다. `vgg16`의 파라미터는 {}개이고 그중 {:.0} %가 dense layer에 있다.",
                thousands(vgg.total.params),
                100.0 * vgg.classifier.params as f64 / vgg.total.params as f64
            ),
        )),
        Block::Try(
            "convnet summary vgg16",
            Text::new("the column \"field\" is the receptive field", "field 열이 receptive field이다"),
        ),
        Block::Try(
            "convnet summary vgg19_bn",
            Text::new("the deepest, with batch norm", "가장 깊은 VGG에 batch norm을 더한 것"),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{agreeing, computed};
    use super::*;

    #[test]
    fn lecture_l11_two_3x3_against_one_5x5() {
        assert_eq!(agreeing(explain()), ["5", "5", "294,912", "409,600"]);
        assert_eq!(computed(explain()).len(), 4);
    }

    #[test]
    fn lecture_l11_the_cone_is_five_wide() {
        assert_eq!(cone(2), "    #\n  # # #     3×3\n# # # # #   3×3\n");
    }
}
