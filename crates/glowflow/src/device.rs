//! Where tensors live and work is done.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::{self, ThreadId};

use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device as BurnDevice, DeviceKind};
use serde::Serialize;

use crate::error::{Error, Result};
pub use crate::kernels::Precision;
use crate::kernels::cpu::{Isa, crew};

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceInfo {
    /// `"cpu"` or `"gpu:N"`.
    pub name: String,
    /// As the driver calls it.
    pub label: String,
    /// `"flex"`, `"vulkan"`, `"metal"` or `"dx12"`.
    pub backend: &'static str,
    /// True where a processor computes, not a GPU.
    pub software: bool,
    /// What its coupling nets can compute in.
    pub precisions: Vec<Precision>,
}

/// A device and its one bounded queue of work. Cheap to clone.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

struct Inner {
    info: DeviceInfo,
    burn: BurnDevice,
    queue: SyncSender<Job>,
    /// Which runs the jobs.
    thread: ThreadId,
}

/// Work for a device's queue.
pub type Job = Box<dyn FnOnce() + Send>;

/// What panics where a job does.
const ENGINE: &str = "the engine";

/// Calls that may wait in a device's queue; the next one waits outside.
const QUEUE_BOUND: usize = 64;

/// A backend's runtime can be started once in a process, so devices stay open.
static OPENED: LazyLock<Mutex<HashMap<String, Device>>> = LazyLock::new(Mutex::default);

/// Every device, found when first asked for: looking for GPUs loads their drivers.
static FOUND: LazyLock<Vec<Found>> = LazyLock::new(find);

/// A device that could be opened.
#[derive(Clone)]
struct Found {
    info: DeviceInfo,
    adapter: Option<(DeviceKind, WgpuBackend)>,
}

impl Device {
    /// The devices of this machine, the preferred one first: hardware GPUs, the CPU, software GPUs. Opens none of them.
    pub fn list() -> Vec<DeviceInfo> {
        FOUND.iter().map(|found| found.info.clone()).collect()
    }

    /// Opens `"auto"` (a hardware GPU, else the CPU), `"cpu"`, `"gpu"` (the first hardware GPU) or `"gpu:N"`.
    ///
    /// [`Error::DeviceUnavailable`] rather than another device than the one asked for.
    pub fn open(name: &str) -> Result<Self> {
        let unavailable = |reason: String| Error::DeviceUnavailable { device: name.to_owned(), reason };
        let found = match name {
            "cpu" => Some(cpu()),
            "auto" => FOUND.first().cloned(),
            "gpu" => FOUND.iter().find(|found| !found.info.software).cloned(),
            _ => FOUND.iter().find(|found| found.info.name == name).cloned(),
        };
        let found = found.ok_or_else(|| {
            let names: Vec<_> = FOUND.iter().map(|f| format!("{} ({})", f.info.name, f.info.label)).collect();
            unavailable(format!("this machine has {}", names.join(", ")))
        })?;
        let mut opened = OPENED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(device) = opened.get(&found.info.name) {
            return Ok(device.clone());
        }
        let device = Self::start(&found).map_err(|error| match error {
            Error::Internal { message } => unavailable(message),
            other => other,
        })?;
        opened.insert(found.info.name.clone(), device.clone());
        Ok(device)
    }

    fn start(found: &Found) -> Result<Self> {
        let (burn, threads) = match &found.adapter {
            None => (BurnDevice::flex(), Some(thread_count()?)),
            Some((kind, api)) => {
                let options = BurnDevice::wgpu_options().device_kind(kind.clone()).graphics_api(*api);
                // Drivers panic as well as fail.
                let device = catch_unwind(AssertUnwindSafe(|| options.init()))
                    .map_err(|panic| Error::from_panic(&*panic, "the driver"))?;
                (device.map_err(|error| Error::Internal { message: error.to_string() })?, None)
            }
        };
        let internal = |error: &dyn std::fmt::Display| Error::Internal { message: error.to_string() };
        let (queue, jobs) = sync_channel::<Job>(QUEUE_BOUND);
        let (ready, started) = sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("glowflow {}", found.info.name))
            .spawn(move || match threads.map(thread_pool).transpose() {
                Err(error) => drop(ready.send(Err(error))),
                Ok(_pool) => {
                    // If nobody waits for it any more, the queue is closed as well.
                    let _ = ready.send(Ok(()));
                    // On a GPU, too, every job runs on this thread: the backend keeps a stream for each thread.
                    jobs.into_iter().for_each(|job| if threads.is_some() { crew::attended(job) } else { job() });
                }
            })
            .map_err(|error| internal(&error))?;
        started.recv().map_err(|error| internal(&error))??;
        let thread = thread.thread().id();
        Ok(Self { inner: Arc::new(Inner { info: found.info.clone(), burn, queue, thread }) })
    }

    /// What this device is.
    pub fn info(&self) -> &DeviceInfo {
        &self.inner.info
    }

    /// The burn device that tensors of this device are made on.
    pub fn burn(&self) -> &BurnDevice {
        &self.inner.burn
    }

    /// Runs `work` on the device's queue, after what was queued before, and waits for it; at once, where the work is of a
    /// job of this queue.
    ///
    /// A panic of the work becomes [`Error::Internal`].
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        if thread::current().id() == self.inner.thread {
            return Error::catch(ENGINE, work);
        }
        let (done, result) = sync_channel(1);
        // The caller waits below; if it is gone, so is the need for the result.
        let job = Box::new(move || drop(done.send(Error::catch(ENGINE, work))));
        let gone = || Error::Internal { message: "the device's queue has ended".into() };
        self.inner.queue.send(job).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }

    /// Queues `work`, whose result goes to `done` on the device's thread. Waits for nothing: a job for which the queue has no
    /// room comes back, for a thread that may wait; [`Device::run`] takes it there.
    pub fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
        done: impl FnOnce(Result<T>) + Send + 'static,
    ) -> std::result::Result<(), Job> {
        self.inner.queue.try_send(Box::new(move || done(Error::catch(ENGINE, work)))).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    /// Waits until everything queued on the device has run.
    pub fn sync(&self) -> Result<()> {
        let burn = self.inner.burn.clone();
        self.run(move || burn.sync().map_err(|error| Error::Internal { message: error.to_string() }))
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Device").field(&self.inner.info.name).finish()
    }
}

/// `GLOWFLOW_THREADS`, else one for each processor that this process may use (cgroup and affinity included).
fn thread_count() -> Result<usize> {
    match std::env::var("GLOWFLOW_THREADS") {
        Err(_) => Ok(thread::available_parallelism().map_or(1, usize::from)),
        Ok(given) => given
            .parse()
            .ok()
            .filter(|count| (1..=1024).contains(count))
            .ok_or_else(|| Error::option("GLOWFLOW_THREADS", "a whole number from 1 to 1024", given)),
    }
}

/// A pool of which the current thread is one, so that all jobs run on it.
///
/// An allocator keeps an arena for each thread: jobs that ran on any thread would leave free memory in every arena, and
/// the weights' and gradients' size would count once for each.
fn thread_pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .use_current_thread()
        .thread_name(|index| format!("glowflow cpu {index}"))
        .build()
        .map_err(|error| Error::Internal { message: error.to_string() })
}

fn cpu() -> Found {
    Found {
        info: DeviceInfo {
            name: "cpu".into(),
            label: format!("CPU with {:?} kernels", Isa::detect()),
            backend: "flex",
            software: true,
            precisions: Precision::of_cpu(),
        },
        adapter: None,
    }
}

fn find() -> Vec<Found> {
    let adapters = catch_unwind(adapters).unwrap_or_default();
    let (software, hardware): (Vec<_>, Vec<_>) = adapters.into_iter().partition(|adapter| adapter.2);
    let gpu = |(index, (label, backend, software, adapter)): (usize, Adapter)| Found {
        info: DeviceInfo { name: format!("gpu:{index}"), label, backend, software, precisions: vec![Precision::F32] },
        adapter: Some(adapter),
    };
    let hardware_count = hardware.len();
    let mut found: Vec<_> = hardware.into_iter().enumerate().map(gpu).collect();
    found.push(cpu());
    found.extend(software.into_iter().enumerate().map(|(i, adapter)| gpu((hardware_count + i, adapter))));
    found
}

/// Label, backend, whether it is software, and how burn selects it.
type Adapter = (String, &'static str, bool, (DeviceKind, WgpuBackend));

fn adapters() -> Vec<Adapter> {
    let apis = [
        (wgpu::Backends::VULKAN, WgpuBackend::Vulkan, "vulkan"),
        (wgpu::Backends::METAL, WgpuBackend::Metal, "metal"),
        (wgpu::Backends::DX12, WgpuBackend::Dx12, "dx12"),
    ];
    for (backends, api, name) in apis {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        // burn counts each kind of adapter from zero.
        let mut counts: HashMap<wgpu::DeviceType, usize> = HashMap::new();
        let found: Vec<Adapter> = futures_lite::future::block_on(instance.enumerate_adapters(backends))
            .into_iter()
            .map(|adapter| {
                let info = adapter.get_info();
                let count = counts.entry(info.device_type).or_default();
                let index = *count;
                *count += 1;
                let (kind, software) = match info.device_type {
                    wgpu::DeviceType::DiscreteGpu => (DeviceKind::DiscreteGpu(index), false),
                    wgpu::DeviceType::IntegratedGpu => (DeviceKind::IntegratedGpu(index), false),
                    wgpu::DeviceType::VirtualGpu => (DeviceKind::VirtualGpu(index), false),
                    _ => (DeviceKind::Cpu, true),
                };
                (info.name, name, software, (kind, api))
            })
            .collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there() {
        assert!(Device::list().iter().any(|info| info.name == "cpu" && info.backend == "flex"));
        assert_eq!(Device::open("cpu").unwrap().info().name, "cpu");
    }

    #[test]
    fn an_unknown_device_is_named_and_never_replaced() {
        let error = Device::open("gpu:99").unwrap_err();
        assert_eq!(error.code(), "ERR_GLOW_DEVICE_UNAVAILABLE");
        assert!(error.to_string().contains("gpu:99") && error.to_string().contains("cpu"), "{error}");
    }

    #[test]
    fn a_job_may_run_more_and_comes_back_from_a_full_queue() {
        let device = Device::open("cpu").unwrap();
        let (inner, (done, result)) = (device.clone(), sync_channel(1));
        let work = move || inner.run(|| Ok(3));
        assert!(device.submit(work, move |outcome| done.send(outcome.unwrap()).unwrap()).is_ok());
        assert_eq!(result.recv().unwrap(), 3);

        let (gate, closed) = sync_channel::<()>(0);
        let mut accepted = 0;
        assert!(device.submit(move || Ok(closed.recv()), |_| ()).is_ok());
        let refused = loop {
            match device.submit(|| Ok(()), |_| ()) {
                Ok(()) => accepted += 1,
                Err(job) => break job,
            }
            assert!(accepted <= QUEUE_BOUND + 1, "a bounded queue");
        };
        drop(gate);
        refused();
        device.sync().unwrap();
    }

    #[test]
    fn a_panic_on_the_queue_is_an_error_and_the_queue_goes_on() {
        let device = Device::open("cpu").unwrap();
        let error = device.run(|| -> Result<()> { panic!("on purpose") }).unwrap_err();
        assert!(error.to_string().contains("on purpose"));
        assert_eq!(device.run(|| Ok(3)).unwrap(), 3);
    }
}
