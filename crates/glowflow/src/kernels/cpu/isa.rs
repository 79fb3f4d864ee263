//! The instruction sets that kernels are compiled for, and the choice among them at run time.

use std::cell::Cell;

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// What the target always has; plain Rust.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// The widest one that this machine has.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            // Keep in step with the features that `per_isa!` enables.
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match (avx2, avx512) {
                (true, true) => return Isa::Avx512,
                (true, false) => return Isa::Avx2,
                _ => {}
            }
        }
        Isa::Portable
    }

    /// All that this machine has, the narrowest first.
    pub fn available() -> Vec<Isa> {
        let all = [Isa::Portable, Isa::Avx2, Isa::Avx512];
        all[..=Isa::detect() as usize].to_vec()
    }

    /// The one that a kernel called on this thread uses.
    pub fn active() -> Isa {
        FORCED.get().unwrap_or_else(Isa::detect)
    }

    /// Runs `body` with every kernel that it calls on this thread using `isa`: for tests.
    ///
    /// # Panics
    /// If this machine lacks `isa`.
    #[doc(hidden)]
    pub fn force<R>(isa: Isa, body: impl FnOnce() -> R) -> R {
        struct Restore(Option<Isa>);
        impl Drop for Restore {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        assert!(Isa::available().contains(&isa), "this machine lacks {isa:?}");
        let _restore = Restore(FORCED.replace(Some(isa)));
        body()
    }
}

/// Compiles one function body for each instruction set. The function gets `isa: Isa` as its first argument. In the
/// body the named type parameter is the matching [`Simd`](super::simd::Simd), and loops over slices are vectorised.
macro_rules! per_isa {
    (
        $(#[$attribute:meta])*
        $visibility:vis fn $name:ident<$simd:ident $(, const $constant:ident: usize)*>(
            $($argument:ident: $type:ty),* $(,)?
        )
        $(-> $result:ty)? $body:block
    ) => {
        $(#[$attribute])*
        #[allow(unsafe_code, reason = "calls of functions whose features `isa` says this machine has")]
        #[allow(clippy::too_many_arguments, reason = "a kernel takes its operands and their sizes")]
        #[inline]
        $visibility fn $name<$(const $constant: usize),*>(
            isa: $crate::kernels::cpu::Isa, $($argument: $type),*
        ) $(-> $result)? {
            #[inline(always)]
            fn body<$simd: $crate::kernels::cpu::simd::Simd $(, const $constant: usize)*>(
                $($argument: $type),*
            ) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512<$(const $constant: usize),*>($($argument: $type),*) $(-> $result)? {
                body::<$crate::kernels::cpu::simd::Avx512 $(, $constant)*>($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<$(const $constant: usize),*>($($argument: $type),*) $(-> $result)? {
                body::<$crate::kernels::cpu::simd::Avx2 $(, $constant)*>($($argument),*)
            }

            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: kernels get their `isa` from `Isa::active`, which gives only what this machine has.
                $crate::kernels::cpu::Isa::Avx512 => unsafe { avx512::<$($constant),*>($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::kernels::cpu::Isa::Avx2 => unsafe { avx2::<$($constant),*>($($argument),*) },
                _ => body::<$crate::kernels::cpu::simd::Portable $(, $constant)*>($($argument),*),
            }
        }
    };
}
pub(super) use per_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forcing_ends_with_its_body() {
        let before = Isa::active();
        assert_eq!(Isa::force(Isa::Portable, Isa::active), Isa::Portable);
        let panicked = std::panic::catch_unwind(|| Isa::force(Isa::Portable, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(Isa::active(), before);
    }
}
