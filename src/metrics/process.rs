//! The `process_*` series, by the names of Prometheus' own client libraries. They are read from `/proc`.
//!
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>

use std::{fs, sync::OnceLock};

use super::{Encoder, Family};
use crate::os;

families! {
    "process_";
    CPU = "counter" "cpu_seconds_total": "CPU time of the process, in user and kernel mode.";
    OPEN_FDS = "gauge" "open_fds": "Open file descriptors.";
    MAX_FDS = "gauge" "max_fds": "The most file descriptors that the process may open.";
    VIRTUAL = "gauge" "virtual_memory_bytes": "Virtual memory.";
    RESIDENT = "gauge" "resident_memory_bytes": "Resident memory.";
    THREADS = "gauge" "threads": "Threads.";
    START = "gauge" "start_time_seconds": "When the process started, as seconds since 1970.";
}

/// Adds the series that this system has. There are none without `/proc`.
pub fn write(page: &mut Encoder) {
    let Some(stat) = Stat::read() else {
        return;
    };
    let ticks = os::clock_ticks_per_second() as f64;
    page.single(&CPU, stat.cpu_ticks / ticks);
    if let Some(open) = open_files() {
        page.single(&OPEN_FDS, open as f64);
    }
    let most = os::open_file_limit().current;
    page.single(&MAX_FDS, most.map_or(f64::INFINITY, |most| most as f64));
    page.single(&VIRTUAL, stat.virtual_bytes);
    page.single(&RESIDENT, stat.resident_pages * os::page_size() as f64);
    page.single(&THREADS, stat.threads);
    if let Some(boot) = boot_time() {
        page.single(&START, boot + stat.start_ticks / ticks);
    }
}

/// What the status page shows of the process. What the system does not tell is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessUse {
    /// Resident memory, in bytes.
    pub memory: Option<u64>,
    /// Open file descriptors.
    pub open_files: Option<u64>,
    /// The most file descriptors that the process may open.
    pub max_open_files: Option<u64>,
}

impl ProcessUse {
    /// Reads it.
    pub fn read() -> Self {
        let memory = Stat::read().map(|stat| stat.resident_pages * os::page_size() as f64);
        Self {
            memory: memory.map(|bytes| bytes as u64),
            open_files: open_files(),
            max_open_files: os::open_file_limit().current,
        }
    }
}

/// How many file descriptors are open.
fn open_files() -> Option<u64> {
    let open = fs::read_dir("/proc/self/fd").ok()?;
    // Reading the folder takes one.
    Some(open.count().saturating_sub(1) as u64)
}

/// What is taken from `/proc/self/stat`. See proc_pid_stat(5).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: f64,
    threads: f64,
    start_ticks: f64,
    virtual_bytes: f64,
    resident_pages: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the name of the program in brackets, which may have spaces and brackets of its own.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The rest begins with field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the system was started, as seconds since 1970.
fn boot_time() -> Option<f64> {
    static BOOT: OnceLock<Option<f64>> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name_of_the_program() {
        let rest = "S 1 1 1 0 -1 4194304 300 0 0 0 250 50 0 0 20 0 4 0 12345 8192000 1500 18446744073709551615";
        for name in ["wechat-sidecar", "a ) b", "(()"] {
            assert_eq!(
                Stat::parse(&format!("7 ({name}) {rest}")),
                Some(Stat {
                    cpu_ticks: 300.0,
                    threads: 4.0,
                    start_ticks: 12345.0,
                    virtual_bytes: 8_192_000.0,
                    resident_pages: 1500.0,
                })
            );
        }
        assert_eq!(Stat::parse("7 (x) S 1"), None);
    }

    #[test]
    fn the_series_of_this_process_are_plausible() {
        let mut page = Encoder::default();
        write(&mut page);
        let page = page.finish();
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<f64>().ok())
        };
        if !cfg!(target_os = "linux") {
            return;
        }
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - value("process_start_time_seconds ").unwrap();
        assert!((-2.0..3600.0).contains(&age), "{age}");
        assert!(value("process_resident_memory_bytes ").unwrap() > 1e6);
        assert!(value("process_open_fds ").unwrap() >= 3.0);
        assert!(value("process_threads ").unwrap() >= 1.0);
    }
}
