//! exp, softplus and the logistic function without branches and without fused multiply-add: loops over them are
//! vectorised, and give the same bits on every instruction set and at every position of a slice.

/// Adding this to a small number rounds it to an integer, which the low bits then hold.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
/// ln 2 in two parts; the first has few bits, so that its products with exponents are exact.
const LN_2_HIGH: f32 = 0.693_359_4; // 355 / 512
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// e^x: 0 below -104, infinite above 89.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let exponent = rounded - ROUND;
    let r = x - exponent * LN_2_HIGH - exponent * LN_2_LOW;
    // Cephes' polynomial for |r| <= ln 2 / 2.
    let p = 1.987_569_1e-4 * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let e = p * (r * r) + r + 1.0;
    // Two factors: one alone could not reach the subnormal numbers.
    let exponent = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = exponent >> 1;
    e * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

/// ln((1 + t) / (1 - t)) for |t| <= 1/3, to a relative 1e-8 before rounding.
#[inline(always)]
pub fn ln_ratio(t: f32) -> f32 {
    let s = t * t;
    let p = s * (1.0 / 13.0) + (1.0 / 11.0);
    let p = p * s + (1.0 / 9.0);
    let p = p * s + (1.0 / 7.0);
    let p = p * s + 0.2;
    let p = p * s + (1.0 / 3.0);
    let twice = 2.0 * t;
    twice * (p * s) + twice
}

/// ln(1 + u) for u in [0, 1].
#[inline(always)]
pub fn ln_1p(u: f32) -> f32 {
    ln_ratio(u / (u + 2.0))
}

/// ln(1 + e^x), given `e` = e^x.
#[inline(always)]
pub fn softplus_of(x: f32, e: f32) -> f32 {
    let positive = if x > 0.0 { x } else { 0.0 };
    let u = if e > 1.0 { 1.0 / e } else { e };
    positive + ln_1p(u)
}

#[cfg(test)]
mod tests {
    use super::super::isa::per_isa;
    use super::super::reference::on_each_isa;
    use super::*;

    per_isa! {
        fn of_each<S>(x: &[f32], exps: &mut [f32], softpluses: &mut [f32]) {
            for ((x, e), softplus) in x.iter().zip(exps).zip(softpluses) {
                *e = exp(*x);
                *softplus = softplus_of(*x, *e);
            }
        }
    }

    #[test]
    fn exp_and_softplus_are_right_to_the_last_bits() {
        let x: Vec<f32> = (-87_000..88_000).map(|i| i as f32 * 1e-3).chain([1e-8, -1e-8, 0.0]).collect();
        on_each_isa(|isa| {
            let (mut exps, mut softpluses) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            of_each(isa, &x, &mut exps, &mut softpluses);
            for ((x, e), softplus) in x.iter().zip(&exps).zip(&softpluses) {
                let exact = f64::from(*x).exp();
                let relative = |found: f32, exact: f64| ((f64::from(found) - exact) / exact).abs();
                assert!(relative(*e, exact) < 2e-7, "exp({x}) = {e}");
                assert!(relative(*softplus, exact.ln_1p()) < 4e-7, "softplus({x}) = {softplus}");
                // The same value alone, outside a vector.
                assert_eq!((exp(*x), softplus_of(*x, *e)), (*e, *softplus));
            }
        });
    }

    #[test]
    fn extremes_are_limits() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        let subnormal = exp(-100.0);
        assert!((f64::from(subnormal) / (-100f64).exp() - 1.0).abs() < 0.05, "{subnormal}");
        let softplus = |x: f32| softplus_of(x, exp(x));
        assert_eq!(softplus(100.0), 100.0);
        assert!(softplus(-100.0) >= 0.0 && softplus(-100.0) < 4e-44);
        assert_eq!(softplus(f32::INFINITY), f32::INFINITY);
        assert_eq!(softplus(f32::NEG_INFINITY), 0.0);
        assert!(softplus(f32::NAN).is_nan());
    }

    #[test]
    fn the_ratio_is_right_within_a_third() {
        for i in -333..=333 {
            let t = i as f32 * 1e-3;
            let exact = 2.0 * f64::from(t).atanh();
            assert!((f64::from(ln_ratio(t)) - exact).abs() <= 2e-7 * exact.abs(), "ln_ratio({t})");
        }
    }
}
