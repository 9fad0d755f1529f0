//! Rectangles of input planes, copied into scratch with zeros around them, as the words that the register tile multiplies.

use crate::precision::Element;
use crate::simd::{LANES, Simd, bf16};

/// A rectangle around or inside a picture.
#[derive(Clone, Copy)]
pub(crate) struct CopyView {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Where it begins in the picture; negative in the padding.
    pub(crate) top: isize,
    pub(crate) left: isize,
    /// Floats of a pixel.
    pub(crate) channels: usize,
}

/// Copies a rectangle of one plane, as words; what lies outside the plane is 0.
#[inline(always)]
pub(crate) fn copy_plane<S: Simd, E: Element>(
    s: S,
    view: &CopyView,
    plane: &[f32],
    size: [usize; 2],
    target: &mut [f32],
) {
    let CopyView { columns, channels, .. } = *view;
    let unit = channels / E::PER_WORD;
    let before = view.left.min(0).unsigned_abs().min(columns);
    let first = view.left.max(0) as usize;
    let copied = size[1].saturating_sub(first).min(columns - before);
    for (row, line) in target[..view.rows * columns * unit].chunks_exact_mut(columns * unit).enumerate() {
        let y = view.top + row as isize;
        if y < 0 || y as usize >= size[0] {
            line.fill(0.0);
            continue;
        }
        let source = &plane[(y as usize * size[1] + first) * channels..][..copied * channels];
        line[..before * unit].fill(0.0);
        E::copy(s, source, &mut line[before * unit..][..copied * unit]);
        line[(before + copied) * unit..].fill(0.0);
    }
}

/// Makes each number of rows of `columns` a word of itself and the one `next` columns on, or 0 past the row's end.
#[inline(always)]
pub(super) fn pair_neighbours<S: Simd>(s: S, columns: usize, next: usize, rows: &mut [f32]) {
    for row in rows.chunks_exact_mut(columns) {
        // Vectors whose neighbours are all in the row, or all past its end; then what is left.
        let mut at = 0;
        while at + LANES <= columns && (at + next + LANES <= columns || at + next >= columns) {
            let upper = if at + next < columns { s.read(&row[at + next..]) } else { s.splat(0.0) };
            let word = s.pair(s.read(&row[at..]), upper);
            s.write(&mut row[at..], word);
            at += LANES;
        }
        for at in at..columns {
            row[at] = bf16::word(row[at], if at + next < columns { row[at + next] } else { 0.0 });
        }
    }
}
