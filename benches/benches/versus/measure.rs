//! What one run costs: wall time, processor time, memory.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use livmig_tests::run::high_water;

/// Ticks of the processor times in /proc: Linux shows them in hundredths of a second everywhere.
const TICKS: f64 = 100.0;

/// How often the memory of what runs is looked at. The kernel keeps each process's high-water
/// mark, so only growth in the last interval of a life is missed.
const SAMPLE: Duration = Duration::from_millis(10);

/// What one run cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Wall time, in seconds.
    pub(crate) seconds: f64,
    /// Processor time of all processes of both ends, user and system, in seconds.
    pub(crate) processor: f64,
    /// The high-water marks of the resident memory of all processes of both ends, summed, in bytes.
    pub(crate) memory: u64,
    /// Bytes sent over the connection; none where there is none.
    pub(crate) sent: Option<u64>,
}

/// Measures `run`: what the processes it starts, and ends, use. The clock stops when it says how
/// much was sent; what it does after that in `end` still counts as processor time.
///
/// Nothing that was written before waits for its device by then: livmig flushes and would pay for
/// what the peer before it, or the change, has left behind, which no peer does.
pub(crate) fn measure(
    run: impl FnOnce() -> Result<Option<u64>>,
    end: impl FnOnce() -> Result<()>,
) -> Result<Cost> {
    rustix::fs::sync();
    let before = processor_of_children()?;
    let memory = Memory::watch();
    let began = Instant::now();
    let sent = run();
    let seconds = began.elapsed().as_secs_f64();
    let memory = memory.stop();
    end()?;
    Ok(Cost {
        seconds,
        processor: processor_of_children()? - before,
        memory,
        sent: sent?,
    })
}

/// Processor seconds of the children that have ended, and of theirs.
fn processor_of_children() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    ended_children(&stat).context("/proc/self/stat cannot be read")
}

fn ended_children(stat: &str) -> Option<f64> {
    // The program's name stands in brackets and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(f64::from(user + system) / TICKS)
}

/// A thread that looks at the memory of all descendants.
struct Memory {
    over: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<u32, u64>>,
}

impl Memory {
    fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut marks = BTreeMap::new();
            while !until.load(Ordering::Relaxed) {
                look(&mut marks);
                thread::park_timeout(SAMPLE);
            }
            look(&mut marks);
            marks
        });
        Self { over, thread }
    }

    fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_default().values().sum()
    }
}

fn look(marks: &mut BTreeMap<u32, u64>) {
    let mut left = vec![std::process::id()];
    let mut own = true;
    while let Some(pid) = left.pop() {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            left.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        if !std::mem::take(&mut own)
            && let Some(mark) = high_water(pid)
        {
            marks.insert(pid, mark);
        }
    }
}
