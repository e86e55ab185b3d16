//! A process under test: started with collected output, ended by its own id.
//!
//! It knows nothing of what runs inside. Whatever happens to the test, the
//! process is killed and reaped when its guard is dropped.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually::{eventually, when};

/// Time a process may take to stand still on a busy machine.
const STOP: Duration = Duration::from_secs(10);

/// Lines a process wrote so far, shared with the threads that read them.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: String) {
        self.lock().push(line);
    }

    /// A copy of the lines so far.
    pub fn all(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// The lines so far as one text.
    pub fn text(&self) -> String {
        self.lock().join("\n")
    }
}

/// A running process, killed and reaped at drop.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    readers: Vec<JoinHandle<()>>,
    /// Lines of standard output.
    pub stdout: Lines,
    /// Lines of standard error.
    pub stderr: Lines,
}

impl Running {
    /// Starts `command` without standard input and collects both outputs.
    ///
    /// `package` is the Debian package that brings the program.
    ///
    /// # Panics
    /// When the program is not there, with the package's name.
    pub fn start(command: &mut Command, package: &str) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.unwrap_or_else(|e| match e.kind() {
            ErrorKind::NotFound => panic!("{name} is missing: install the package {package}"),
            _ => panic!("cannot start {name}: {e}"),
        });
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = vec![
            collect(child.stdout.take().expect("piped above"), stdout.clone()),
            collect(child.stderr.take().expect("piped above"), stderr.clone()),
        ];
        Self {
            name,
            child,
            status: None,
            readers,
            stdout,
            stderr,
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self
                .child
                .try_wait()
                .expect("a child of ours can be waited for");
        }
        self.status
    }

    /// Waits for the end by itself; then all output is there.
    ///
    /// # Panics
    /// When it still runs after `within`, with its standard error.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let status = eventually(&what, within, || {
            self.ended()
                .ok_or_else(|| format!("runs; {}", self.stderr.text()))
        });
        self.join_readers();
        status
    }

    /// Sends SIGTERM.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// Stops it in its tracks (SIGSTOP): its sockets stay open and silent.
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
        // Its threads stop one after the other, and until then may answer.
        eventually("it stands still", STOP, || {
            let moving = moving(self.child.id());
            when(moving == 0, || format!("{moving} threads do not"))
        });
    }

    /// Lets it go on after [`Running::freeze`] (SIGCONT).
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            self.status = Some(self.child.wait().expect("a killed child can be waited for"));
        }
    }

    fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // Not reaped yet, so the id is still this child's.
            let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child's id is not 0");
            kill_process(pid, signal).expect("a child of ours can be signalled");
        }
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader thread does not panic");
        }
    }

    /// What the process holds now, from /proc.
    pub fn footprint(&self) -> Footprint {
        Footprint::of(self.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(pipe: impl Read + Send + 'static, lines: Lines) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut raw = Vec::new();
        while matches!(reader.read_until(b'\n', &mut raw), Ok(n) if n > 0) {
            lines.push(String::from_utf8_lossy(&raw).trim_end().to_owned());
            raw.clear();
        }
    })
}

/// CPU time of a process so far, of all its threads.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold spaces: user and system time, 10 ms each.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// What a process holds in the kernel: for "back to the baseline".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Open file descriptors, sockets included.
    pub files: usize,
    /// Open sockets, listeners included.
    pub sockets: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory in KiB.
    pub resident_kib: u64,
}

impl Footprint {
    /// Reads it for the process `pid`.
    pub fn of(pid: u32) -> Self {
        let targets: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .collect();
        let sockets = targets
            .iter()
            .filter(|t| t.to_string_lossy().starts_with("socket:"))
            .count();
        Self {
            files: targets.len(),
            sockets,
            threads: status_value(pid, "Threads:") as usize,
            resident_kib: status_value(pid, "VmRSS:"),
        }
    }
}

fn status_value(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(key));
    value
        .and_then(|v| v.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Threads of a process that are not stopped.
fn moving(pid: u32) -> usize {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let stands = |stat: &str| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_some_and(|state| state.starts_with(['T', 't', 'Z', 'X']))
    };
    let stats = threads.into_iter().flatten().flatten();
    // One that ended meanwhile is not there.
    let stats = stats.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter(|stat| !stands(stat)).count()
}
