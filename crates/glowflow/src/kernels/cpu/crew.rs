//! Pieces of work too small to wait for a thread to find them: those of a few images, a thousand in a call.
//!
//! A thread of rayon's finds a piece in one to two microseconds, as long as many of the pieces take. [`attended`] has the
//! pool's other threads at hand: they look at one word, and at rayon's work beside it.
#![allow(unsafe_code)] // Pieces are borrowed from the sharing thread; `Crew::share` states why they outlive their use.

use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rayon::prelude::*;

thread_local! {
    /// Of the thread that is or was attended.
    static CREW: RefCell<Option<Arc<Crew>>> = const { RefCell::new(None) };
    static HELPS: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` while the other threads of the current pool wait awake for its work; they stay for a while, for the next.
pub fn attended<R>(body: impl FnOnce() -> R) -> R {
    let crew = CREW.with_borrow_mut(|crew| crew.get_or_insert_default().clone());
    let helpers = crew.clone();
    if crew.helpers.0.load(Ordering::Relaxed) + 1 < rayon::current_num_threads() {
        let this = rayon::current_thread_index();
        rayon::spawn_broadcast(move |context| {
            if Some(context.index()) != this && !HELPS.replace(true) {
                helpers.wait_awake();
                HELPS.set(false);
            }
        });
        // This thread's own share of the broadcast.
        rayon::yield_now();
    }
    crew.at_work.store(true, Ordering::Relaxed);
    let result = body();
    crew.at_work.store(false, Ordering::Relaxed);
    result
}

/// Calls `task` with each item and its index; threads that are at hand help.
pub fn share<I: Send>(items: Vec<I>, task: impl Fn(usize, I) + Sync) {
    if items.len() < 2 {
        return items.into_iter().enumerate().for_each(|(index, item)| task(index, item));
    }
    match CREW.with_borrow(|crew| crew.clone().filter(|crew| crew.is_at_hand())) {
        Some(crew) => crew.share(items, task),
        None => items.into_par_iter().enumerate().for_each(|(index, item)| task(index, item)),
    }
}

/// Threads around one that shares its work.
#[derive(Default)]
struct Crew {
    gate: Gate,
    /// Tasks taken: by the sharing thread, from the first on, and by the others, from the last on. A thread then finds
    /// near what it left there with the pieces before.
    taken: Line<AtomicU64>,
    job: UnsafeCell<Option<Job>>,
    /// That wait or work.
    helpers: Line<AtomicUsize>,
    /// Between two jobs other threads of the machine come first.
    at_work: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written by the attended thread alone, while nobody is inside the gate, and read inside it.
unsafe impl Sync for Crew {}
// SAFETY: as above; a job is a borrow of what is `Sync`.
unsafe impl Send for Crew {}

/// A cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

/// A task of each number below `count`.
#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    count: u64,
}

/// Which job it is, whether one may come in, and how many are inside.
#[derive(Default)]
struct Gate(Line<AtomicU64>);

impl Gate {
    const OPEN: u64 = 1 << 16;
    const INSIDE: u64 = Self::OPEN - 1;
    const NEXT: u64 = Self::OPEN << 1;

    /// By the attended thread, while it is closed and nobody inside.
    fn open(&self) {
        self.0.0.fetch_add(Self::NEXT + Self::OPEN, Ordering::Release);
    }

    /// By the attended thread: returns when nobody is inside.
    fn close(&self) {
        /// Looks before other threads of the machine come first.
        const EAGER: u32 = 10_000;
        self.0.0.fetch_sub(Self::OPEN, Ordering::Relaxed);
        let mut looks = 0;
        while self.0.0.load(Ordering::Acquire) & Self::INSIDE > 0 {
            looks += 1;
            if looks < EAGER { std::hint::spin_loop() } else { thread::yield_now() }
        }
    }

    fn is_open(&self) -> bool {
        self.0.0.load(Ordering::Relaxed) & Self::OPEN > 0
    }

    /// Comes in, unless the gate is closed or the job was `last`; gives the job's number.
    fn enter(&self, last: u64) -> Option<u64> {
        let word = self.0.0.load(Ordering::Relaxed);
        let number = word / Self::NEXT;
        if word & Self::OPEN == 0 || number == last {
            return None;
        }
        let entered = self.0.0.compare_exchange(word, word + 1, Ordering::Acquire, Ordering::Relaxed);
        entered.is_ok().then_some(number)
    }

    fn leave(&self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

/// One task taken from the first on, or from the last on.
const FROM_FIRST: u64 = 1;
const FROM_LAST: u64 = 1 << 32;

impl Crew {
    /// Whether a thread would help: one waits, and the job is not itself a task of this crew's.
    fn is_at_hand(&self) -> bool {
        self.helpers.0.load(Ordering::Relaxed) > 0 && !self.gate.is_open()
    }

    /// By the attended thread.
    fn share<I: Send>(&self, mut items: Vec<I>, task: impl Fn(usize, I) + Sync) {
        struct Items<I>(*mut I);
        // SAFETY: each item goes to one thread.
        unsafe impl<I: Send> Sync for Items<I> {}
        impl<I> Items<I> {
            /// # Safety
            /// `index` is below the count of items and was not asked for before.
            unsafe fn take(&self, index: usize) -> I {
                // SAFETY: the caller's contract.
                unsafe { self.0.add(index).read() }
            }
        }
        let count = items.len();
        // If a task panics, items that nobody took are leaked.
        // SAFETY: 0 is within the capacity.
        unsafe { items.set_len(0) };
        let from = Items(items.as_mut_ptr());
        // SAFETY: `work` gives each index below the count once; `items` lives until the gate is closed.
        let task = |index: usize| task(index, unsafe { from.take(index) });
        let task: *const (dyn Fn(usize) + Sync + '_) = &task;
        // SAFETY: a change of lifetime alone. Whoever sees the job is inside the gate, and this function does not return,
        // nor unwind, before the gate is closed and nobody is inside.
        let task =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(task) };
        let job = Job { task, count: count as u64 };
        // SAFETY: the gate is closed and nobody is inside.
        unsafe { *self.job.get() = Some(job) };
        self.taken.0.store(0, Ordering::Relaxed);
        self.gate.open();
        self.work(job, FROM_FIRST);
        self.gate.close();
        let panic = self.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Does tasks of the job until all are taken. Of panics the first is kept.
    fn work(&self, job: Job, side: u64) {
        let work = || {
            loop {
                let taken = self.taken.0.fetch_add(side, Ordering::Relaxed);
                let (first, last) = (taken % FROM_LAST, taken / FROM_LAST);
                if first + last >= job.count {
                    return;
                }
                let index = if side == FROM_FIRST { first } else { job.count - 1 - last };
                // SAFETY: the job is alive, since this thread is inside the gate or has opened it.
                unsafe { (*job.task)(index as usize) };
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            self.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(panic);
        }
    }

    /// Does tasks of the jobs after `last`, until there has been none for a few microseconds; whether there was one.
    fn help(&self, last: &mut u64) -> bool {
        const LOOKS: u32 = 200;
        let (before, mut looks) = (*last, 0);
        while looks < LOOKS {
            match self.gate.enter(*last) {
                Some(number) => {
                    // SAFETY: inside the gate nobody writes it.
                    let job = unsafe { *self.job.get() }.expect("an open gate has a job");
                    self.work(job, FROM_LAST);
                    self.gate.leave();
                    (*last, looks) = (number, 0);
                }
                None if *last == before => return false,
                None => {
                    looks += 1;
                    std::hint::spin_loop();
                }
            }
        }
        true
    }

    /// Works on what the attended thread shares, here or through rayon, until there has been nothing for a while.
    ///
    /// It must give up: rayon may run it in the middle of a piece of the job, which the job then waits for.
    fn wait_awake(&self) {
        /// Looks for work before other threads of the machine come first.
        const EAGER: u32 = 1000;
        const PATIENCE: Duration = Duration::from_millis(2);
        /// Between jobs: as long as Node takes from one short call to the next. Whoever stays longer may be on the processor
        /// that the next job begins on.
        const LINGER: Duration = Duration::from_micros(200);
        self.helpers.0.fetch_add(1, Ordering::Relaxed);
        let (mut last, mut idle, mut since) = (0, 0, None);
        loop {
            if self.help(&mut last) {
                (idle, since) = (0, None);
            }
            let at_work = self.at_work.load(Ordering::Relaxed);
            match rayon::yield_now() {
                Some(rayon::Yield::Executed) => (idle, since) = (0, None),
                _ if at_work && idle < EAGER => {
                    idle += 1;
                    std::hint::spin_loop();
                }
                _ if since.get_or_insert_with(Instant::now).elapsed() > if at_work { PATIENCE } else { LINGER } => {
                    break;
                }
                _ => thread::yield_now(),
            }
        }
        self.helpers.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Isa, reference};
    use super::*;

    fn in_pool<R: Send>(threads: usize, body: impl FnOnce() -> R + Send) -> R {
        reference::in_pool(threads, Isa::active(), || attended(body))
    }

    #[test]
    fn every_item_goes_to_one_task() {
        for threads in 1..4 {
            for count in [0, 1, 2, 7, 100] {
                let mut seen = vec![0; count];
                in_pool(threads, || {
                    for round in 1..500 {
                        share(seen.iter_mut().collect(), |index, seen| {
                            assert_eq!(*seen, (round - 1) * (index + 1));
                            *seen += index + 1;
                        });
                    }
                });
                assert!(seen.iter().enumerate().all(|(index, seen)| *seen == 499 * (index + 1)));
            }
        }
    }

    #[test]
    fn others_help() {
        // Each of two tasks waits for the other, so one thread alone would never end.
        let arrived = AtomicUsize::new(0);
        in_pool(2, || {
            for round in 1..100 {
                share(vec![(); 2], |_, ()| {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    while arrived.load(Ordering::SeqCst) < 2 * round {
                        thread::yield_now();
                    }
                });
            }
        });
    }

    #[test]
    fn nobody_waits_awake_for_a_job_that_waits_for_them() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let wait = || Crew::default().wait_awake();
        // As where the wait has come between the halves of a piece of the job, which ends after them.
        pool.install(|| rayon::join(wait, wait));
    }

    #[test]
    fn tasks_share_and_owned_items_are_dropped() {
        let item = Arc::new(());
        in_pool(2, || {
            share(vec![item.clone(); 4], |_, item| {
                share(vec![item; 3], |_, item| drop(item));
            });
        });
        assert_eq!(Arc::strong_count(&item), 1);
    }

    #[test]
    fn a_panic_comes_back_and_the_crew_goes_on() {
        in_pool(2, || {
            for guilty in [0, 9] {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    share((0..10).collect(), |_, index: usize| assert_ne!(index, guilty, "task {index}"));
                }));
                let panic = outcome.expect_err("the task's panic");
                assert!(panic.downcast_ref::<String>().is_some_and(|text| text.contains(&format!("task {guilty}"))));
            }
            let sum = AtomicUsize::new(0);
            share((0..10).collect(), |_, index: usize| {
                sum.fetch_add(index, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        });
    }
}
