//! Updates of all parameters at once: one pass over flat buffers of weights, gradients and the optimizer's memory.
//!
//! PyTorch's formulas and order of operations (`torch.optim.SGD`, `Adam`, `AdamW`; Kingma and Ba 2015, algorithm 1;
//! Loshchilov and Hutter 2019, algorithm 2). Where weight, gradient and memory are 0, as in padding, they stay 0.
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
        let power = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
        let rate = (f64::from(self.lr) / power(self.betas[0])) as f32;
        let root = power(self.betas[1]).sqrt() as f32;
        each_block(threads, w.len(), [w, m, v], g, &|[w, m, v], g| {
            isa.run(AdamBlock { rule: self, rate, root, w, g, m, v });
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
            assert_eq!([w, m, v], [zeros; 3]);
        }
    }
}
