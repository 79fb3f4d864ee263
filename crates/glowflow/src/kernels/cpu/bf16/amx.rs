//! AMX: a block in four of the eight tile registers. The intrinsics are not stable, the assembler is.

use super::{Block, Parts, Walk};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;
    use std::cell::Cell;
    use std::sync::OnceLock;

    use super::*;

    /// Whether this processor has bf16 tiles and Linux lets this process use them. It must be asked before the first
    /// instruction on tiles.
    pub fn request() -> bool {
        const AMX_BF16: u32 = 1 << 22;
        const AMX_TILE: u32 = 1 << 24;
        const ARCH_PRCTL: usize = 158;
        const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
        const XTILEDATA: usize = 18;
        static GRANTED: OnceLock<bool> = OnceLock::new();
        *GRANTED.get_or_init(|| {
            if __cpuid_count(7, 0).edx & (AMX_BF16 | AMX_TILE) != AMX_BF16 | AMX_TILE {
                return false;
            }
            let mut result = ARCH_PRCTL;
            // SAFETY: the call takes two numbers and touches no memory of ours; Linux overwrites rcx and r11.
            unsafe {
                asm!("syscall", inout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XTILEDATA,
                    lateout("rcx") _, lateout("r11") _, options(nostack));
            }
            result == 0
        })
    }

    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    /// Sets up this thread's registers: eight tiles of 16 rows of 64 bytes.
    fn configure() {
        thread_local! {
            static DONE: Cell<bool> = const { Cell::new(false) };
        }
        if DONE.replace(true) {
            return;
        }
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.row_bytes[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: `request` was granted, and the 64 bytes are there.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) }
    }

    /// # Safety
    /// [`request`] was granted, and every tile of `a` and `b` is there.
    pub unsafe fn multiply(parts: Parts, a: Walk, b: Walk, sums: &mut Block, add: bool) {
        configure();
        let (a0, b0) = (a.tiles.as_ptr(), b.tiles.as_ptr());
        let (a1, b1) = (a0.wrapping_add(a.second), b0.wrapping_add(b.second));
        let sums = sums.0.as_mut_ptr();
        // A register's value is not known to the compiler: one block of assembler from zero to the stores.
        // SAFETY: as the caller says; the sums are 32 rows of 128 bytes.
        unsafe {
            // The next step's tile: hidden behind this one's products, wherever in the caches it lies.
            macro_rules! fetch {
                ($tile:literal) => {
                    concat!(
                        ".irp line,0,64,128,192,256,320,384,448,512,576,640,704,768,832,896,960\n",
                        "prefetcht0 [",
                        $tile,
                        " + \\line]\n",
                        ".endr"
                    )
                };
            }
            macro_rules! block {
                ($($step:expr),*) => {
                    asm!(
                        "test {add}, {add}",
                        "jz 2f",
                        "tileloadd tmm0, [{c} + {row}]",
                        "tileloadd tmm1, [{c} + {row} + 64]",
                        "tileloadd tmm2, [{c} + {row} + 2048]",
                        "tileloadd tmm3, [{c} + {row} + 2112]",
                        "jmp 3f",
                        "2:",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "3:",
                        $($step,)*
                        "add {a0}, {a_step}",
                        "add {a1}, {a_step}",
                        "add {b0}, {b_step}",
                        "add {b1}, {b_step}",
                        "dec {steps}",
                        "jnz 3b",
                        "tilestored [{c} + {row}], tmm0",
                        "tilestored [{c} + {row} + 64], tmm1",
                        "tilestored [{c} + {row} + 2048], tmm2",
                        "tilestored [{c} + {row} + 2112], tmm3",
                        steps = inout(reg) a.steps => _,
                        a0 = inout(reg) a0 => _,
                        a1 = inout(reg) a1 => _,
                        b0 = inout(reg) b0 => _,
                        b1 = inout(reg) b1 => _,
                        a_step = in(reg) 2 * a.step,
                        b_step = in(reg) 2 * b.step,
                        line = in(reg) 64usize,
                        row = in(reg) 128usize,
                        c = in(reg) sums,
                        add = in(reg) usize::from(add),
                        options(nostack),
                    )
                };
            }
            match parts {
                Parts::One => block!(
                    "tileloadd tmm4, [{a0} + {line}]",
                    "tileloadd tmm6, [{b0} + {line}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    fetch!("{b0} + {b_step}"),
                    "tileloadd tmm7, [{b1} + {line}]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a1} + {line}]",
                    fetch!("{b1} + {b_step}"),
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7"
                ),
                Parts::Two => block!(
                    "tileloadd tmm4, [{a0} + {line} + 1024]",
                    "tileloadd tmm6, [{b0} + {line}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    fetch!("{b0} + {b_step}"),
                    "tileloadd tmm7, [{b1} + {line}]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a1} + {line} + 1024]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    fetch!("{b1} + {b_step}"),
                    "tileloadd tmm4, [{a0} + {line}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a1} + {line}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    fetch!("{b0} + {b_step} + 1024"),
                    "tileloadd tmm6, [{b0} + {line} + 1024]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    fetch!("{b1} + {b_step} + 1024"),
                    "tileloadd tmm7, [{b1} + {line} + 1024]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7"
                ),
            }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod tiles {
    use super::*;

    pub fn request() -> bool {
        false
    }

    /// # Safety
    /// Never called: [`request`] is not granted.
    pub unsafe fn multiply(_: Parts, _: Walk, _: Walk, _: &mut Block, _: bool) {
        unreachable!("this machine has no tiles")
    }
}

pub use tiles::{multiply, request};
