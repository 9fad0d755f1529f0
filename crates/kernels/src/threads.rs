//! A pool of threads for regions of many small tasks, with no allocation and, while it is busy, no system call.
//!
//! Every kernel cuts its work into tasks by shape, never by the number of threads, so what a task computes does not
//! depend on who runs it. Each thread has a share of neighbouring tasks, and takes other threads' when it has done its own:
//! tasks are numbered by picture and by rows, so a thread reads mostly what it has written itself in the layer before, which
//! lies in its own caches. (Cores of a virtual machine may share none.) Between regions threads spin for about a millisecond,
//! which is longer than another thread needs for its last task of a layer, and then park: to wake a core of a virtual machine
//! can take as long as a layer.

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Turns of the waiting loop before a thread parks: about 1 ms.
const SPINS: u32 = 30_000;
/// The same where there are more threads than cores, and others need the time: about 50 µs.
const CROWDED_SPINS: u32 = 1500;

/// A task's function: called with the task's number and the number of the thread that runs it.
type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A pool of threads. The calling thread works too: it is thread 0.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    caller: Mutex<()>,
}

struct Shared {
    /// The region in progress: a `*const &Task` on the caller's stack.
    task: AtomicPtr<()>,
    tasks: AtomicUsize,
    /// For each thread, the next task of its share.
    next: Vec<Next>,
    /// Counts regions; a change is the signal to begin.
    region: AtomicU64,
    /// Workers that have not yet finished the region.
    busy: AtomicUsize,
    stop: AtomicBool,
    spins: u32,
    parked: Vec<AtomicBool>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A counter in a cache line of its own, and in none that is fetched beside another.
#[repr(align(128))]
struct Next(AtomicUsize);

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Threads {
    /// A pool that computes with `threads` threads, at least one; `threads - 1` are started.
    ///
    /// # Errors
    /// When the operating system starts no more threads.
    pub fn new(threads: usize) -> std::io::Result<Threads> {
        let workers = threads.max(1) - 1;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            task: AtomicPtr::new(std::ptr::null_mut()),
            tasks: AtomicUsize::new(0),
            next: (0..=workers).map(|_| Next(AtomicUsize::new(0))).collect(),
            region: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            spins: if threads > cores { CROWDED_SPINS } else { SPINS },
            parked: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            panic: Mutex::new(None),
        });
        let mut pool = Threads { shared, workers: Vec::with_capacity(workers), caller: Mutex::new(()) };
        for index in 0..workers {
            let shared = Arc::clone(&pool.shared);
            let name = format!("convnet-{}", index + 1);
            pool.workers.push(std::thread::Builder::new().name(name).spawn(move || shared.work(index))?);
        }
        Ok(pool)
    }

    /// Number of threads that compute, the caller among them.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(i, thread)` once for every `i` below `tasks`, in any order and on any threads, and waits for all.
    /// `thread` is below [`Threads::count`], and no two calls at a time have the same. Called inside a task, it runs
    /// everything on the calling thread, as its thread 0: kernels do not nest regions.
    ///
    /// # Panics
    /// When a task panics, with that task's panic, after all others have ended.
    pub fn run(&self, tasks: usize, task: &Task<'_>) {
        if tasks <= 1 || self.workers.is_empty() || INSIDE.get() {
            (0..tasks).for_each(|i| task(i, 0));
            return;
        }
        let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        let mut task: &Task<'_> = task;
        shared.task.store((&raw mut task).cast(), Ordering::Relaxed);
        shared.tasks.store(tasks, Ordering::Relaxed);
        for (thread, next) in shared.next.iter().enumerate() {
            next.0.store(shared.share(thread, tasks).start, Ordering::Relaxed);
        }
        shared.busy.store(self.workers.len(), Ordering::Relaxed);
        shared.region.fetch_add(1, Ordering::SeqCst);
        for (worker, parked) in self.workers.iter().zip(&shared.parked) {
            if parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        INSIDE.set(true);
        let own = catch_unwind(AssertUnwindSafe(|| shared.take_tasks(task, 0)));
        INSIDE.set(false);
        // Nobody may look at `task` any more once this function returns or unwinds.
        let mut spins = 0;
        while shared.busy.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < shared.spins { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let theirs = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(caller);
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.region.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches its tasks' panics, so there is nothing to hear from it.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// A thread's share of a region's tasks.
    fn share(&self, thread: usize, tasks: usize) -> Range<usize> {
        let threads = self.next.len();
        thread * tasks / threads..(thread + 1) * tasks / threads
    }

    /// Runs the thread's own tasks, then what is left of the others'.
    fn take_tasks(&self, task: &Task<'_>, thread: usize) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        let threads = self.next.len();
        for owner in (thread..threads).chain(0..thread) {
            let end = self.share(owner, tasks).end;
            loop {
                let i = self.next[owner].0.fetch_add(1, Ordering::Relaxed);
                if i >= end {
                    break;
                }
                task(i, thread);
            }
        }
    }

    fn work(&self, index: usize) {
        INSIDE.set(true);
        let mut seen = 0;
        loop {
            seen = self.wait_for_region(seen, index);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let pointer = self.task.load(Ordering::Relaxed).cast::<&Task<'_>>();
            // SAFETY: the caller stored a pointer to a reference on its stack before it announced the region, and does
            // not return before `busy` says that this worker has finished with it.
            let task: &Task<'_> = unsafe { *pointer };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take_tasks(task, index + 1))) {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    /// The number of the next region after `seen`; spins for a while, then parks.
    fn wait_for_region(&self, seen: u64, index: usize) -> u64 {
        for _ in 0..self.spins {
            let region = self.region.load(Ordering::Acquire);
            if region != seen {
                return region;
            }
            std::hint::spin_loop();
        }
        self.parked[index].store(true, Ordering::SeqCst);
        let mut region = self.region.load(Ordering::SeqCst);
        while region == seen {
            std::thread::park();
            region = self.region.load(Ordering::SeqCst);
        }
        self.parked[index].store(false, Ordering::SeqCst);
        region
    }
}

/// A buffer of which every task of a region writes its own part.
///
/// The type is how this crate's kernels hand one output to many tasks; each use says why the parts do not overlap.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    buffer: PhantomData<&'a mut [T]>,
}

// SAFETY: `Parts` gives out nothing but what its `unsafe` method's caller promises to be disjoint.
unsafe impl<T: Send> Send for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(buffer: &'a mut [T]) -> Parts<'a, T> {
        Parts { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    /// Elements of the whole buffer.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where a range begins, for tasks whose parts interleave: checked to be inside the buffer, and as safe to use as any
    /// pointer.
    ///
    /// # Panics
    /// When the range is not inside the buffer.
    pub(crate) fn pointer(&self, range: Range<usize>) -> *mut T {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} is not inside 0..{}", self.len);
        self.start.wrapping_add(range.start)
    }

    /// One part.
    ///
    /// # Safety
    /// No other live reference overlaps `range`, on this thread or another.
    ///
    /// # Panics
    /// When the range is not inside the buffer.
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        let (start, len) = (self.pointer(range.clone()), range.len());
        // SAFETY: inside the buffer, which lives for 'a; not aliased, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 5] {
            let pool = Threads::new(threads).unwrap();
            for tasks in [0, 1, 2, 3, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..20 {
                    pool.run(tasks, &|i, thread| {
                        assert!(thread < threads);
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 20));
            }
        }
    }

    #[test]
    fn parked_threads_wake() {
        let pool = Threads::new(3).unwrap();
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let sum = AtomicUsize::new(0);
            pool.run(50, &|i, _| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 1225);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Threads::new(2).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|i, _| assert_ne!(i, 5, "five"));
        }));
        assert!(result.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(8, &|i, _| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 28);
    }

    #[test]
    fn nested_regions_run_inline() {
        let pool = Threads::new(2).unwrap();
        let sum = AtomicUsize::new(0);
        pool.run(4, &|_, _| {
            pool.run(4, &|i, _| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.load(Ordering::Relaxed), 24);
    }
}
