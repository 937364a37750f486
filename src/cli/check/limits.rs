//! The limits of the system: open files and threads. That of memory is a matter of the configuration.

use std::{fs, path::Path};

use super::report::{Check, Finding};
use crate::{
    app::open_files,
    config::Config,
    os,
    rt::control_group::{PidsLimit, pids_limit},
};

/// How many threads there are beside the workers: the main one, the log's, and those that read files.
const OTHER_THREADS: u64 = 8;

/// How many threads are left for who works in the same control group or as the same user, such as the app.
const SPARE_THREADS: u64 = 16;

/// Whether all connections may be open at once, and all threads may be started.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let wanted = config.server.workers as u64 + OTHER_THREADS;
    vec![
        open_files(config),
        threads(wanted, pids_limit(), threads_of_user()),
    ]
}

fn open_files(config: &Config) -> Finding {
    open_files::raise_limit();
    let limit = os::open_file_limit().current;
    let finding = match open_files::fit(&mut config.clone()) {
        Some(warning) => Finding::warning(Check::OpenFiles, "open files", warning),
        None => {
            let limit = limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
            let sentence =
                format!("the limit of open files is {limit}, enough for all connections");
            Finding::ok(Check::OpenFiles, "open files", sentence)
        }
    };
    finding.detail("limit", limit)
}

/// Whether `wanted` threads may be started, by the control group and by the user's limit.
fn threads(wanted: u64, group: Option<PidsLimit>, user: Option<PidsLimit>) -> Finding {
    let of_group = group.map(|pids| (pids, "the control group", "pids.max, or the container's"));
    let of_user = user.map(|pids| (pids, "this user", "ulimit -u, or LimitNPROC="));
    let tightest = [of_group, of_user].into_iter().flatten();
    let Some((pids, whose, how)) = tightest.min_by_key(|(pids, ..)| pids.left()) else {
        let sentence = "nothing limits the number of threads";
        return Finding::ok(Check::Threads, "threads", sentence);
    };
    let PidsLimit { limit, current } = pids;
    let sentence = format!(
        "{whose} may have {limit} processes and threads, and has {current}; a sidecar takes {wanted}"
    );
    let finding = if pids.left() < wanted {
        Finding::failed(Check::Threads, "threads", sentence)
            .advise(format!("it would not start: raise the limit ({how} limit)"))
    } else if pids.left() < wanted + SPARE_THREADS {
        Finding::warning(Check::Threads, "threads", sentence)
            .advise(format!("that is nearly all: raise the limit ({how} limit)"))
    } else {
        Finding::ok(Check::Threads, "threads", sentence)
    };
    finding
        .detail("limit", limit)
        .detail("current", current)
        .detail("wanted", wanted)
}

/// The limit of threads of this user, which root does not have.
fn threads_of_user() -> Option<PidsLimit> {
    let (uid, limit) = os::thread_limit()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let current = processes.filter_map(|process| threads_in(&process.path(), uid));
    Some(PidsLimit {
        limit,
        current: current.sum(),
    })
}

/// How many threads the process at `path` has, if it is one of the user `uid`.
fn threads_in(path: &Path, uid: u32) -> Option<u64> {
    let status = fs::read_to_string(path.join("status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let is_ours = field("Uid:") == Some(u64::from(uid));
    field("Threads:").filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::report::Severity;

    #[test]
    fn the_tighter_limit_of_threads_counts() {
        let pids = |limit, current| Some(PidsLimit { limit, current });
        for (group, user, severity, whose) in [
            (None, None, Severity::Ok, "nothing"),
            (pids(100, 10), None, Severity::Ok, "the control group"),
            (pids(100, 10), pids(30, 10), Severity::Warning, "this user"),
            (
                pids(12, 3),
                pids(100, 10),
                Severity::Failed,
                "the control group",
            ),
            (None, pids(5, 9), Severity::Failed, "this user"),
        ] {
            let finding = threads(10, group, user);
            assert_eq!(finding.severity, severity, "{finding:?}");
            assert!(finding.sentence.starts_with(whose), "{finding:?}");
        }
    }

    #[test]
    fn the_threads_of_this_process_are_counted() {
        let me = Path::new("/proc/self");
        let uid = rustix::process::getuid().as_raw();
        assert!(threads_in(me, uid).is_some_and(|threads| threads > 0));
        assert_eq!(threads_in(me, uid + 1), None);
    }
}
