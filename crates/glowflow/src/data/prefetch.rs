//! Reading ahead: a thread that has the next batches ready when the trainer asks.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Augment, Dataset, LabelledImages, Order, read_training_batch};
use crate::error::{Error, Result};

/// Batches that wait; one more is being read.
const AHEAD: usize = 2;

/// How long dropping waits for the batch being read. A data set that waits for the thread that drops (one written in
/// JavaScript, dropped by its event loop) would otherwise never be left.
const GRACE: Duration = Duration::from_secs(1);

/// Where reading starts, and how images are put together.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Images of the order that came before.
    pub position: u64,
    /// Steps that came before.
    pub step: u64,
    /// Images of a batch.
    pub batch_size: usize,
    /// Batches of a step.
    pub accumulate: usize,
    /// What is done to them at random.
    pub augment: Augment,
}

/// The batches of an [`Order`], read ahead.
///
/// Dropping it stops the thread and waits for its end, but at most a second: the thread then ends by itself, when the
/// data set returns.
pub struct Prefetch {
    /// `None` only while dropping.
    batches: Option<Receiver<Result<PrefetchedBatch>>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// One batch and where it is from.
#[derive(Debug, Clone)]
pub struct PrefetchedBatch {
    /// The step that it is for, from 0.
    pub step: u64,
    /// Index of each image in the data set: with the seed and the step the key of its noise.
    pub indices: Vec<usize>,
    /// The images.
    pub batch: LabelledImages,
}

impl Prefetch {
    /// Starts to read.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] where the system gives no thread.
    pub fn new(dataset: Arc<dyn Dataset>, order: Order, plan: Plan) -> Result<Self> {
        let (sender, batches) = sync_channel(AHEAD);
        let (end, ended) = channel::<()>();
        let thread = std::thread::Builder::new()
            .name("glowflow-data".into())
            .spawn(move || {
                // Moved in, and dropped with the thread's last breath.
                let _end = end;
                read_ahead(&*dataset, order, plan, &sender);
            })
            .map_err(|error| Error::Internal { message: format!("no thread for reading data: {error}") })?;
        Ok(Self { batches: Some(batches), ended, thread: Some(thread) })
    }

    /// The next batch, steps in order; waits where it is not ready.
    ///
    /// # Errors
    ///
    /// Those of the data set, in their place in the order, and [`Error::Internal`] where it panicked. Reading ends
    /// with the first.
    pub fn next_batch(&mut self) -> Result<PrefetchedBatch> {
        let ended = || Error::Internal { message: "a batch was asked for after one that failed".into() };
        self.batches.as_ref().ok_or_else(ended)?.recv().map_err(|_| ended())?
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        // Wakes a thread that waits for a free place.
        self.batches = None;
        if self.ended.recv_timeout(GRACE) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
        {
            // Panics of the data set were caught: there is none to report.
            let _ = thread.join();
        }
    }
}

/// Reads until somebody drops the receiver, or a batch fails.
fn read_ahead(dataset: &dyn Dataset, mut order: Order, plan: Plan, sender: &SyncSender<Result<PrefetchedBatch>>) {
    let Plan { batch_size, accumulate, augment, .. } = plan;
    let seed = order.seed();
    for batch in 0.. {
        let step = plan.step + batch / accumulate as u64;
        let indices = order.images(plan.position + batch * batch_size as u64, batch_size);
        let read =
            Error::catch("the data set", || read_training_batch(dataset, &indices, seed, step)).map(|mut batch| {
                augment.apply(&mut batch.images, &indices, seed, step);
                PrefetchedBatch { step, indices, batch }
            });
        let failed = read.is_err();
        if sender.send(read).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::Sender;
    use std::time::Instant;

    use super::*;
    use crate::data::tests::numbered;
    use crate::images::ImageShape;

    /// Calls a function before each batch of 10 numbered images, with how many came before.
    struct Hooked<F>(super::super::InMemory, AtomicUsize, F);

    impl<F> Hooked<F> {
        fn new(hook: F) -> Arc<Self> {
            Arc::new(Self(numbered(10), AtomicUsize::new(0), hook))
        }
    }

    impl<F: Fn(usize) -> Result<()> + Send + Sync> Dataset for Hooked<F> {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn shape(&self) -> ImageShape {
            self.0.shape()
        }
        fn classes(&self) -> Option<&[String]> {
            self.0.classes()
        }
        fn fingerprint(&self) -> String {
            self.0.fingerprint()
        }
        fn batch(&self, indices: &[usize]) -> Result<LabelledImages> {
            (self.2)(self.1.fetch_add(1, Ordering::SeqCst))?;
            self.0.batch(indices)
        }
    }

    fn order() -> Order {
        Order::new(10, 3).unwrap()
    }

    const PLAN: Plan =
        Plan { position: 0, step: 0, batch_size: 4, accumulate: 1, augment: Augment { flip: false, shift: 0.0 } };

    #[test]
    fn batches_come_in_order_from_where_they_are_asked_for() {
        let data = Arc::new(numbered(10));
        let plan = Plan { position: 23, step: 5, accumulate: 3, ..PLAN };
        let mut prefetch = Prefetch::new(data, order(), plan).unwrap();
        for batch in 0..36 {
            let next = prefetch.next_batch().unwrap();
            assert_eq!((next.step, &next.indices), (5 + batch / 3, &order().images(23 + 4 * batch, 4)));
            let pixels: Vec<u8> = next.indices.iter().map(|&i| i as u8).collect();
            assert_eq!(next.batch.images.bytes().data, pixels);
            assert_eq!(next.batch.labels.unwrap().len(), 4);
        }
    }

    #[test]
    fn no_more_is_read_than_fits() {
        let data = Hooked::new(|_| Ok(()));
        let mut prefetch = Prefetch::new(data.clone(), order(), PLAN).unwrap();
        prefetch.next_batch().unwrap();
        let most = 1 + AHEAD + 1;
        while data.1.load(Ordering::SeqCst) < most {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(data.1.load(Ordering::SeqCst), most);
    }

    #[test]
    fn an_error_comes_in_its_place_and_ends_the_reading() {
        let data = Hooked::new(|before| match before {
            3 => Err(Error::file("a.png", "damaged")),
            _ => Ok(()),
        });
        let mut prefetch = Prefetch::new(data, order(), PLAN).unwrap();
        (0..3).for_each(|_| drop(prefetch.next_batch().unwrap()));
        assert!(matches!(prefetch.next_batch(), Err(Error::File { .. })));
        assert!(matches!(prefetch.next_batch(), Err(Error::Internal { .. })));
    }

    #[test]
    fn a_panic_is_an_error() {
        let data = Hooked::new(|_| panic!("on purpose"));
        let mut prefetch = Prefetch::new(data, order(), PLAN).unwrap();
        let error = prefetch.next_batch().unwrap_err();
        assert!(matches!(&error, Error::Internal { message } if message == "the data set panicked: on purpose"));
    }

    #[test]
    fn dropping_ends_the_thread() {
        let data = Hooked::new(|_| Ok(()));
        for taken in 0..4 {
            let mut prefetch = Prefetch::new(data.clone(), order(), PLAN).unwrap();
            (0..taken).for_each(|_| drop(prefetch.next_batch().unwrap()));
            drop(prefetch);
            assert_eq!(Arc::strong_count(&data), 1);
        }
    }

    #[test]
    fn dropping_leaves_a_data_set_that_does_not_return() {
        let (release, blocked): (Sender<()>, _) = channel();
        let blocked = Mutex::new(blocked);
        let data = Hooked::new(move |_| {
            let _ = blocked.lock().unwrap().recv();
            Ok(())
        });
        let prefetch = Prefetch::new(data.clone(), order(), PLAN).unwrap();
        let start = Instant::now();
        drop(prefetch);
        assert!(start.elapsed() < Duration::from_secs(30));
        drop(release);
        while Arc::strong_count(&data) > 1 {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
