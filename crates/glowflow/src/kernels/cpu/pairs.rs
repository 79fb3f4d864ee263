//! Two parameters for each value: shift and scale of a coupling, mean and deviation of a normal.

/// Where the two parameters of a value lie in a row of 2n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Beside each other: the first of value i at 2i, the second at 2i + 1.
    Interleaved,
    /// Apart: the first at i, the second at n + i.
    Halves,
}

/// Values handled at a time.
pub const BLOCK: usize = 256;

/// A block of one value each.
pub type Block = [f32; BLOCK];

impl Layout {
    /// Calls `visit(offset, at, len)` for each run of the values `start..start + len` of an array [rows, n] whose
    /// parameters repeat after `values` values: value `offset` of these has its first parameter at `at`, and the `len`
    /// values from there on have theirs in a row.
    #[inline(always)]
    fn runs(self, start: usize, len: usize, values: usize, n: usize, mut visit: impl FnMut(usize, usize, usize)) {
        // Interleaved parameters are one long row.
        let row = if self == Layout::Interleaved { values } else { n };
        let mut done = 0;
        while done < len {
            let value = (start + done) % values;
            let run = (row - value % row).min(len - done);
            let at = if self == Layout::Interleaved { 2 * value } else { value / n * 2 * n + value % n };
            visit(done, at, run);
            done += run;
        }
    }

    /// Reads the parameters of the values `start..start + len` of an array [rows, n]; row r has row
    /// `r % (h.len() / 2n)` of h.
    #[inline(always)]
    pub fn read(self, h: &[f32], n: usize, start: usize, len: usize) -> (Block, Block) {
        let (mut all_first, mut all_second) = ([0.0; BLOCK], [0.0; BLOCK]);
        self.runs(start, len, h.len() / 2, n, |offset, at, run| {
            let (first, second) = (&mut all_first[offset..offset + run], &mut all_second[offset..offset + run]);
            match self {
                Layout::Interleaved => {
                    let (pairs, _) = h[at..at + 2 * run].as_chunks::<2>();
                    for ((first, second), pair) in first.iter_mut().zip(second).zip(pairs) {
                        (*first, *second) = (pair[0], pair[1]);
                    }
                }
                Layout::Halves => {
                    first.copy_from_slice(&h[at..at + run]);
                    second.copy_from_slice(&h[at + n..at + n + run]);
                }
            }
        });
        (all_first, all_second)
    }

    /// Writes what [`Layout::read`] reads.
    #[inline(always)]
    pub fn write(self, h: &mut [f32], n: usize, start: usize, len: usize, first: &Block, second: &Block) {
        self.runs(start, len, h.len() / 2, n, |offset, at, run| {
            let (first, second) = (&first[offset..offset + run], &second[offset..offset + run]);
            match self {
                Layout::Interleaved => {
                    let (pairs, _) = h[at..at + 2 * run].as_chunks_mut::<2>();
                    for ((first, second), pair) in first.iter().zip(second).zip(pairs) {
                        *pair = [*first, *second];
                    }
                }
                Layout::Halves => {
                    h[at..at + run].copy_from_slice(first);
                    h[at + n..at + n + run].copy_from_slice(second);
                }
            }
        });
    }
}

/// The example's entry of `cotangent` for each of the values `start..start + len`, where an example has `size` values.
#[inline(always)]
pub fn per_example(cotangent: &[f32], size: usize, start: usize, len: usize) -> Block {
    let mut values = [0.0; BLOCK];
    let mut done = 0;
    while done < len {
        let (example, within) = ((start + done) / size, (start + done) % size);
        let run = (size - within).min(len - done);
        values[done..done + run].fill(cotangent[example]);
        done += run;
    }
    values
}
