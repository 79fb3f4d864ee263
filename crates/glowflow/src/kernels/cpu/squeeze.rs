//! Blocks of 2x2 pixels as one pixel of four times the channels, channel 4 c + 2 dy + dx, and back.

use rayon::prelude::*;

use super::Grid;

/// Values of a task.
const TASK: usize = 1 << 14;

/// Pixels of `grid`, whose height and width are even, as [rows / 4, 4 channels]. In x they lie `row` apart.
pub fn squeeze(grid: Grid, x: &[f32], row: usize, channels: usize) -> Vec<f32> {
    let (from, to) = (2 * grid.width * row, 2 * grid.width * channels);
    let mut z = vec![0.0; grid.rows() * channels];
    let tasks = z.par_chunks_mut(to.max(1)).zip(x.par_chunks(from.max(1)));
    tasks.with_min_len(TASK / to.max(1) + 1).for_each(|(z, x)| {
        let (top, bottom) = x.split_at(from / 2);
        let pairs = top.chunks(2 * row).zip(bottom.chunks(2 * row));
        for (z, (top, bottom)) in z.chunks_exact_mut(4 * channels).zip(pairs) {
            let (z, _) = z.as_chunks_mut::<4>();
            let right = row..row + channels;
            let columns = top.iter().zip(&top[right.clone()]).zip(bottom.iter().zip(&bottom[right]));
            for (z, ((a, b), (c, d))) in z.iter_mut().zip(columns) {
                *z = [*a, *b, *c, *d];
            }
        }
    });
    z
}

/// Undoes [`squeeze`]: `grid` is that of z [rows, channels].
pub fn unsqueeze(grid: Grid, z: &[f32], channels: usize) -> Vec<f32> {
    let (line, few) = (grid.width * channels, channels / 4);
    let mut x = vec![0.0; z.len()];
    let tasks = x.par_chunks_mut(line.max(1)).zip(z.par_chunks(line.max(1)));
    tasks.with_min_len(TASK / line.max(1) + 1).for_each(|(x, z)| {
        let (top, bottom) = x.split_at_mut(line / 2);
        let pairs = top.chunks_exact_mut(2 * few).zip(bottom.chunks_exact_mut(2 * few));
        for (z, (top, bottom)) in z.chunks_exact(channels).zip(pairs) {
            let (z, _) = z.as_chunks::<4>();
            for (c, z) in z.iter().enumerate() {
                [top[c], top[few + c], bottom[c], bottom[few + c]] = *z;
            }
        }
    });
    x
}

#[cfg(test)]
mod tests {
    use super::super::reference::values;
    use super::*;

    #[test]
    fn each_value_goes_to_its_place_and_back() {
        for (batch, height, width, channels, row) in
            [(1, 2, 2, 1, 1), (3, 4, 6, 3, 3), (2, 16, 8, 12, 24), (1, 2, 2, 3, 7), (0, 2, 2, 3, 3)]
        {
            let grid = Grid { batch, height, width };
            let rows = values(1, grid.rows() * row);
            // The last row ends with its channels.
            let z = squeeze(grid, &rows[..rows.len().saturating_sub(row - channels)], row, channels);
            let mut x = Vec::new();
            for (at, row) in rows.chunks(row).enumerate() {
                let (line, column) = (at / width, at % width);
                let to = line / 2 * (width / 2) + column / 2;
                for (c, value) in row[..channels].iter().enumerate() {
                    assert_eq!(z[to * 4 * channels + 4 * c + 2 * (line % 2) + column % 2], *value);
                }
                x.extend_from_slice(&row[..channels]);
            }
            let half = Grid { batch, height: height / 2, width: width / 2 };
            assert_eq!(unsqueeze(half, &z, 4 * channels), x);
        }
    }
}
