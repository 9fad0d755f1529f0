//! Optimizers with PyTorch's formulas and order of operations (`torch.optim.SGD`, `Adam`, `AdamW`; dampening 0, no
//! AMSGrad), and LAMB with that of timm. `w` weights, `g` their gradient, all element by element.
//!
//! | | step |
//! | --- | --- |
//! | SGD | `g += wd·w; m = μ·m + g; w -= lr · (m, or with Nesterov g + μ·m)` |
//! | Adam | `g += wd·w; m += (1 - β1)·(g - m); v = β2·v + (1 - β2)·g²; w -= lr / (1 - β1^t) · m / (√v / √(1 - β2^t) + eps)` |
//! | AdamW | `w *= 1 - lr·wd`, then Adam without `g += wd·w` |
//! | LAMB | moments as Adam; `u = m / (1 - β1^t) / (√v / √(1 - β2^t) + eps) + wd·w; w -= lr · ‖w‖ / ‖u‖ · u` |
//!
//! Settings are f64, as PyTorch computes with them; the element-wise arithmetic is in `T`.

use super::{Float, expect_len};

/// Stochastic gradient descent. State: the momentum `m`, which starts at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// μ: share of the last step's direction that is kept; 0 for plain descent.
    pub momentum: f64,
    /// Nesterov's look ahead.
    pub nesterov: bool,
    /// Pull towards 0, added to the gradient.
    pub weight_decay: f64,
}

impl Sgd {
    /// Moves `weights` one step against `grads`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn step<T: Float>(&self, weights: &mut [T], grads: &[T], momentum: &mut [T]) {
        expect_len("gradients", grads, weights.len());
        expect_len("momentum", momentum, weights.len());
        let (lr, mu, decay) = (T::from_f64(self.lr), T::from_f64(self.momentum), T::from_f64(self.weight_decay));
        for ((w, &g), m) in weights.iter_mut().zip(grads).zip(momentum) {
            let g = g + decay * *w;
            *m = mu * *m + g;
            *w -= lr * if self.nesterov { g + mu * *m } else { *m };
        }
    }
}

/// Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019). State: [`Moments`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// β1 and β2: how much of the first and of the second moment is kept.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Pull towards 0.
    pub weight_decay: f64,
    /// Whether weight decay shrinks the weights themselves (AdamW) or is added to the gradient (Adam).
    pub decoupled: bool,
}

/// Adam's memory of the gradients of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments<T> {
    /// Running mean of the gradient.
    pub first: Vec<T>,
    /// Running mean of its square.
    pub second: Vec<T>,
    /// Steps made.
    pub steps: u64,
}

impl<T: Float> Moments<T> {
    /// The moments of a parameter of `len` elements before the first step.
    pub fn new(len: usize) -> Moments<T> {
        Moments { first: vec![T::ZERO; len], second: vec![T::ZERO; len], steps: 0 }
    }
}

impl Adam {
    /// Adam with PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8, no weight decay.
    pub const fn new(lr: f64) -> Adam {
        Adam { lr, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decoupled: false }
    }

    /// AdamW with PyTorch's defaults: as Adam, weight decay 0.01.
    pub const fn adamw(lr: f64) -> Adam {
        Adam { weight_decay: 0.01, decoupled: true, ..Adam::new(lr) }
    }

    /// Moves `weights` one step against `grads`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn step<T: Float>(&self, weights: &mut [T], grads: &[T], moments: &mut Moments<T>) {
        expect_len("gradients", grads, weights.len());
        expect_len("moments", &moments.first, weights.len());
        moments.steps += 1;
        let steps = moments.steps as f64;
        let [beta1, beta2] = self.betas;
        let (correction1, correction2) = (1.0 - beta1.powf(steps), 1.0 - beta2.powf(steps));
        let step_size = T::from_f64(self.lr / correction1);
        let root_correction2 = T::from_f64(correction2.sqrt());
        let (eps, decay) = (T::from_f64(self.eps), T::from_f64(self.weight_decay));
        let shrink = T::from_f64(1.0 - self.lr * self.weight_decay);
        let (fresh1, keep2, fresh2) = (T::from_f64(1.0 - beta1), T::from_f64(beta2), T::from_f64(1.0 - beta2));
        let state = moments.first.iter_mut().zip(&mut moments.second);
        for ((w, &g), (m, v)) in weights.iter_mut().zip(grads).zip(state) {
            let g = if self.decoupled { g } else { g + decay * *w };
            if self.decoupled {
                *w *= shrink;
            }
            *m += fresh1 * (g - *m);
            *v = keep2 * *v + fresh2 * g * g;
            let denominator = v.sqrt() / root_correction2 + eps;
            *w -= step_size * (*m / denominator);
        }
    }
}

/// LAMB (You et al. 2020) for one parameter. State: [`Moments`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lamb {
    /// Learning rate.
    pub lr: f64,
    /// β1 and β2: how much of the first and of the second moment is kept.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Pull towards 0; without it the step is not adapted to the weights' norm.
    pub weight_decay: f64,
}

impl Lamb {
    /// Moves `weights` one step against `grads`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn step<T: Float>(&self, weights: &mut [T], grads: &[T], moments: &mut Moments<T>) {
        expect_len("gradients", grads, weights.len());
        expect_len("moments", &moments.first, weights.len());
        moments.steps += 1;
        let steps = moments.steps as f64;
        let [beta1, beta2] = self.betas;
        let correction1 = T::from_f64(1.0 - beta1.powf(steps));
        let root_correction2 = T::from_f64((1.0 - beta2.powf(steps)).sqrt());
        let (eps, decay) = (T::from_f64(self.eps), T::from_f64(self.weight_decay));
        let (keep1, fresh1) = (T::from_f64(beta1), T::from_f64(1.0 - beta1));
        let (keep2, fresh2) = (T::from_f64(beta2), T::from_f64(1.0 - beta2));
        let mut update = Vec::with_capacity(weights.len());
        let (mut of_weights, mut of_update) = (T::ZERO, T::ZERO);
        let state = moments.first.iter_mut().zip(&mut moments.second);
        for ((&w, &g), (m, v)) in weights.iter().zip(grads).zip(state) {
            *m = keep1 * *m + fresh1 * g;
            *v = keep2 * *v + fresh2 * g * g;
            let u = *m / correction1 / (v.sqrt() / root_correction2 + eps) + decay * w;
            of_weights += w * w;
            of_update += u * u;
            update.push(u);
        }
        let adapts = self.weight_decay > 0.0 && of_weights > T::ZERO && of_update > T::ZERO;
        let trust = if adapts { of_weights.sqrt() / of_update.sqrt() } else { T::from_f64(1.0) };
        let rate = T::from_f64(self.lr) * trust;
        for (w, u) in weights.iter_mut().zip(update) {
            *w -= rate * u;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sgd_by_hand() {
        let mut sgd = Sgd { lr: 0.5, momentum: 0.5, nesterov: false, weight_decay: 0.0 };
        let (mut w, mut m) = ([1.0f64], [0.0]);
        sgd.step(&mut w, &[1.0], &mut m);
        sgd.step(&mut w, &[1.0], &mut m);
        assert_eq!((w, m), ([1.0 - 0.5 - 0.75], [1.5]));
        sgd = Sgd { nesterov: true, weight_decay: 1.0, ..sgd };
        let (mut w, mut m) = ([1.0f64], [0.0]);
        sgd.step(&mut w, &[1.0], &mut m);
        assert_eq!((w, m), ([1.0 - 0.5 * 3.0], [2.0]));
    }

    /// After the first step `m / (1 - β1)` is the gradient and `v / (1 - β2)` its square, so `u` is its sign and the pull.
    #[test]
    fn lamb_by_hand() {
        let lamb = Lamb { lr: 0.1, betas: [0.9, 0.999], eps: 0.0, weight_decay: 0.5 };
        let (mut w, mut moments) = (vec![3.0f64, 4.0], Moments::new(2));
        lamb.step(&mut w, &[2.0, -7.0], &mut moments);
        // u = (1 + 1.5, -1 + 2), and the weights' norm is 5.
        let rate = 0.1 * 5.0 / (2.5f64 * 2.5 + 1.0).sqrt();
        assert!((w[0] - (3.0 - rate * 2.5)).abs() < 1e-12 && (w[1] - (4.0 - rate)).abs() < 1e-12, "{w:?}");
        let (mut plain, mut moments) = (vec![3.0f64, 4.0], Moments::new(2));
        Lamb { weight_decay: 0.0, ..lamb }.step(&mut plain, &[2.0, -7.0], &mut moments);
        assert!((plain[0] - 2.9).abs() < 1e-12 && (plain[1] - 4.1).abs() < 1e-12, "{plain:?}");
    }

    #[test]
    fn adam_first_step_is_the_learning_rate() {
        let (mut w, mut moments) = (vec![1.0f64, 1.0], Moments::new(2));
        Adam::new(0.1).step(&mut w, &[5.0, -0.01], &mut moments);
        assert!((w[0] - 0.9).abs() < 1e-8 && (w[1] - 1.1).abs() < 1e-6, "{w:?}");
        assert_eq!(moments.steps, 1);
    }

    #[test]
    fn adamw_shrinks_without_a_gradient() {
        let (mut w, mut moments) = (vec![2.0f64], Moments::new(1));
        Adam::adamw(0.5).step(&mut w, &[0.0], &mut moments);
        assert_eq!(w, [2.0 * (1.0 - 0.5 * 0.01)]);
        // Plain Adam takes decay as a gradient, and so makes a whole step.
        let (mut w, mut moments) = (vec![2.0f64], Moments::new(1));
        Adam { decoupled: false, ..Adam::adamw(0.5) }.step(&mut w, &[0.0], &mut moments);
        assert!((w[0] - 1.5).abs() < 1e-6);
    }
}
