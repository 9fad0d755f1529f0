//! The table for people.

use super::{LayerRow, Part, Table};
use crate::columns::{Columns, Style, bytes, thousands};
use crate::net::{Block, Estimate};

impl Table {
    /// The table for people, in a style: a row for each of the net's blocks, the sums, the memory and, where the table has
    /// it, the least time.
    pub fn render(&self, style: Style, blocks: &[Block]) -> String {
        let header = ["layer", "op", "output", "weights", "biases", "MACs", "field", "stride", "activations"];
        let mut layers = Columns::new(2, &header);
        for block in blocks {
            // The input has no row.
            let rows = &self.layers[block.nodes.start - 1..block.nodes.end - 1];
            let sum = |f: fn(&LayerRow) -> u64| rows.iter().map(f).fold(0, u64::saturating_add);
            let Some(last) = rows.last() else { continue };
            let counts = [sum(|row| row.weights), sum(|row| row.biases), sum(|row| row.macs)].map(count);
            let windows = [&last.receptive_field[..], &last.effective_stride[..]].map(short_dims);
            let cells = [block.name.clone(), block.text.clone(), dims(&last.output)].into_iter().chain(counts);
            layers.row(cells.chain(windows).chain([bytes(sum(|row| row.activation_bytes))]));
        }
        let title = format!("{}, input {}", self.model, dims(&self.input));
        let title = if style == Style::Markdown { format!("### {title}") } else { format!(" {title}") };
        let notes = [Some(self.memory()), self.roofline.as_ref().map(|estimate| time(estimate, self.batch_size))];
        let indent = if style == Style::Markdown { "" } else { " " };
        let notes: Vec<String> = notes.into_iter().flatten().map(|note| format!("{indent}{note}\n")).collect();
        let between = if style == Style::Markdown { "\n" } else { "" };
        format!("{title}\n\n{}\n{}\n{}", layers.render(style), self.parts(style), notes.join(between))
    }

    fn parts(&self, style: Style) -> String {
        let mut parts = Columns::new(1, &["", "params", "share", "weights", "biases", "MACs", "share", "FLOPs"]);
        let rows = [("features", Some(self.features)), ("classifier", Some(self.classifier))];
        let rows = rows.into_iter().chain([("auxiliary", self.auxiliary), ("total", Some(self.total))]);
        for (name, part) in rows.filter_map(|(name, part)| Some((name, part?))) {
            let Part { params, weights, biases, macs, flops } = part;
            let shares = [share(params, self.total.params), share(macs, self.total.macs)];
            let [params, weights, biases, macs, flops] = [params, weights, biases, macs, flops].map(count);
            let [of_params, of_macs] = shares;
            parts.row([name.to_owned(), params, of_params, weights, biases, macs, of_macs, flops]);
        }
        parts.render(style)
    }

    fn memory(&self) -> String {
        format!(
            "activations of {}: {} in training, {} in inference",
            pictures(self.batch_size),
            bytes(self.training_activation_bytes),
            bytes(self.inference_activation_bytes)
        )
    }
}

/// What the machine could do at best.
fn time(estimate: &Estimate, batch_size: u64) -> String {
    let Estimate { threads, gflops, gigabytes_per_second, inference_ms, training_ms } = estimate;
    let threads = if *threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
    format!(
        "time of {}: at least {} in inference, {} in a training step ({threads}: {gflops:.0} GFLOP/s, {gigabytes_per_second:.0} GB/s)",
        pictures(batch_size),
        milliseconds(*inference_ms),
        milliseconds(*training_ms)
    )
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{:.0} µs", ms * 1e3),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.0} s", ms / 1e3),
    }
}

fn pictures(batch_size: u64) -> String {
    format!("{} {}", thousands(batch_size), if batch_size == 1 { "picture" } else { "pictures" })
}

/// A number with separators; a dash for none.
fn count(number: u64) -> String {
    if number == 0 { "-".to_owned() } else { thousands(number) }
}

fn share(part: u64, total: u64) -> String {
    if part == 0 { "-".to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / total as f64) }
}

fn dims(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<String>>().join("x")
}

/// Height and width; one number where they are equal.
fn short_dims(pair: &[usize]) -> String {
    if pair.iter().all(|n| *n == pair[0]) { pair[0].to_string() } else { dims(pair) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Depth, samples};

    const PLAIN: &str = "
 residual, input 3x64x64

 layer     op                                 output  weights  biases        MACs  field  stride  activations
 ────────────────────────────────────────────────────────────────────────────────────────────────────────────
 conv1     conv2d 7x7/2 p3 3→64             64x32x32    9,408       -   9,633,792      7       2      8.0 MiB
 bn1       batch_norm2d                     64x32x32       64      64           -      7       2      8.0 MiB
 relu      relu                             64x32x32        -       -           -      7       2      8.0 MiB
 maxpool   max_pool2d 3x3/2 p1              64x16x16        -       -           -     11       4      2.0 MiB
 layer1.0  conv2d 3x3-3x3 + identity        64x16x16   73,856     128  18,874,368     27       4     14.0 MiB
 layer1.1  conv2d 3x3-3x3 + identity        64x16x16   73,856     128  18,874,368     43       4     14.0 MiB
 layer2.0  conv2d 3x3/2-3x3 + conv2d 1x1/2   128x8x8  229,760     384  14,680,064     67       8      9.0 MiB
 layer2.1  conv2d 3x3-3x3 + identity         128x8x8  295,168     256  18,874,368     99       8      7.0 MiB
 avgpool   adaptive_avg_pool2d to 1x1        128x1x1        -       -           -    155      64     16.0 KiB
 flatten   flatten                               128        -       -           -    155      64     16.0 KiB
 fc        linear 128→10                          10    1,280      10       1,280    155      64      1.2 KiB

              params    share  weights  biases        MACs    share        FLOPs
 ───────────────────────────────────────────────────────────────────────────────
 features    683,072   99.8 %  682,112     960  80,936,960  100.0 %  161,873,920
 classifier    1,290    0.2 %    1,280      10       1,280    0.0 %        2,560
 total       684,362  100.0 %  683,392     970  80,938,240  100.0 %  161,876,480

 activations of 32 pictures: 71.5 MiB in training, 16.0 MiB in inference
 time of 32 pictures: at least 756 µs in inference, 12.3 ms in a training step (2 threads: 450 GFLOP/s, 62 GB/s)
";

    #[test]
    fn a_small_table() {
        let net = samples::residual(2);
        let mut table = net.table(32);
        table.roofline = Some(Estimate {
            threads: 2,
            gflops: 450.4,
            gigabytes_per_second: 61.7,
            inference_ms: 0.7561,
            training_ms: 12.34,
        });
        let text = table.render(Style::Plain, &net.blocks(Depth::Parts(2)));
        assert_eq!(text, PLAIN.trim_start_matches('\n'), "\n{text}");
        let markdown = table.render(Style::Markdown, &net.blocks(Depth::Parts(1)));
        assert!(markdown.starts_with("### residual, input 3x64x64\n\n| layer "), "{markdown}");
        assert!(markdown.contains("\n| layer2 "), "{markdown}");
    }
}
