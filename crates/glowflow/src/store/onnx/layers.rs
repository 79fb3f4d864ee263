//! Steps of flow, one function a direction, and what all layers share.

use super::graph::{Attribute, Graph, Type, Value};
use super::net::{conv, conv_net};
use crate::error::Result;
use crate::kernels::coupling::{BOUNDED_SHIFT, HIGHEST, Kind, LOWEST, SIGMOID_SHIFT};
use crate::layers::{PreparedCoupling, PreparedMix, PreparedStep};

/// Channels, height and width of an activation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Shape {
    pub fn size(self) -> [usize; 2] {
        [self.height, self.width]
    }

    pub fn pixels(self) -> usize {
        self.height * self.width
    }
}

/// The log-probability of each example, nats, in parts: doubles of shape `[batch]`, and a constant.
#[derive(Debug)]
pub(super) struct LogProb {
    /// What all examples share, nats.
    pub constant: f64,
    terms: Vec<Value>,
}

impl LogProb {
    /// A constant, to be added to.
    pub fn starting_at(constant: f64) -> Self {
        Self { constant, terms: Vec::new() }
    }

    /// Adds the sum over each example's values, in double precision, or takes it away.
    pub fn add_sum(&mut self, graph: &mut Graph, scope: &str, values: &Value, sign: Sign) {
        let values = to_double(graph, scope, values);
        self.add_sum_of_doubles(graph, scope, &values, sign);
    }

    /// [`LogProb::add_sum`] of minus half the squares.
    pub fn add_energy(&mut self, graph: &mut Graph, scope: &str, values: &Value) {
        let values = to_double(graph, scope, values);
        let half = graph.double("log_prob.minus_half", -0.5);
        let squares = graph.node(scope, "Mul", &[&values, &values], &[]);
        let energy = graph.node(scope, "Mul", &[&squares, &half], &[]);
        self.add_sum_of_doubles(graph, scope, &energy, Sign::Plus);
    }

    fn add_sum_of_doubles(&mut self, graph: &mut Graph, scope: &str, values: &Value, sign: Sign) {
        let by_example = graph.integers(&[0, -1]);
        let rows = graph.node(scope, "Reshape", &[values, &by_example], &[]);
        let last = graph.integers(&[1]);
        let sum = graph.node(scope, "ReduceSum", &[&rows, &last], &[Attribute::Integer("keepdims", 0)]);
        self.terms.push(match sign {
            Sign::Plus => sum,
            Sign::Minus => graph.node(scope, "Neg", &[&sum], &[]),
        });
    }

    /// Adds the log-probability of standard logistic values, `-|z| - 2 ln(1 + e^-|z|)`, in double precision.
    pub fn add_logistic(&mut self, graph: &mut Graph, scope: &str, values: &Value) {
        let values = to_double(graph, scope, values);
        let (one, two) = (graph.double("log_prob.one", 1.0), graph.double("log_prob.two", 2.0));
        let size = graph.node(scope, "Abs", &[&values], &[]);
        let minus_size = graph.node(scope, "Neg", &[&size], &[]);
        let tail = graph.node(scope, "Exp", &[&minus_size], &[]);
        let tail = graph.node(scope, "Add", &[&tail, &one], &[]);
        let tail = graph.node(scope, "Log", &[&tail], &[]);
        let tails = graph.node(scope, "Mul", &[&tail, &two], &[]);
        let minus_log = graph.node(scope, "Add", &[&size, &tails], &[]);
        self.add_sum_of_doubles(graph, scope, &minus_log, Sign::Minus);
    }

    /// Adds a double of each example, `[batch]`.
    pub fn add(&mut self, of_example: Value) {
        self.terms.push(of_example);
    }

    /// The whole. Shape `[batch]`.
    pub fn total(&self, graph: &mut Graph) -> Value {
        let constant = graph.double("log_prob.constant", self.constant);
        let terms: Vec<_> = self.terms.iter().chain([&constant]).collect();
        graph.node("log_prob", "Sum", &terms, &[])
    }
}

/// The sign of a term.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sign {
    Plus,
    Minus,
}

fn to_double(graph: &mut Graph, scope: &str, x: &Value) -> Value {
    graph.node(scope, "Cast", &[x], &[Attribute::Integer("to", Type::Double as i64)])
}

/// Image to latent through a step of flow.
pub(super) fn step_forward(
    graph: &mut Graph,
    scope: &str,
    x: &Value,
    step: &PreparedStep,
    shape: Shape,
    log_prob: &mut Option<LogProb>,
) -> Value {
    let mixed = mix_forward(graph, &format!("{scope}.mix"), x, &step.mix, shape, log_prob);
    coupling_forward(graph, &format!("{scope}.coupling"), &mixed, &step.coupling, shape, log_prob)
}

/// Latent to image through a step of flow.
pub(super) fn step_inverse(
    graph: &mut Graph,
    scope: &str,
    z: &Value,
    step: &PreparedStep,
    shape: Shape,
) -> Result<Value> {
    let mixed = coupling_inverse(graph, &format!("{scope}.coupling"), z, &step.coupling, shape);
    mix_inverse(graph, &format!("{scope}.mix"), &mixed, &step.mix, shape)
}

fn mix_forward(
    graph: &mut Graph,
    scope: &str,
    x: &Value,
    mix: &PreparedMix,
    shape: Shape,
    log_prob: &mut Option<LogProb>,
) -> Value {
    if let Some(log_prob) = log_prob {
        log_prob.constant += mix.log_det_of_pixel() * shape.pixels() as f64;
    }
    conv(graph, scope, x, mix.folded(), shape.size())
}

fn mix_inverse(graph: &mut Graph, scope: &str, z: &Value, mix: &PreparedMix, shape: Shape) -> Result<Value> {
    Ok(conv(graph, scope, z, mix.folded_inverse()?, shape.size()))
}

fn coupling_forward(
    graph: &mut Graph,
    scope: &str,
    x: &Value,
    coupling: &PreparedCoupling,
    shape: Shape,
    log_prob: &mut Option<LogProb>,
) -> Value {
    let [x1, x2] = halves(graph, scope, x, shape.channels);
    let z2 = match run_net(graph, scope, &x1, coupling, shape) {
        Parameters::Additive { shift } => graph.node(scope, "Add", &[&x2, &shift], &[]),
        Parameters::Sigmoid { shift, minus_raw } => {
            if let Some(log_prob) = log_prob {
                let minus_log_scale = graph.node(scope, "Softplus", &[&minus_raw], &[]);
                log_prob.add_sum(graph, scope, &minus_log_scale, Sign::Minus);
            }
            let inverse_scale = inverse_of_sigmoid(graph, scope, &minus_raw);
            let shifted = graph.node(scope, "Add", &[&x2, &shift], &[]);
            graph.node(scope, "Div", &[&shifted, &inverse_scale], &[])
        }
        Parameters::Bounded { shift, scale } => {
            if let Some(log_prob) = log_prob {
                let log_scale = graph.node(scope, "Log", &[&scale], &[]);
                log_prob.add_sum(graph, scope, &log_scale, Sign::Plus);
            }
            let shifted = graph.node(scope, "Add", &[&x2, &shift], &[]);
            graph.node(scope, "Mul", &[&shifted, &scale], &[])
        }
    };
    concat(graph, scope, &[&x1, &z2])
}

fn coupling_inverse(graph: &mut Graph, scope: &str, z: &Value, coupling: &PreparedCoupling, shape: Shape) -> Value {
    let [z1, z2] = halves(graph, scope, z, shape.channels);
    let x2 = match run_net(graph, scope, &z1, coupling, shape) {
        Parameters::Additive { shift } => graph.node(scope, "Sub", &[&z2, &shift], &[]),
        Parameters::Sigmoid { shift, minus_raw } => {
            let inverse_scale = inverse_of_sigmoid(graph, scope, &minus_raw);
            let unscaled = graph.node(scope, "Mul", &[&z2, &inverse_scale], &[]);
            graph.node(scope, "Sub", &[&unscaled, &shift], &[])
        }
        Parameters::Bounded { shift, scale } => {
            let unscaled = graph.node(scope, "Div", &[&z2, &scale], &[]);
            graph.node(scope, "Sub", &[&unscaled, &shift], &[])
        }
    };
    concat(graph, scope, &[&z1, &x2])
}

/// What a coupling's net says of the changed half.
enum Parameters {
    Additive {
        shift: Value,
    },
    /// The scale is `sigmoid(raw)`.
    Sigmoid {
        shift: Value,
        minus_raw: Value,
    },
    Bounded {
        shift: Value,
        scale: Value,
    },
}

fn run_net(graph: &mut Graph, scope: &str, kept: &Value, coupling: &PreparedCoupling, shape: Shape) -> Parameters {
    let of_raw = match coupling.kind() {
        Kind::Additive => None,
        Kind::Sigmoid => Some(SIGMOID_SHIFT),
        Kind::Bounded => Some(BOUNDED_SHIFT),
    };
    let h = conv_net(graph, &format!("{scope}.net"), kept, coupling.net(), shape.size(), of_raw);
    if coupling.kind() == Kind::Additive {
        return Parameters::Additive { shift: h };
    }
    let [shift, raw] = halves(graph, scope, &h, shape.channels);
    if coupling.kind() == Kind::Sigmoid {
        let minus_raw = graph.node(scope, "Neg", &[&raw], &[]);
        return Parameters::Sigmoid { shift, minus_raw };
    }
    let gate = graph.node(scope, "Sigmoid", &[&raw], &[]);
    let (range, lowest) = (graph.number(HIGHEST - LOWEST), graph.number(LOWEST));
    let scale = graph.node(scope, "Mul", &[&gate, &range], &[]);
    let scale = graph.node(scope, "Add", &[&scale, &lowest], &[]);
    Parameters::Bounded { shift, scale }
}

/// `1 / sigmoid(raw) = 1 + e^-raw`, for both directions: runtimes cut off their sigmoid where it is small.
fn inverse_of_sigmoid(graph: &mut Graph, scope: &str, minus_raw: &Value) -> Value {
    let one = graph.number(1.0);
    let exponential = graph.node(scope, "Exp", &[minus_raw], &[]);
    graph.node(scope, "Add", &[&exponential, &one], &[])
}

/// First and second half of `channels`.
pub(super) fn halves(graph: &mut Graph, scope: &str, x: &Value, channels: usize) -> [Value; 2] {
    let parts = graph.split(scope, x, 1, &[channels / 2; 2]);
    parts.try_into().expect("two halves")
}

/// Channels one after the other.
pub(super) fn concat(graph: &mut Graph, scope: &str, parts: &[&Value]) -> Value {
    graph.node(scope, "Concat", parts, &[Attribute::Integer("axis", 1)])
}
