//! Devices.

use glowflow::{DeviceInfo as Info, Precision};
use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;

use crate::task::spawn;

/// What is known of a device before it is opened.
#[napi(object, object_from_js = false)]
pub struct DeviceInfo {
    /// `"cpu"` or `"gpu:N"`.
    pub name: String,
    /// As the driver calls it.
    pub label: String,
    /// burn's backend.
    pub backend: String,
    /// True for a rasteriser that runs on the processor.
    pub software: bool,
    /// What its coupling nets can compute in.
    pub precisions: Vec<String>,
}

impl From<&Info> for DeviceInfo {
    fn from(info: &Info) -> Self {
        Self {
            name: info.name.clone(),
            label: info.label.clone(),
            backend: info.backend.to_string(),
            software: info.software,
            precisions: info.precisions.iter().map(Precision::to_string).collect(),
        }
    }
}

/// The precision of a name; f32 without one.
pub fn precision(name: Option<&str>) -> glowflow::Result<Precision> {
    let Some(name) = name else { return Ok(Precision::F32) };
    let found = Precision::ALL.into_iter().find(|precision| precision.to_string() == name);
    found.ok_or_else(|| glowflow::Error::option("precision", "'f32', 'bf16x3' or 'bf16'", name))
}

/// The devices of this machine, the preferred one first.
#[napi]
pub fn list_devices(env: &Env) -> napi::Result<PromiseRaw<'_, Vec<DeviceInfo>>> {
    spawn(env, || Ok(glowflow::Device::list()), |_, list| Ok(list.iter().map(DeviceInfo::from).collect()))
}

/// Opens `"auto"`, `"cpu"`, `"gpu"` or `"gpu:N"`.
#[napi]
pub fn open_device(env: &Env, name: String) -> napi::Result<PromiseRaw<'_, Device>> {
    spawn(env, move || glowflow::Device::open(&name), |_, inner| Ok(Device { inner }))
}

/// An open device.
#[napi]
pub struct Device {
    pub(crate) inner: glowflow::Device,
}

#[napi]
impl Device {
    /// What is known of it.
    #[napi(getter)]
    pub fn info(&self) -> DeviceInfo {
        self.inner.info().into()
    }

    /// Resolves once everything queued on it has run.
    #[napi]
    pub fn sync<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let device = self.inner.clone();
        spawn(env, move || device.sync(), |_, ()| Ok(()))
    }
}
