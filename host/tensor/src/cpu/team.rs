//! Threads that share the items of one operation after another.
//!
//! An operation takes tens of microseconds and a forward pass has a hundred of them, so
//! that the threads must neither sleep in between nor be waited for: one that is late
//! finds the work done, and only one that is in the middle of an item is waited for. The
//! caller is a member, and does all the work where the others are busy or asleep.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a member without work looks for the next before it sleeps: more than lies
/// between two operations of a forward pass.
const AWAKE: Duration = Duration::from_micros(60);

/// Looks at the state between two looks at the clock.
const LOOKS: usize = 32;

/// How long a caller waits for the others at full attention before it lets other threads
/// run: they may need its processor to end.
const ATTENTIVE: Duration = Duration::from_micros(100);

/// The state's lowest bits count the members in the task, one bit says whether more may
/// join, and the rest is the task's number.
const OPEN: u64 = 1 << 16;
const NUMBER: u64 = OPEN << 1;
const MEMBERS: u64 = OPEN - 1;

/// What a member does, given its own number.
type Task<'a> = dyn Fn(usize) + Sync + 'a;

/// The caller's thread and some others.
pub(super) struct Team {
    shared: Arc<Shared>,
    others: Vec<JoinHandle<()>>,
}

struct Shared {
    state: AtomicU64,
    /// A caller is at work: the fields below are its own, but for reads by those who joined.
    busy: AtomicBool,
    task: UnsafeCell<Option<*const Task<'static>>>,
    panicked: AtomicBool,
    stop: AtomicBool,
    asleep: Vec<AtomicBool>,
}

// SAFETY: `task` is written only by the caller who has `busy`, while the state is closed and
// counts no members; it is read only by members that the state counts. What it points to is
// `Sync`, and `Team::run` keeps it alive until the state is closed and counts none.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Team {
    /// A team of `members`, of which the caller is one.
    pub fn new(members: usize) -> std::io::Result<Self> {
        let others = members.saturating_sub(1);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            task: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            asleep: (0..others).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut team = Self {
            shared: shared.clone(),
            others: Vec::with_capacity(others),
        };
        for index in 0..others {
            let shared = shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("tensor-{}", index + 1))
                .spawn(move || shared.serve(index))?;
            team.others.push(thread);
        }
        Ok(team)
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.others.len() + 1
    }

    /// Calls `task` with 0, and from other members with their numbers, below
    /// [`Team::members`], at most once each; `helpers` of those that sleep are woken.
    /// Returns when all have returned. Members that come late do not call it, and none does
    /// where another caller has the team: each call must do all that is left to do.
    ///
    /// # Panics
    /// Where a call of `task` panics.
    pub fn run(&self, helpers: usize, task: &Task<'_>) {
        let helpers = helpers.min(self.others.len());
        let shared = &*self.shared;
        if helpers == 0 || shared.busy.swap(true, SeqCst) {
            return task(0);
        }
        // SAFETY: only the lifetime is changed. `Turn` closes the state and waits for the
        // members in it before this function returns or unwinds, so that none of them calls
        // `task` later; then the pointer is not read again.
        let task_without_lifetime = unsafe {
            std::mem::transmute::<*const Task<'_>, *const Task<'static>>(std::ptr::from_ref(task))
        };
        // SAFETY: this caller has `busy`; the state is closed and counts no members.
        unsafe { *shared.task.get() = Some(task_without_lifetime) };
        let number = shared.state.load(SeqCst) & !(NUMBER - 1);
        shared
            .state
            .store(number.wrapping_add(NUMBER) | OPEN, SeqCst);
        let turn = Turn(shared);
        for (index, asleep) in shared.asleep[..helpers].iter().enumerate() {
            if asleep.load(SeqCst) {
                self.others[index].thread().unpark();
            }
        }
        task(0);
        drop(turn);
        assert!(
            !shared.panicked.swap(false, SeqCst),
            "an operation panicked on another thread"
        );
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.others
            .iter()
            .map(JoinHandle::thread)
            .for_each(Thread::unpark);
        for thread in self.others.drain(..) {
            // Panics of tasks are caught where they happen.
            let _ = thread.join();
        }
    }
}

/// A caller's use of the team; dropped, the task is over and the team is free.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Self(shared) = self;
        let mut state = shared.state.fetch_and(!OPEN, SeqCst);
        let waiting = Instant::now();
        let mut looks = 0;
        while state & MEMBERS != 0 {
            std::hint::spin_loop();
            looks += 1;
            if looks % LOOKS == 0 && waiting.elapsed() > ATTENTIVE {
                std::thread::yield_now();
            }
            state = shared.state.load(SeqCst);
        }
        shared.busy.store(false, SeqCst);
    }
}

impl Shared {
    /// The life of another member.
    fn serve(&self, index: usize) {
        let mut last = 0;
        while let Some(number) = self.next(index, last) {
            last = number;
            if !self.join(number) {
                continue;
            }
            // SAFETY: this member is counted, so that the caller waits for it.
            let task = unsafe { *self.task.get() };
            // SAFETY: as above: what it points to lives.
            let run = || task.map(|task| unsafe { (*task)(index + 1) });
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                self.panicked.store(true, SeqCst);
            }
            self.state.fetch_sub(1, SeqCst);
        }
    }

    /// The number of an open task other than `last`, waited for; none when the team ends.
    fn next(&self, index: usize, last: u64) -> Option<u64> {
        let is_new = |state: u64| state & OPEN != 0 && state & !(NUMBER - 1) != last;
        let mut since = Instant::now();
        let mut looks = 0;
        loop {
            let state = self.state.load(SeqCst);
            if is_new(state) {
                return Some(state & !(NUMBER - 1));
            }
            std::hint::spin_loop();
            looks += 1;
            if looks % LOOKS != 0 || since.elapsed() < AWAKE {
                continue;
            }
            // Whoever opens a task after the look below sees that this member sleeps.
            self.asleep[index].store(true, SeqCst);
            while !is_new(self.state.load(SeqCst)) {
                if self.stop.load(SeqCst) {
                    return None;
                }
                std::thread::park();
            }
            self.asleep[index].store(false, SeqCst);
            since = Instant::now();
        }
    }

    /// Counts this member in the task `number`, unless it is over.
    fn join(&self, number: u64) -> bool {
        let joined = |state: u64| {
            let is_open = state & OPEN != 0 && state & !(NUMBER - 1) == number;
            is_open.then_some(state + 1)
        };
        self.state.fetch_update(SeqCst, SeqCst, joined).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Runs a task of `items`, each counted.
    fn run(team: &Team, items: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
        let next = AtomicUsize::new(0);
        team.run(team.members() - 1, &|_| {
            while let Some(count) = counts.get(next.fetch_add(1, SeqCst)) {
                count.fetch_add(1, SeqCst);
            }
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_item_is_done_once_by_the_time_it_returns() {
        for members in [1, 2, 5] {
            let team = Team::new(members).unwrap();
            for round in 0..2000 {
                let items = round % 50;
                assert_eq!(run(&team, items), vec![1; items], "{members} members");
            }
        }
    }

    #[test]
    fn sleepers_are_woken() {
        let team = Team::new(3).unwrap();
        for _ in 0..20 {
            std::thread::sleep(4 * AWAKE);
            let seen = Mutex::new(Vec::new());
            let started = Instant::now();
            team.run(2, &|member| {
                seen.lock().unwrap().push(member);
                // Until the others are there.
                while seen.lock().unwrap().len() < 3 && started.elapsed().as_secs() < 20 {
                    std::thread::yield_now();
                }
            });
            let mut seen = seen.into_inner().unwrap();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2]);
        }
    }

    #[test]
    fn many_callers_share_a_team() {
        let team = Team::new(3).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..500 {
                        assert_eq!(run(&team, round % 20), vec![1; round % 20]);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_team_usable() {
        let team = Team::new(2).unwrap();
        for panicking in [0, 1] {
            let started = Instant::now();
            let came = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                team.run(1, &|member| {
                    came.fetch_add(1, SeqCst);
                    while came.load(SeqCst) < 2 && started.elapsed().as_secs() < 20 {
                        std::thread::yield_now();
                    }
                    assert!(member != panicking, "on purpose");
                });
            }));
            assert!(result.is_err(), "member {panicking}");
            assert_eq!(run(&team, 10), vec![1; 10]);
        }
    }
}
