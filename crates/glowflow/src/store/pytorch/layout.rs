//! How the tensors of another project lie in ours: a list of [`Entry`], the same for reading and for writing.

use std::collections::BTreeMap;

use nalgebra::DMatrix;

use super::archive::NamedTensor;
use crate::linalg;

/// Outputs of a convolution that gives two values for each of `n` channels, in two halves or interleaved as ours, and
/// their signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outputs {
    /// As ours.
    Same,
    /// As ours, all of them with the other sign.
    Negated,
    /// As ours, the even ones, shifts, with the other sign.
    NegatedShifts,
    /// Halves: what is even with us, then what is odd.
    EvenThenOdd,
    /// Halves: what is odd with us, then what is even.
    OddThenEven,
}

impl Outputs {
    /// Which of their `count` outputs is our output `ours`.
    fn theirs(self, ours: usize, count: usize) -> usize {
        let (pair, odd) = (ours / 2, ours % 2);
        match self {
            Self::Same | Self::Negated | Self::NegatedShifts => ours,
            Self::EvenThenOdd => pair + odd * (count / 2),
            Self::OddThenEven => pair + (1 - odd) * (count / 2),
        }
    }

    fn sign(self, ours: usize) -> f32 {
        match self {
            Self::Negated => -1.0,
            Self::NegatedShifts if ours.is_multiple_of(2) => -1.0,
            _ => 1.0,
        }
    }
}

/// How one tensor of theirs is one of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Map {
    /// `[outputs]` of ones around: `factor * theirs`, `[outputs]`. The factor is 1 or -1.
    Vector { outputs: Outputs, factor: f32 },
    /// `[hidden, inputs, 3, 3]`: row `tap * inputs + input`, `[9 * inputs, hidden]`.
    FirstConv,
    /// `[outputs, inputs]`, ones after: `[inputs, outputs]`.
    Transposed,
    /// `[outputs, inputs, 3, 3]`: column `tap * outputs + output`, `[inputs, 9 * outputs]`.
    LastConv(Outputs),
    /// `[rows, columns]`, ones after: the same.
    Matrix,
    /// `[channels, height, width, classes]`: `[classes, height, width, channels]`.
    ClassTable,
}

/// A vector as ours.
pub(super) const VECTOR: Map = Map::Vector { outputs: Outputs::Same, factor: 1.0 };

/// The tensors of a 1x1 convolution as `P (L + I) (U + diag(sign e^s))`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Factors {
    /// P, L, U, the logarithms `s`, the signs.
    pub theirs: [String; 5],
    /// Of our permutation.
    pub ours: String,
    pub channels: usize,
}

/// A part of a layout.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    /// One tensor of theirs, of this shape, is one of ours.
    Tensor { theirs: String, shape: Vec<usize>, ours: String, map: Map },
    /// Five are the three of a PLU permutation.
    Plu(Factors),
    /// A matrix where we have a PLU permutation: it is factored, and stays the same map.
    Factored { theirs: String, shape: Vec<usize>, ours: String },
}

impl Entry {
    pub fn tensor(theirs: String, shape: &[usize], ours: String, map: Map) -> Self {
        Self::Tensor { theirs, shape: shape.to_vec(), ours, map }
    }

    /// Names and shapes of the tensors that it takes.
    pub fn theirs(&self) -> Vec<(&str, Vec<usize>)> {
        match self {
            Self::Tensor { theirs, shape, .. } | Self::Factored { theirs, shape, .. } => vec![(theirs, shape.clone())],
            Self::Plu(Factors { theirs, channels, .. }) => {
                let shape = |i: usize| if i < 3 { vec![*channels; 2] } else { vec![*channels] };
                theirs.iter().enumerate().map(|(i, name)| (name.as_str(), shape(i))).collect()
            }
        }
    }
}

/// Numbers of one of our tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Trained.
    Floats(Vec<f32>),
    /// A permutation's order, or signs.
    Integers(Vec<i32>),
}

/// One of our tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineTensor {
    /// Sizes, the last one varying fastest.
    pub shape: Vec<usize>,
    /// As many as the shape says.
    pub numbers: Numbers,
}

impl EngineTensor {
    /// What is trained.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.numbers {
            Numbers::Floats(values) => Some(values),
            Numbers::Integers(_) => None,
        }
    }

    /// A permutation's order, or signs.
    pub fn integers(&self) -> Option<&[i32]> {
        match &self.numbers {
            Numbers::Floats(_) => None,
            Numbers::Integers(values) => Some(values),
        }
    }
}

/// Our tensors by the names that a model's file has.
pub type EngineTensors = BTreeMap<String, EngineTensor>;

pub(super) fn floats(shape: Vec<usize>, values: Vec<f32>) -> EngineTensor {
    EngineTensor { shape, numbers: Numbers::Floats(values) }
}

fn integers(values: Vec<i32>) -> EngineTensor {
    EngineTensor { shape: vec![values.len()], numbers: Numbers::Integers(values) }
}

impl Entry {
    /// Our tensors from theirs, which come in the order of [`Entry::theirs`], finite and of its shapes. An error is a
    /// sentence.
    pub fn import(&self, theirs: &[&NamedTensor]) -> Result<Vec<(String, EngineTensor)>, String> {
        match (self, theirs) {
            (Self::Tensor { ours, map, .. }, [tensor]) => Ok(vec![(ours.clone(), map.import(tensor))]),
            (Self::Plu(factors), [p, l, u, log_s, sign]) => factors.import([p, l, u, log_s, sign]),
            (Self::Factored { ours, shape, .. }, [tensor]) => {
                let size = shape[0];
                let values = tensor.values.iter().map(|&value| f64::from(value));
                let factors = linalg::plu(DMatrix::from_row_iterator(size, size, values));
                let diagonal = factors.upper.diagonal();
                if diagonal.iter().any(|d| *d == 0.0) {
                    return Err(format!("Expected {} to have an inverse but it has none", tensor.name));
                }
                let mut packed = factors.lower.lower_triangle() + factors.upper.upper_triangle();
                packed.set_diagonal(&diagonal.map(|d| d.abs().ln()));
                Ok(permutation(
                    ours,
                    packed.transpose().iter().map(|&value| value as f32).collect(),
                    factors.rows.iter().map(|&row| row as i32).collect(),
                    diagonal.iter().map(|d| d.signum() as i32).collect(),
                ))
            }
            _ => Err("Expected as many tensors as the layout names".into()),
        }
    }
}

/// One of theirs from its elements.
fn named(name: &str, shape: Vec<usize>, values: Vec<f32>) -> NamedTensor {
    NamedTensor { name: name.to_owned(), shape, values }
}

impl Entry {
    /// Their tensors from ours, or their gradients from ours; `None` where ours are not all there.
    pub fn export(&self, ours: &EngineTensors) -> Option<Vec<NamedTensor>> {
        match self {
            Self::Tensor { theirs, shape, ours: name, map } => {
                Some(vec![named(theirs, shape.clone(), map.export(shape, ours.get(name)?.floats()?))])
            }
            Self::Plu(factors) => factors.export(ours),
            Self::Factored { theirs, shape, ours: name } => {
                let matrix = multiplied_out(ours, name)?;
                Some(vec![named(theirs, shape.clone(), matrix)])
            }
        }
    }
}

/// The matrix of a permutation in its PLU form, row after row.
fn multiplied_out(ours: &EngineTensors, permutation: &str) -> Option<Vec<f32>> {
    let (packed, order, signs) = packed(ours, permutation)?;
    let size = order.len();
    let packed = DMatrix::from_row_iterator(size, size, packed.iter().map(|&value| f64::from(value)));
    let mut lower = packed.lower_triangle();
    lower.fill_diagonal(1.0);
    let mut upper = packed.upper_triangle();
    for (i, &sign) in signs.iter().enumerate() {
        upper[(i, i)] = f64::from(sign) * packed[(i, i)].exp();
    }
    let product = lower * upper;
    Some((0..size * size).map(|at| product[(order[at / size] as usize, at % size)] as f32).collect())
}

/// The tensors of a permutation in its PLU form.
fn packed<'a>(ours: &'a EngineTensors, permutation: &str) -> Option<(&'a [f32], &'a [i32], &'a [i32])> {
    let get = |field: &str| ours.get(&format!("{permutation}.{field}"));
    Some((get("weight")?.floats()?, get("order")?.integers()?, get("signs")?.integers()?))
}

fn permutation(ours: &str, packed: Vec<f32>, order: Vec<i32>, signs: Vec<i32>) -> Vec<(String, EngineTensor)> {
    let size = order.len();
    vec![
        (format!("{ours}.weight"), floats(vec![size, size], packed)),
        (format!("{ours}.order"), integers(order)),
        (format!("{ours}.signs"), integers(signs)),
    ]
}

impl Factors {
    /// The masked halves of L and U hold anything: they have never been read.
    fn import(&self, [p, l, u, log_s, sign]: [&NamedTensor; 5]) -> Result<Vec<(String, EngineTensor)>, String> {
        let size = self.channels;
        let mut order = Vec::with_capacity(size);
        let mut taken = vec![false; size];
        for row in p.values.chunks_exact(size) {
            let ones: Vec<usize> = (0..size).filter(|&column| row[column] != 0.0).collect();
            match ones[..] {
                [column] if row[column] == 1.0 && !std::mem::replace(&mut taken[column], true) => {
                    order.push(column as i32)
                }
                _ => return Err(format!("Expected a permutation matrix in {} but found another", p.name)),
            }
        }
        if let Some(value) = sign.values.iter().find(|value| value.abs() != 1.0) {
            return Err(format!("Expected signs in {} but found {value}", sign.name));
        }
        let packed = (0..size * size).map(|at| match (at / size).cmp(&(at % size)) {
            std::cmp::Ordering::Greater => l.values[at],
            std::cmp::Ordering::Equal => log_s.values[at / size],
            std::cmp::Ordering::Less => u.values[at],
        });
        let signs = sign.values.iter().map(|&sign| sign as i32).collect();
        Ok(permutation(&self.ours, packed.collect(), order, signs))
    }

    /// The masked halves of L and U are 0.
    fn export(&self, ours: &EngineTensors) -> Option<Vec<NamedTensor>> {
        let (packed, order, signs) = packed(ours, &self.ours)?;
        let size = self.channels;
        let matrix = |value: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
            (0..size * size).map(|at| value(at / size, at % size)).collect()
        };
        let at = |row: usize, column: usize| packed[row * size + column];
        let values = [
            matrix(&|row, column| if order[row] as usize == column { 1.0 } else { 0.0 }),
            matrix(&|row, column| if column < row { at(row, column) } else { 0.0 }),
            matrix(&|row, column| if column > row { at(row, column) } else { 0.0 }),
            (0..size).map(|i| at(i, i)).collect(),
            signs.iter().map(|&sign| sign as f32).collect(),
        ];
        let shape = |i: usize| if i < 3 { vec![size; 2] } else { vec![size] };
        let tensors = self.theirs.iter().zip(values).enumerate();
        Some(tensors.map(|(i, (name, values))| named(name, shape(i), values)).collect())
    }
}

impl Map {
    /// The shape of ours from that of theirs.
    fn shape(self, theirs: &[usize]) -> Vec<usize> {
        let size = |axis: usize| theirs.get(axis).copied().unwrap_or(1);
        match self {
            Self::Vector { .. } => vec![theirs.iter().product()],
            Self::FirstConv => vec![9 * size(1), size(0)],
            Self::Transposed => vec![size(1), size(0)],
            Self::LastConv(_) => vec![size(1), 9 * size(0)],
            Self::Matrix => vec![size(0), size(1)],
            Self::ClassTable => vec![size(3), size(1), size(2), size(0)],
        }
    }

    /// Which of their elements our element `at` is, and its factor.
    fn source(self, theirs: &[usize], at: usize) -> Source {
        let size = |axis: usize| theirs.get(axis).copied().unwrap_or(1);
        let plain = |at: usize| Source { at, factor: 1.0 };
        match self {
            Self::Vector { outputs, factor } => {
                Source { at: outputs.theirs(at, theirs.iter().product()), factor: outputs.sign(at) * factor }
            }
            Self::FirstConv => {
                let (hidden, inputs) = (size(0), size(1));
                let (tap, input, output) = (at / (inputs * hidden), at / hidden % inputs, at % hidden);
                plain((output * inputs + input) * 9 + tap)
            }
            Self::Transposed => plain(at % size(0) * size(1) + at / size(0)),
            Self::LastConv(order) => {
                let (outputs, inputs) = (size(0), size(1));
                let (input, tap, output) = (at / (9 * outputs), at / outputs % 9, at % outputs);
                Source { at: (order.theirs(output, outputs) * inputs + input) * 9 + tap, factor: order.sign(output) }
            }
            Self::Matrix => plain(at),
            Self::ClassTable => {
                let (channels, pixels, classes) = (size(0), size(1) * size(2), size(3));
                let (class, pixel, channel) = (at / (pixels * channels), at / channels % pixels, at % channels);
                plain((channel * pixels + pixel) * classes + class)
            }
        }
    }

    fn import(self, NamedTensor { shape, values, .. }: &NamedTensor) -> EngineTensor {
        let value = |at| {
            let source = self.source(shape, at);
            source.factor * values[source.at]
        };
        floats(self.shape(shape), (0..values.len()).map(value).collect())
    }

    /// Every factor is 1 or -1, so that gradients go the way of values.
    fn export(self, shape: &[usize], ours: &[f32]) -> Vec<f32> {
        let mut theirs = vec![0.0; ours.len()];
        for (at, value) in ours.iter().enumerate() {
            let source = self.source(shape, at);
            theirs[source.at] = source.factor * value;
        }
        theirs
    }
}

/// An element of theirs as one of ours: times 1 or -1.
struct Source {
    at: usize,
    factor: f32,
}
