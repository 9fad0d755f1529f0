//! Updates of all parameters at once: one pass over flat buffers of weights, gradients and the optimizer's memory.
//!
//! PyTorch's formulas and order of operations (`torch.optim.SGD`, `Adam`, `AdamW`; Kingma and Ba 2015, algorithm 1;
//! Loshchilov and Hutter 2019, algorithm 2; You et al. 2020, algorithm 2). Where weight, gradient and memory are 0, as in padding, they stay 0.
//! Checked against `reference/optimizer.rs`.

use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// Floats of each buffer that one task updates.
const BLOCK: usize = 16 * 1024;

/// Stochastic gradient descent: `v ← momentum · v + g`, `w ← w - lr · v`, or with Nesterov's `w ← w - lr · (g + momentum · v)`,
/// where `g` has `weight_decay · w` added.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Step size.
    pub lr: f32,
    /// Share of the velocity that is kept.
    pub momentum: f32,
    /// Whether the gradient is taken after the momentum.
    pub nesterov: bool,
    /// Pull towards 0.
    pub weight_decay: f32,
}

/// `m ← β₁ m + (1 - β₁) g`, `v ← β₂ v + (1 - β₂) g²`,
/// `w ← w - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + eps)`.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Step size.
    pub lr: f32,
    /// Decay of the first and of the second moment.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Pull towards 0.
    pub weight_decay: f32,
    /// AdamW: the pull is `w ← w - lr · weight_decay · w` instead of a part of the gradient.
    pub decoupled: bool,
}

/// LAMB (You et al. 2020, algorithm 2), for one parameter: Adam's direction with a pull apart from the gradient,
/// `u = m / (1 - β₁ᵗ) / (√v / √(1 - β₂ᵗ) + eps) + weight_decay · w`, times the trust ratio, `w ← w - lr · ‖w‖ / ‖u‖ · u`. The ratio
/// is 1 where one of the norms is 0, and for a parameter without weight decay (as in NVIDIA's apex and in timm).
#[derive(Clone, Copy, Debug)]
pub struct Lamb {
    /// Step size.
    pub lr: f32,
    /// Decay of the first and of the second moment.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Pull towards 0.
    pub weight_decay: f32,
}

impl Sgd {
    /// One update; the velocity is 0 before the first. The buffers have one length, a multiple of 16.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn step(&self, isa: Isa, threads: &Threads, w: &mut [f32], g: &[f32], velocity: &mut [f32]) {
        each_block(threads, w.len(), [w, velocity], g, &|[w, v], g| {
            isa.run(SgdBlock { rule: self, w, g, v });
        });
    }
}

impl Adam {
    /// Update number `step`, counted from 1. The buffers have one length, a multiple of 16.
    ///
    /// # Panics
    /// When the lengths differ.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one optimizer")]
    pub fn step(&self, isa: Isa, threads: &Threads, step: u64, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let [first, root] = corrections(self.betas, step);
        let (rate, root) = ((f64::from(self.lr) / first) as f32, root as f32);
        each_block(threads, w.len(), [w, m, v], g, &|[w, m, v], g| {
            isa.run(AdamBlock { rule: self, rate, root, w, g, m, v });
        });
    }
}

/// What Adam's moments are divided by before update number `step`: `1 - β₁ᵗ`, and the root of `1 - β₂ᵗ`.
fn corrections(betas: [f32; 2], step: u64) -> [f64; 2] {
    let [first, second] = betas.map(|beta| 1.0 - f64::from(beta).powf(step as f64));
    [first, second.sqrt()]
}

impl Lamb {
    /// Numbers that an update of so many floats needs room for.
    pub fn norms_len(floats: usize) -> usize {
        2 * floats.div_ceil(BLOCK)
    }

    /// Update number `step`, counted from 1, of one parameter. The buffers have one length, a multiple of 16; `norms` holds
    /// [`Lamb::norms_len`] numbers. The same for any number of threads.
    ///
    /// # Panics
    /// When the lengths differ.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one optimizer")]
    pub fn step(
        &self,
        isa: Isa,
        threads: &Threads,
        step: u64,
        w: &mut [f32],
        g: &[f32],
        [m, v]: [&mut [f32]; 2],
        norms: &mut [f64],
    ) {
        let len = w.len();
        assert!([g.len(), m.len(), v.len()] == [len; 3] && len.is_multiple_of(LANES));
        let [first, root] = corrections(self.betas, step);
        let direction = LambDirection { rate: (1.0 / first) as f32, root: root as f32, rule: *self };
        let norms = &mut norms[..Lamb::norms_len(len)];
        let (moments, parts) = ([&mut *m, &mut *v].map(Parts::new), Parts::new(norms));
        let weights = &*w;
        threads.run(len.div_ceil(BLOCK), &|i, _| {
            let range = i * BLOCK..((i + 1) * BLOCK).min(len);
            // SAFETY: blocks do not overlap.
            let [m, v] = moments.map(|moments| unsafe { moments.part(range.clone()) });
            // SAFETY: each block has a pair of its own.
            let pair = unsafe { parts.part(2 * i..2 * i + 2) };
            pair.copy_from_slice(&isa.run(LambMoments { direction, w: &weights[range.clone()], g: &g[range], m, v }));
        });
        let norm = |which: usize| norms.iter().skip(which).step_by(2).sum::<f64>().sqrt();
        let (of_weights, of_direction) = (norm(0), norm(1));
        let adapts = self.weight_decay > 0.0 && of_weights > 0.0 && of_direction > 0.0;
        let trust = if adapts { of_weights / of_direction } else { 1.0 };
        let rate = (f64::from(self.lr) * trust) as f32;
        each_block(threads, len, [w, m, v], g, &|[w, m, v], _| {
            isa.run(LambBlock { direction, rate, w, m, v });
        });
    }
}

/// One step of an exponential moving average: `a ← a + (1 - decay) · (w - a)`, which leaves an average that `w` does not leave
/// (`torch.lerp`, as in `torch.optim.swa_utils.get_ema_multi_avg_fn`). The buffers have one length, a multiple of 16.
///
/// # Panics
/// When the lengths differ.
pub fn average(isa: Isa, threads: &Threads, decay: f64, w: &[f32], average: &mut [f32]) {
    let take = (1.0 - decay) as f32;
    each_block(threads, w.len(), [average], w, &|[a], w| {
        isa.run(AverageBlock { take, w, a });
    });
}

/// Multiplies all gradients by a number.
pub fn scale(threads: &Threads, g: &mut [f32], factor: f32) {
    let (len, parts) = (g.len(), Parts::new(g));
    threads.run(len.div_ceil(BLOCK), &|i, _| {
        // SAFETY: blocks do not overlap.
        let block = unsafe { parts.part(i * BLOCK..((i + 1) * BLOCK).min(len)) };
        block.iter_mut().for_each(|g| *g *= factor);
    });
}

/// Calls a task with the same part of every buffer.
#[expect(clippy::type_complexity, reason = "one function that says what it takes")]
fn each_block<const N: usize>(
    threads: &Threads,
    len: usize,
    changed: [&mut [f32]; N],
    g: &[f32],
    task: &(dyn Fn([&mut [f32]; N], &[f32]) + Sync),
) {
    assert!(changed.iter().all(|b| b.len() == len) && g.len() == len && len.is_multiple_of(LANES));
    let changed = changed.map(Parts::new);
    threads.run(len.div_ceil(BLOCK), &|i, _| {
        let range = i * BLOCK..((i + 1) * BLOCK).min(len);
        // SAFETY: blocks do not overlap.
        let parts = changed.map(|buffer| unsafe { buffer.part(range.clone()) });
        task(parts, &g[range]);
    });
}

struct AverageBlock<'a> {
    take: f32,
    w: &'a [f32],
    a: &'a mut [f32],
}

impl Kernel for AverageBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let take = s.splat(self.take);
        for (a_line, w) in self.a.chunks_exact_mut(LANES).zip(self.w.chunks_exact(LANES)) {
            let a = s.read(a_line);
            s.write(a_line, s.fma(take, s.sub(s.read(w), a), a));
        }
    }
}

struct SgdBlock<'a> {
    rule: &'a Sgd,
    w: &'a mut [f32],
    g: &'a [f32],
    v: &'a mut [f32],
}

impl Kernel for SgdBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Sgd { lr, momentum, nesterov, weight_decay } = *self.rule;
        let (lr, share, decay) = (s.splat(lr), s.splat(momentum), s.splat(weight_decay));
        let lines = self.w.chunks_exact_mut(LANES).zip(self.g.chunks_exact(LANES)).zip(self.v.chunks_exact_mut(LANES));
        for ((w_line, g), v_line) in lines {
            let w = s.read(w_line);
            let g = s.fma(w, decay, s.read(g));
            let mut direction = g;
            if momentum != 0.0 {
                let v = s.fma(s.read(v_line), share, g);
                s.write(v_line, v);
                direction = if nesterov { s.fma(v, share, g) } else { v };
            }
            s.write(w_line, s.sub(w, s.mul(lr, direction)));
        }
    }
}

struct AdamBlock<'a> {
    rule: &'a Adam,
    rate: f32,
    root: f32,
    w: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for AdamBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Adam { lr, betas, eps, weight_decay, decoupled } = *self.rule;
        let (rate, root, eps) = (s.splat(self.rate), s.splat(self.root), s.splat(eps));
        let keep = [s.splat(betas[0]), s.splat(betas[1])];
        let take = [s.splat(1.0 - betas[0]), s.splat(1.0 - betas[1])];
        let shrink = s.splat(if decoupled { 1.0 - lr * weight_decay } else { 1.0 });
        let decay = s.splat(if decoupled { 0.0 } else { weight_decay });
        let moments = self.m.chunks_exact_mut(LANES).zip(self.v.chunks_exact_mut(LANES));
        for ((w_line, g), (m_line, v_line)) in
            self.w.chunks_exact_mut(LANES).zip(self.g.chunks_exact(LANES)).zip(moments)
        {
            let w = s.mul(s.read(w_line), shrink);
            let g = s.fma(w, decay, s.read(g));
            let m = s.fma(g, take[0], s.mul(s.read(m_line), keep[0]));
            let v = s.fma(s.mul(g, take[1]), g, s.mul(s.read(v_line), keep[1]));
            s.write(m_line, m);
            s.write(v_line, v);
            let denominator = s.add(s.div(s.sqrt(v), root), eps);
            s.write(w_line, s.sub(w, s.mul(rate, s.div(m, denominator))));
        }
    }
}

/// What LAMB moves weights by, before their rate and ratio.
#[derive(Clone, Copy)]
struct LambDirection {
    rate: f32,
    root: f32,
    rule: Lamb,
}

impl LambDirection {
    /// `rate · m / (√v / root + eps) + weight_decay · w`
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, w: S::V, m: S::V, v: S::V) -> S::V {
        let denominator = s.add(s.div(s.sqrt(v), s.splat(self.root)), s.splat(self.rule.eps));
        s.fma(w, s.splat(self.rule.weight_decay), s.div(s.mul(m, s.splat(self.rate)), denominator))
    }
}

/// Lines whose squares are summed in `f32`.
const SUMMED: usize = 64;

/// Moves the moments, and sums the squares of weights and direction.
struct LambMoments<'a> {
    direction: LambDirection,
    w: &'a [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for LambMoments<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f64; 2] {
        let betas = self.direction.rule.betas;
        let keep = [s.splat(betas[0]), s.splat(betas[1])];
        let take = [s.splat(1.0 - betas[0]), s.splat(1.0 - betas[1])];
        let mut totals = [0.0; 2];
        let weights = self.w.chunks(SUMMED * LANES).zip(self.g.chunks(SUMMED * LANES));
        let moments = self.m.chunks_mut(SUMMED * LANES).zip(self.v.chunks_mut(SUMMED * LANES));
        for ((w, g), (m, v)) in weights.zip(moments) {
            let mut sums = [s.splat(0.0); 2];
            let moments = m.chunks_exact_mut(LANES).zip(v.chunks_exact_mut(LANES));
            for ((w, g), (m_line, v_line)) in w.chunks_exact(LANES).zip(g.chunks_exact(LANES)).zip(moments) {
                let (w, g) = (s.read(w), s.read(g));
                let m = s.fma(g, take[0], s.mul(s.read(m_line), keep[0]));
                let v = s.fma(s.mul(g, take[1]), g, s.mul(s.read(v_line), keep[1]));
                s.write(m_line, m);
                s.write(v_line, v);
                let u = self.direction.of(s, w, m, v);
                sums = [s.fma(w, w, sums[0]), s.fma(u, u, sums[1])];
            }
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += s.lanes(sum).into_iter().map(f64::from).sum::<f64>();
            }
        }
        totals
    }
}

struct LambBlock<'a> {
    direction: LambDirection,
    rate: f32,
    w: &'a mut [f32],
    m: &'a [f32],
    v: &'a [f32],
}

impl Kernel for LambBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rate = s.splat(self.rate);
        let moments = self.m.chunks_exact(LANES).zip(self.v.chunks_exact(LANES));
        for (w_line, (m, v)) in self.w.chunks_exact_mut(LANES).zip(moments) {
            let w = s.read(w_line);
            let u = self.direction.of(s, w, s.read(m), s.read(v));
            s.write(w_line, s.sub(w, s.mul(rate, u)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gradient_is_scaled() {
        let mut g = vec![2.0; 2 * BLOCK + 5];
        scale(&Threads::new(2).unwrap(), &mut g, 0.25);
        assert!(g.iter().all(|&g| g == 0.5));
    }
    use crate::reference::gradcheck::pattern;
    use crate::reference::optimizer as reference;

    fn narrow(v: &[f64]) -> Vec<f32> {
        v.iter().map(|&x| x as f32).collect()
    }

    fn assert_close(what: &str, got: &[f32], want: &[f64]) {
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 2e-6, "{what}: got {got}, want {want}");
        }
    }

    #[test]
    fn agree_with_the_references_over_three_steps() {
        let threads = Threads::new(2).unwrap();
        let len = BLOCK + 48;
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for (decoupled, weight_decay) in [(false, 0.0), (false, 0.1), (true, 0.1)] {
                let rule = Adam { lr: 1e-2, betas: [0.9, 0.999], eps: 1e-8, weight_decay, decoupled };
                let oracle = reference::Adam {
                    lr: f64::from(rule.lr),
                    betas: rule.betas.map(f64::from),
                    eps: f64::from(rule.eps),
                    weight_decay: f64::from(weight_decay),
                    decoupled,
                };
                let mut want = pattern(1, len);
                let mut moments = reference::Moments::new(len);
                let (mut w, mut m, mut v) = (narrow(&want), vec![0.0; len], vec![0.0; len]);
                for step in 1..=3 {
                    let g = pattern(1 + step as u32, len);
                    oracle.step(&mut want, &g, &mut moments);
                    rule.step(isa, &threads, step, &mut w, &narrow(&g), &mut m, &mut v);
                    assert_close(&format!("adam {}", isa.name()), &w, &want);
                }
            }
            for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
                let rule = Sgd { lr: 1e-2, momentum, nesterov, weight_decay: 0.1 };
                let wide = f64::from;
                let oracle = reference::Sgd {
                    lr: wide(1e-2f32),
                    momentum: wide(momentum),
                    nesterov,
                    weight_decay: wide(0.1f32),
                };
                let mut want = pattern(1, len);
                let mut memory = vec![0.0; len];
                let (mut w, mut v) = (narrow(&want), vec![0.0; len]);
                for step in 1..=3 {
                    let g = pattern(1 + step, len);
                    oracle.step(&mut want, &g, &mut memory);
                    rule.step(isa, &threads, &mut w, &narrow(&g), &mut v);
                    assert_close(&format!("sgd {}", isa.name()), &w, &want);
                }
            }
        }
    }

    #[test]
    fn lamb_agrees_with_its_reference_and_with_any_number_of_threads() {
        let len = 2 * BLOCK + 48;
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for weight_decay in [0.0, 0.1] {
                let rule = Lamb { lr: 1e-2, betas: [0.9, 0.999], eps: 1e-6, weight_decay };
                let wide = f64::from;
                let oracle = reference::Lamb {
                    lr: wide(rule.lr),
                    betas: rule.betas.map(wide),
                    eps: wide(rule.eps),
                    weight_decay: wide(weight_decay),
                };
                let run = |threads: usize| {
                    let threads = Threads::new(threads).unwrap();
                    let (mut w, mut m, mut v) = (narrow(&pattern(1, len)), vec![0.0; len], vec![0.0; len]);
                    let mut norms = vec![0.0; Lamb::norms_len(len)];
                    for step in 1..=3 {
                        let g = narrow(&pattern(1 + step as u32, len));
                        rule.step(isa, &threads, step, &mut w, &g, [&mut m, &mut v], &mut norms);
                    }
                    w
                };
                let mut want = pattern(1, len);
                let mut moments = reference::Moments::new(len);
                for step in 1..=3 {
                    oracle.step(&mut want, &pattern(1 + step, len), &mut moments);
                }
                let got = run(1);
                assert_close(&format!("lamb {}", isa.name()), &got, &want);
                assert_eq!(got, run(3));
            }
        }
    }

    #[test]
    fn an_average_follows_what_moves_and_keeps_what_does_not() {
        let threads = Threads::new(2).unwrap();
        let len = BLOCK + 48;
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            let mut want = pattern(1, len);
            let mut got = narrow(&want);
            for step in 2..5 {
                let w = pattern(step, len);
                want.iter_mut().zip(&w).for_each(|(a, w)| *a = 0.9 * *a + 0.1 * w);
                average(isa, &threads, 0.9, &narrow(&w), &mut got);
            }
            assert_close(isa.name(), &got, &want);
            let still = got.clone();
            average(isa, &threads, 0.99997, &still, &mut got);
            assert_eq!(got, still);
        }
    }

    #[test]
    fn padding_stays_zero() {
        let threads = Threads::new(1).unwrap();
        let zeros = [0.0; LANES];
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            let [mut w, mut m, mut v] = [zeros; 3];
            let adam = Adam { lr: 0.1, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1, decoupled: true };
            adam.step(isa, &threads, 1, &mut w, &zeros, &mut m, &mut v);
            Sgd { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.1 }
                .step(isa, &threads, &mut w, &zeros, &mut m);
            let lamb = Lamb { lr: 0.1, betas: [0.9, 0.999], eps: 1e-6, weight_decay: 0.1 };
            lamb.step(isa, &threads, 1, &mut w, &zeros, [&mut m, &mut v], &mut [0.0; 2]);
            assert_eq!([w, m, v], [zeros; 3]);
        }
    }
}
