//! The memory and the threads that the process may take, by its control group (cgroup v2 or v1).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the system mounts the file systems of control groups.
const MOUNT: &str = "/sys/fs/cgroup";

/// A limit that is larger than this is none. Version 1 writes a number near 2⁶³ for 'no limit'.
const LARGEST: u64 = 1 << 50;

/// A resource that a control group limits.
#[derive(Clone, Copy, Debug)]
struct LimitedResource {
    /// The name of its controller.
    controller: &'static str,
    /// The file that holds the limit in version 2, and in version 1.
    files: (&'static str, &'static str),
}

const MEMORY: LimitedResource = LimitedResource {
    controller: "memory",
    files: ("memory.max", "memory.limit_in_bytes"),
};

const PIDS: LimitedResource = LimitedResource {
    controller: "pids",
    files: ("pids.max", "pids.max"),
};

/// The limit of processes and threads of a control group, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidsLimit {
    /// The limit.
    pub limit: u64,
    /// All processes and threads of the group that has the limit.
    pub current: u64,
}

impl PidsLimit {
    /// How many more there may be.
    pub fn left(self) -> u64 {
        self.limit.saturating_sub(self.current)
    }
}

/// The limit in bytes; `None` if there is none, or if the system has no control groups.
pub fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    lowest_memory(Path::new(MOUNT), &groups)
}

/// The limit of threads that leaves the fewest; `None` if there is none, or if the system has no control groups.
pub fn pids_limit() -> Option<PidsLimit> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    tightest_pids(Path::new(MOUNT), &groups)
}

fn lowest_memory(mount: &Path, groups: &str) -> Option<u64> {
    let files = files(mount, groups, MEMORY);
    let limits = files.iter().filter_map(number_in);
    limits.filter(|limit| *limit <= LARGEST).min()
}

fn tightest_pids(mount: &Path, groups: &str) -> Option<PidsLimit> {
    let read = |file: &PathBuf| {
        Some(PidsLimit {
            limit: number_in(file)?,
            current: number_in(&file.with_file_name("pids.current"))?,
        })
    };
    let files = files(mount, groups, PIDS);
    files.iter().filter_map(read).min_by_key(|pids| pids.left())
}

/// The files that hold the limits of the groups in `groups`, which is the text of `/proc/self/cgroup`, and of those
/// above them. In a container the mount may show the container's own group as its top, whatever `groups` says.
fn files(mount: &Path, groups: &str, resource: LimitedResource) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (top, file) = match controllers {
            "" => (mount.to_owned(), resource.files.0),
            list if list.split(',').any(|name| name == resource.controller) => {
                (mount.join(resource.controller), resource.files.1)
            }
            _ => continue,
        };
        let below = path.trim_start_matches('/');
        let groups = Path::new(below).ancestors();
        files.extend(groups.map(|group| top.join(group).join(file)));
    }
    files
}

fn number_in(file: &PathBuf) -> Option<u64> {
    // 'max' stands for no limit.
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_the_group_and_those_above_it_counts() {
        let mount = std::env::temp_dir().join(format!("cgroup-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = mount.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory.max", "max\n");
        write("pods/memory.max", "134217728\n");
        write("pods/one/memory.max", "max\n");
        write("memory/docker/a/memory.limit_in_bytes", "67108864\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        for (groups, limit) in [
            ("0::/pods/one\n", Some(128 << 20)),
            // The path is that of the host, and not to be seen here.
            ("0::/kubepods/pod1/c2\n", None),
            ("0::/\n", None),
            (
                "3:cpu,memory:/docker/a\n1:name=systemd:/x\n0::/\n",
                Some(64 << 20),
            ),
            ("3:memory:/elsewhere\n", None),
            ("nonsense\n", None),
            ("", None),
        ] {
            assert_eq!(lowest_memory(&mount, groups), limit, "{groups}");
        }
        write("memory.max", "16777216\n");
        assert_eq!(lowest_memory(&mount, "0::/pods/one\n"), Some(16 << 20));
        assert_eq!(
            lowest_memory(&mount, "0::/kubepods/pod1/c2\n"),
            Some(16 << 20)
        );
        fs::remove_dir_all(mount).unwrap();
    }

    #[test]
    fn the_limit_of_threads_that_leaves_the_fewest_counts() {
        let mount = std::env::temp_dir().join(format!("cgroup-pids-{}", std::process::id()));
        let write = |path: &str, limit: &str, current: &str| {
            let folder = mount.join(path);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("pids.max"), limit).unwrap();
            fs::write(folder.join("pids.current"), current).unwrap();
        };
        write("pods", "100\n", "90\n");
        write("pods/one", "50\n", "10\n");
        write("pods/two", "12\n", "13\n");
        write("pids/docker/a", "max\n", "7\n");
        for (groups, found) in [
            ("0::/pods/one\n", Some((100, 90, 10))),
            ("0::/pods/two\n", Some((12, 13, 0))),
            ("0::/elsewhere\n", None),
            ("3:pids:/docker/a\n", None),
        ] {
            let pids = tightest_pids(&mount, groups);
            let pids = pids.map(|pids| (pids.limit, pids.current, pids.left()));
            assert_eq!(pids, found, "{groups}");
        }
        fs::remove_dir_all(mount).unwrap();
    }
}
