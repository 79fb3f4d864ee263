//! The laws that every layer obeys, on every way to compute it: the inverse undoes the forward pass, the log-det is the
//! true Jacobian's, and the backward pass, rebuilding or not, is autodiff's: where a layer normalises by batches also in
//! training, whose gradient goes through their statistics. A new layer is one line in [`cases`].

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device as BurnDevice, FloatDType, Gradients as TapeGradients, Tensor, TensorData};
use glowflow::flow::{Cotangent, Gradients, Invertible, Layer, Mode, ModulePath, Output, named_parameters};
use glowflow::kernels::coupling::Kind;
use glowflow::kernels::{Path, available_paths, force};
use glowflow::layers::{
    ActNorm, AdditiveCoupling, ChannelCouplingConfig, Coupling, CouplingConfig, Logit, MaskedCouplingConfig, Mix,
    Permutation, PermutationKind, ScaleForm, Scaling, StepConfig, Whitening, WhiteningKind,
};
use glowflow::nets::{MlpConfig, NetForm, Padding};
use nalgebra::DMatrix;

use crate::common::{double, normal, perturbed, relative_error, relative_error_of, values, wgpu_device};

const INVERSE_TOLERANCE: f64 = 1e-4;
const VALUE_TOLERANCE: f64 = 1e-4;
const GRADIENT_TOLERANCE: f64 = 1e-3;
const JACOBIAN_TOLERANCE: f64 = 1e-6;
/// Largest input whose Jacobian is taken numerically.
const JACOBIAN_DIMS: usize = 48;

/// How a law looks at a layer, whatever its type.
trait Laws {
    fn check(&self, name: &str, inputs: Inputs);
    fn check_on(&self, name: &str, inputs: Inputs, device: &BurnDevice);
}

/// What a layer is tried with.
#[derive(Clone, Copy)]
struct Inputs {
    shape: [usize; 4],
    /// Standard deviation of the values: a logit has none for large ones.
    deviation: f64,
}

impl From<[usize; 4]> for Inputs {
    fn from(shape: [usize; 4]) -> Self {
        Self { shape, deviation: 1.0 }
    }
}

type Case = (String, Box<dyn Laws>, Inputs);

fn cases() -> Vec<Case> {
    let device = BurnDevice::flex();
    let mut cases: Vec<Case> = Vec::new();
    let mut case = |name: String, layer: Box<dyn Laws>, inputs: Inputs| {
        cases.push((format!("{name} {:?}", inputs.shape), layer, inputs));
    };
    let kinds = [Kind::Additive, Kind::Sigmoid, Kind::Bounded];
    let permutations =
        [PermutationKind::Conv1x1Lu, PermutationKind::Conv1x1, PermutationKind::Shuffle, PermutationKind::Reverse];
    let mix = |kind, channels: usize, scale| Mix {
        actnorm: ActNorm::new(channels, Some(scale), &device),
        permutation: Permutation::new(kind, channels, 3, 1, &device),
    };
    for kind in permutations {
        for shape in [[3, 2, 3, 4], [5, 3, 5, 12], [2, 4, 4, 24], [3, 2, 2, 48], [1, 2, 1, 96]] {
            case(
                format!("mix {kind:?}"),
                Box::new(perturbed(mix(kind, shape[3], ScaleForm::ThirdOfLog), 0.1, 1)),
                shape.into(),
            );
        }
        for scale in [ScaleForm::Log, ScaleForm::Linear] {
            let layer = perturbed(mix(kind, 12, scale), 0.1, 1);
            case(format!("mix {kind:?} {scale:?}"), Box::new(layer), [2, 2, 2, 12].into());
        }
    }
    // Scales of either sign, as rosinality's code may have come to.
    let mut negative = mix(PermutationKind::Conv1x1Lu, 4, ScaleForm::Linear);
    negative.actnorm.scale = negative.actnorm.scale.map(|scale| scale.map(|values| values.mul_scalar(-1.5)));
    case("mix of negative scales".into(), Box::new(perturbed(negative, 0.1, 1)), [2, 2, 3, 4].into());
    let coupling = |kind, [_, height, width, channels]: [usize; 4], hidden, form| CouplingConfig {
        kind,
        channels,
        size: [height, width],
        hidden,
        form,
    };
    for kind in kinds {
        for edge in [false, true] {
            for (shape, hidden) in [
                ([1, 2, 2, 4], 7),
                ([3, 3, 4, 4], 33),
                ([3, 1, 1, 12], 16),
                ([5, 1, 6, 24], 40),
                ([2, 4, 3, 48], 64),
                ([2, 2, 2, 96], 70),
            ] {
                let layer: Coupling = coupling(kind, shape, hidden, NetForm::of_paper(edge)).init(3, 1, &device);
                case(
                    format!("coupling {kind:?} edge {edge} hidden {hidden}"),
                    Box::new(perturbed(layer, 0.1, 2)),
                    shape.into(),
                );
            }
        }
    }
    for (shape, hidden) in [([2, 8, 8, 12], 512), ([3, 3, 5, 12], 96)] {
        let layer = coupling(Kind::Sigmoid, shape, hidden, NetForm::of_paper(false)).init(3, 1, &device);
        case(format!("coupling of width {hidden}"), Box::new(perturbed(layer, 0.02, 2)), shape.into());
    }
    let plain = NetForm { hidden_scale: None, ..NetForm::of_paper(false) };
    for form in [
        NetForm { hidden_scale: Some(ScaleForm::Log), ..plain },
        NetForm { last_padding: Padding::Ones, ..plain },
        NetForm { last_scaled: false, ..plain },
        NetForm { first_padding: Padding::Edge, last_padding: Padding::Ones, last_scaled: false, ..plain },
    ] {
        for kind in [Kind::Additive, Kind::Sigmoid] {
            let shape = [3, 3, 4, 4];
            let layer = coupling(kind, shape, 33, form).init(3, 1, &device);
            case(format!("coupling {kind:?} of {form:?}"), Box::new(perturbed(layer, 0.1, 2)), shape.into());
        }
    }
    for kind in kinds {
        for permutation in permutations {
            let shape = [3, 2, 3, 8];
            let coupling = coupling(kind, shape, 12, NetForm::of_paper(true));
            let step = StepConfig { scale: ScaleForm::ThirdOfLog, permutation, coupling }.init(9, 0, &device);
            case(format!("step {permutation:?} {kind:?}"), Box::new(perturbed(step, 0.1, 4)), shape.into());
        }
    }
    for (batch, half, hidden, layers) in [(1, 2, 7, 1), (3, 9, 33, 3), (5, 24, 16, 2), (150, 50, 130, 2)] {
        let net = MlpConfig { inputs: half, hidden, layers, outputs: half }.init(3, 1, &device);
        let layer = perturbed(AdditiveCoupling { net }, 0.2, 5);
        case(format!("additive coupling, {layers} x {hidden}"), Box::new(layer), [batch, 1, 1, 2 * half].into());
    }
    for dims in [2, 48, 130] {
        case("scaling".into(), Box::new(perturbed(Scaling::new(dims, &device), 0.5, 6)), [3, 1, 1, dims].into());
        for kind in [WhiteningKind::None, WhiteningKind::Approximate, WhiteningKind::Zca] {
            let mut layer = Whitening::new(kind, dims, &device);
            let spread = normal([1, 1, 1, dims], 7, &device).exp();
            layer.set_from(&[normal([2 * dims, 1, 1, dims], 8, &device) * spread], "layer").unwrap();
            case(format!("whitening {kind:?}"), Box::new(layer), [4, 1, 1, dims].into());
        }
    }
    for shape in [[3, 2, 4, 3], [2, 1, 1, 1]] {
        case("logit".into(), Box::<Logit>::default(), Inputs { shape, deviation: 0.12 });
    }
    for (shape, parity) in [([3, 4, 4, 3], 1), ([4, 3, 5, 2], 0), ([2, 8, 6, 6], 1)] {
        let [_, height, width, channels] = shape;
        let config = MaskedCouplingConfig { channels, size: [height, width], parity, hidden: 10, blocks: 2 };
        let layer = perturbed(config.init(3, 1, &device), 0.1, 5);
        case(format!("masked coupling of parity {parity}"), Box::new(layer), shape.into());
    }
    for (shape, keeps_first) in [([3, 2, 3, 8], true), ([5, 3, 4, 4], false), ([2, 4, 4, 12], true)] {
        let config = ChannelCouplingConfig { channels: shape[3], keeps_first, hidden: 12, blocks: 2 };
        let layer = perturbed(config.init(3, 1, &device), 0.1, 5);
        case(format!("channel coupling that keeps the first half {keeps_first}"), Box::new(layer), shape.into());
    }
    cases
}

#[test]
fn every_layer_obeys_the_laws_on_every_path_of_this_processor() {
    for (name, layer, inputs) in cases() {
        layer.check(&name, inputs);
    }
}

#[test]
fn every_layer_obeys_the_laws_on_wgpu() {
    let Some(device) = wgpu_device("laws on wgpu") else { return };
    let burn = device.burn().clone();
    device
        .run(move || {
            for (name, layer, inputs) in cases() {
                layer.check_on(&format!("{name} on wgpu"), inputs, &burn);
            }
            Ok(())
        })
        .unwrap();
}

impl<L: Layer> Laws for L {
    fn check(&self, name: &str, inputs: Inputs) {
        let device = BurnDevice::flex();
        for truth in Truth::in_every_mode(self, inputs) {
            for path in available_paths() {
                let name = format!("{name} by {path:?}");
                force(path, || against(&truth, self, &name, inputs, &device));
            }
        }
        if inputs.shape[1..].iter().product::<usize>() <= JACOBIAN_DIMS {
            jacobian(self, name, inputs);
        }
    }

    fn check_on(&self, name: &str, inputs: Inputs, device: &BurnDevice) {
        for truth in Truth::in_every_mode(self, inputs) {
            against(&truth, &self.clone().fork(device), name, inputs, device);
        }
    }
}

impl Inputs {
    /// The layer's input and the cotangents of its outputs.
    fn draw(self, device: &BurnDevice) -> (Tensor<4>, Cotangent) {
        let Self { shape, deviation } = self;
        let cotangent = Cotangent { z: normal(shape, 12, device), log_det: normal([shape[0]], 13, device) };
        (normal(shape, 11, device).mul_scalar(deviation), cotangent)
    }
}

/// Outputs and gradients by autodiff in f64.
struct Truth {
    mode: Mode,
    /// Whether the layer normalises by the batch.
    sees_batch: bool,
    z: Vec<f64>,
    log_det: Vec<f64>,
    dx: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

impl Truth {
    /// In evaluation, and in training where that is another matter.
    fn in_every_mode<L: Layer>(layer: &L, inputs: Inputs) -> Vec<Self> {
        let all = [Mode::Evaluation, Mode::Training].map(|mode| Self::of(layer, inputs, mode));
        all.into_iter().filter(|truth| truth.mode == Mode::Evaluation || truth.sees_batch).collect()
    }

    fn of<L: Layer>(layer: &L, inputs: Inputs, mode: Mode) -> Self {
        let plain = BurnDevice::flex();
        let layer = double(layer.clone()).fork(&plain.clone().autodiff()).train();
        let (x, cotangent) = inputs.draw(&plain);
        let wide = |tensor: Tensor<4>| tensor.cast(FloatDType::F64).autodiff();
        let x = wide(x).require_grad();
        let out = layer.prepare("layer", mode.into()).unwrap().forward(x.clone());
        let sees_batch = !out.statistics.is_empty();
        let (z, log_det) = (values(out.z.clone().inner()), values(out.log_det.clone().inner()));
        let weights = cotangent.log_det.cast(FloatDType::F64).autodiff();
        let loss = (out.z * wide(cotangent.z)).sum() + (out.log_det * weights).sum();
        let tape = loss.backward();
        let dx = values(x.grad(&tape).expect("the input is tracked"));
        Self { mode, sees_batch, z, log_det, dx, gradients: by_autodiff(&layer, &tape) }
    }
}

/// Each parameter's gradient in the order of [`named_parameters`]; empty where it has none.
pub fn by_autodiff<M: Module>(module: &M, tape: &TapeGradients) -> Vec<Vec<f64>> {
    struct Visitor<'a> {
        tape: &'a TapeGradients,
        path: ModulePath,
        gradients: Vec<Vec<f64>>,
    }
    impl ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.path.is_trained() {
                self.gradients.push(param.val().grad(self.tape).map_or_else(Vec::new, values));
            }
        }
    }
    let mut visitor = Visitor { tape, path: ModulePath::default(), gradients: Vec::new() };
    module.visit(&mut visitor);
    visitor.gradients
}

/// The layer on one device, by one path, against the truth.
fn against<L: Layer>(truth: &Truth, layer: &L, name: &str, inputs: Inputs, device: &BurnDevice) {
    let (x, cotangent) = inputs.draw(device);
    let (mode, name) = (truth.mode, format!("{name} in {:?}", truth.mode));
    let prepared = layer.prepare("layer", mode.into()).unwrap();
    let out = prepared.forward(x.clone());
    let near = |what: &str, found: &[f64], truth: &[f64], tolerance: f64| {
        let error = relative_error(found, truth);
        assert!(error < tolerance, "{name}: {what} is off by {error:e}");
    };
    near("the output", &values(out.z.clone()), &truth.z, VALUE_TOLERANCE);
    near("the log-det", &values(out.log_det.clone()), &truth.log_det, VALUE_TOLERANCE);
    if mode == Mode::Evaluation {
        near("the inverse", &values(prepared.inverse(out.z.clone()).unwrap()), &values(x.clone()), INVERSE_TOLERANCE);
    }

    let (again, saved) = prepared.forward_saving(x.clone());
    assert_eq!(values(again.z), values(out.z.clone()), "{name}: saving changes the output");
    for saved in [None, Some(saved)] {
        let how = if saved.is_some() { "saved" } else { "rebuilt" };
        let mut gradients = Gradients::default();
        let output = Output { z: out.z.clone(), statistics: out.statistics.clone() };
        let back = prepared.backward(output, saved, cotangent.clone(), &mut gradients).unwrap();
        near(&format!("the input, {how},"), &values(back.x), &values(x.clone()), INVERSE_TOLERANCE);
        near(&format!("the input's gradient, {how},"), &values(back.dx), &truth.dx, GRADIENT_TOLERANCE);
        let parameters = named_parameters(layer);
        assert_eq!(parameters.len(), truth.gradients.len());
        for (index, parameter) in parameters.iter().enumerate() {
            let found = gradients.get(parameter.id).map_or_else(Vec::new, |gradient| values(gradient.clone()));
            let error = match mode {
                Mode::Evaluation => relative_error(&found, &truth.gradients[index]),
                Mode::Training => relative_error_of(index, &found, &truth.gradients),
            };
            assert!(
                error < GRADIENT_TOLERANCE,
                "{name}: the gradient of {}, {how}, is off by {error:e}",
                parameter.name
            );
        }
    }
}

/// The log-det against central differences of the whole map, in f64.
fn jacobian<L: Layer>(layer: &L, name: &str, Inputs { shape, deviation }: Inputs) {
    let device = BurnDevice::flex();
    let prepared = double(layer.clone()).prepare("layer", Mode::Evaluation.into()).unwrap();
    let shape = [1, shape[1], shape[2], shape[3]];
    let x = values(normal(shape, 21, &device).mul_scalar(deviation));
    let run = |x: &[f64]| {
        let data = TensorData::new(x.to_vec(), shape);
        prepared.forward(Tensor::from_data(data, (&device, burn::tensor::DType::F64)))
    };
    let found = values(run(&x).log_det)[0];
    let truth = log_abs_det_of(&x, |x| values(run(x).z));
    assert!((found - truth).abs() < JACOBIAN_TOLERANCE * truth.abs().max(1.0), "{name}: {found} is not {truth}");
}

/// `ln |det|` of the Jacobian of `f` at `x`, by central differences.
pub fn log_abs_det_of(x: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> f64 {
    const STEP: f64 = 1e-6;
    let columns: Vec<Vec<f64>> = (0..x.len())
        .map(|i| {
            let moved = |by: f64| {
                let mut x = x.to_vec();
                x[i] += by;
                f(&x)
            };
            moved(STEP).iter().zip(moved(-STEP)).map(|(a, b)| (a - b) / (2.0 * STEP)).collect()
        })
        .collect();
    let jacobian = DMatrix::from_fn(x.len(), x.len(), |row, column| columns[column][row]);
    jacobian.lu().u().diagonal().iter().map(|d| d.abs().ln()).sum()
}

#[test]
fn a_path_that_is_forced_is_the_path_that_runs() {
    let device = BurnDevice::flex();
    let x = normal([2, 4, 4, 12], 1, &device);
    let form = NetForm::of_paper(false);
    let coupling = CouplingConfig { kind: Kind::Sigmoid, channels: 12, size: [4, 4], hidden: 64, form };
    let step = StepConfig { scale: ScaleForm::ThirdOfLog, permutation: PermutationKind::Conv1x1, coupling };
    let step = step.init(1, 0, &device);
    let step = perturbed(step, 0.1, 3).prepare("step", Mode::Evaluation.into()).unwrap();
    let bits = |path| force(path, || values(step.forward(x.clone()).z));
    let composed = bits(Path::Composed);
    for path in available_paths() {
        let same = bits(path) == composed;
        assert_eq!(same, path == Path::Composed, "{path:?} gives the composed path's bits: is it the composed path?");
    }
}
