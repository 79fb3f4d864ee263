//! Where a visitor or mapper of modules is.

/// Containers whose numbers no gradient steps.
const UNTRAINED: [&str; 2] = ["Struct:RunningAverage", "Struct:Fixed"];

/// The path of field names to the parameter at hand, as in a model's file: `levels.0.steps.3.mix.actnorm.bias`.
#[derive(Debug, Default)]
pub struct ModulePath {
    names: Vec<String>,
    containers: Vec<String>,
}

impl ModulePath {
    /// Below `prefix`.
    pub fn below(prefix: Option<&str>) -> Self {
        Self { names: prefix.map(str::to_owned).into_iter().collect(), containers: Vec::new() }
    }

    /// Into a field of a container. The variant of an enum is no part of the path.
    pub fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.names.push(name.to_owned());
        }
        self.containers.push(container.to_owned());
    }

    /// Out of the field that was entered last.
    pub fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.names.pop();
        }
        self.containers.pop();
    }

    /// The path, joined by dots.
    pub fn name(&self) -> String {
        self.names.join(".")
    }

    /// Whether the parameter is stepped along a gradient; a running average or a [`Fixed`](super::Fixed) is not.
    pub fn is_trained(&self) -> bool {
        !UNTRAINED.iter().any(|container| self.is_in(container))
    }

    /// Whether the loss has a penalty of the parameter's squares.
    pub fn is_penalised(&self) -> bool {
        self.is_in("Struct:Penalised")
    }

    fn is_in(&self, container: &str) -> bool {
        self.containers.last().is_some_and(|last| last == container)
    }
}
