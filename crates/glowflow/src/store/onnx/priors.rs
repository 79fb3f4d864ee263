//! Priors: values to standard normal noise, and back.

use burn::tensor::Tensor;

use super::graph::{Attribute, Graph, Value};
use super::layers::{LogProb, Shape, Sign, halves};
use super::net::conv;
use crate::kernels::host::read;
use crate::priors::{FoldedNormal, FoldedPrior};

/// What a prior may depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    /// The channels that a split keeps.
    pub kept: Option<&'a Value>,
    /// Of a class-conditional model, `[batch]`.
    pub labels: Option<&'a Value>,
}

/// Values as noise. `shape` is theirs.
pub(super) fn to_noise(
    graph: &mut Graph,
    scope: &str,
    x: &Value,
    prior: FoldedPrior,
    given: Given,
    shape: Shape,
    log_prob: &mut Option<LogProb>,
) -> Value {
    let Some(Normal { mean, log }) = Normal::of(graph, scope, prior, given, shape, log_prob) else { return x.clone() };
    let mean = mean.value(graph, &format!("{scope}.mean"));
    let inverse_scale = log.exponential(graph, scope, Sign::Minus);
    let centred = graph.node(scope, "Sub", &[x, &mean], &[]);
    graph.node(scope, "Mul", &[&centred, &inverse_scale], &[])
}

/// Undoes [`to_noise`].
pub(super) fn from_noise(
    graph: &mut Graph,
    scope: &str,
    noise: &Value,
    prior: FoldedPrior,
    given: Given,
    shape: Shape,
) -> Value {
    let Some(Normal { mean, log }) = Normal::of(graph, scope, prior, given, shape, &mut None) else {
        return noise.clone();
    };
    let mean = mean.value(graph, &format!("{scope}.mean"));
    let scale = log.exponential(graph, scope, Sign::Plus);
    let scaled = graph.node(scope, "Mul", &[noise, &scale], &[]);
    graph.node(scope, "Add", &[&scaled, &mean], &[])
}

/// Means and log-deviations.
struct Normal {
    mean: Part,
    log: Part,
}

/// Half of what a prior says.
enum Part {
    /// The same for every image. Shape `[1, channels, height, width]`.
    Constant { shape: [usize; 4], values: Vec<f32> },
    /// Found at run time.
    Found(Value),
}

impl Part {
    fn value(self, graph: &mut Graph, name: &str) -> Value {
        match self {
            Self::Constant { shape, values } => graph.constant(name, &shape, &values),
            Self::Found(value) => value,
        }
    }

    /// `e^log`, or `e^-log`.
    fn exponential(self, graph: &mut Graph, scope: &str, sign: Sign) -> Value {
        match (self, sign) {
            (Self::Constant { shape, values }, sign) => {
                let (name, factor) = match sign {
                    Sign::Plus => ("scale", 1.0),
                    Sign::Minus => ("inverse_scale", -1.0),
                };
                let values: Vec<_> = values.iter().map(|log| (factor * log).exp()).collect();
                graph.constant(&format!("{scope}.{name}"), &shape, &values)
            }
            (Self::Found(log), Sign::Plus) => graph.node(scope, "Exp", &[&log], &[]),
            (Self::Found(log), Sign::Minus) => {
                let minus_log = graph.node(scope, "Neg", &[&log], &[]);
                graph.node(scope, "Exp", &[&minus_log], &[])
            }
        }
    }
}

impl Normal {
    /// Nothing for a standard one. Adds minus the sum of log-deviations to `log_prob`.
    fn of(
        graph: &mut Graph,
        scope: &str,
        prior: FoldedPrior,
        given: Given,
        shape: Shape,
        log_prob: &mut Option<LogProb>,
    ) -> Option<Self> {
        let (shared, by_class) = match prior {
            FoldedPrior::Conv(prior) => {
                let kept = given.kept.expect("a convolution's prior is that of a split");
                let h = conv(graph, &format!("{scope}.prior"), kept, prior.halves(0.0), shape.size());
                let [mean, log] = halves(graph, scope, &h, 2 * shape.channels);
                if let Some(log_prob) = log_prob {
                    log_prob.add_sum(graph, scope, &log, Sign::Minus);
                }
                return Some(Self { mean: Part::Found(mean), log: Part::Found(log) });
            }
            FoldedPrior::Normal(FoldedNormal { shared, by_class }) => (shared.map(Table::of), by_class.map(Table::of)),
        };
        if let (Some(log_prob), Some(shared)) = (log_prob.as_mut(), &shared) {
            log_prob.constant -= shared.log_sums(shape)[0];
        }
        let Some(by_class) = by_class else { return shared.map(Table::into_normal) };
        let labels = given.labels.expect("the graph of a class-conditional model has labels");
        if let Some(log_prob) = log_prob {
            let minus_sums: Vec<_> = by_class.log_sums(shape).iter().map(|sum| -sum).collect();
            let table = graph.doubles(&format!("{scope}.log_prob.classes"), &minus_sums);
            log_prob.add(row_of(graph, scope, &table, labels));
        }
        let mut h = by_class.gathered(graph, scope, labels);
        if let Some(Table { shape, values }) = shared {
            let shared = graph.constant(&format!("{scope}.shared"), &shape, &values);
            h = graph.node(scope, "Add", &[&h, &shared], &[]);
        }
        let [mean, log] = halves(graph, scope, &h, 2 * shape.channels);
        Some(Self { mean: Part::Found(mean), log: Part::Found(log) })
    }
}

/// Means, then log-deviations. Shape `[rows, 2 * channels, height or 1, width or 1]`.
struct Table {
    shape: [usize; 4],
    values: Vec<f32>,
}

impl Table {
    fn of(channels_last: Tensor<4>) -> Self {
        let table = channels_last.permute([0, 3, 1, 2]);
        Self { shape: table.dims(), values: read(table) }
    }

    /// Of a table of one row.
    fn into_normal(self) -> Normal {
        let [rows, columns, height, width] = self.shape;
        let shape = [rows, columns / 2, height, width];
        let mut mean = self.values;
        let log = mean.split_off(mean.len() / 2);
        Normal { mean: Part::Constant { shape, values: mean }, log: Part::Constant { shape, values: log } }
    }

    /// The sum of each row's log-deviations over the pixels of latents of this shape.
    fn log_sums(&self, latents: Shape) -> Vec<f64> {
        let [_, columns, height, width] = self.shape;
        let row = columns * height * width;
        let pixels_for_one = latents.pixels() / (height * width);
        let sum = |row: &[f32]| row[row.len() / 2..].iter().map(|&log| f64::from(log)).sum::<f64>();
        self.values.chunks_exact(row).map(|row| sum(row) * pixels_for_one as f64).collect()
    }

    /// The row of each example's class. Shape `[batch, 2 * channels, height or 1, width or 1]`.
    fn gathered(&self, graph: &mut Graph, scope: &str, labels: &Value) -> Value {
        let table = graph.constant(&format!("{scope}.classes"), &self.shape, &self.values);
        row_of(graph, scope, &table, labels)
    }
}

fn row_of(graph: &mut Graph, scope: &str, table: &Value, labels: &Value) -> Value {
    graph.node(scope, "Gather", &[table, labels], &[Attribute::Integer("axis", 0)])
}
