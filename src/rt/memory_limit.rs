//! The memory that the process may take, by its control group (cgroup v2 or v1).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the system mounts the file systems of control groups.
const MOUNT: &str = "/sys/fs/cgroup";

/// A limit that is larger than this is none. Version 1 writes a number near 2⁶³ for 'no limit'.
const LARGEST: u64 = 1 << 50;

/// The limit in bytes; `None` if there is none, or if the system has no control groups.
pub fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    lowest(Path::new(MOUNT), &groups)
}

/// The lowest limit of the groups in `groups`, which is the text of `/proc/self/cgroup`, and of those above them. In a
/// container the mount may show the container's own group as its top, whatever `groups` says.
fn lowest(mount: &Path, groups: &str) -> Option<u64> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (top, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                (mount.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let below = path.trim_start_matches('/');
        let groups = Path::new(below).ancestors();
        files.extend(groups.map(|group| top.join(group).join(file)));
    }
    let limits = files.iter().filter_map(limit_in);
    limits.filter(|limit| *limit <= LARGEST).min()
}

fn limit_in(file: &PathBuf) -> Option<u64> {
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
            assert_eq!(lowest(&mount, groups), limit, "{groups}");
        }
        write("memory.max", "16777216\n");
        assert_eq!(lowest(&mount, "0::/pods/one\n"), Some(16 << 20));
        assert_eq!(lowest(&mount, "0::/kubepods/pod1/c2\n"), Some(16 << 20));
        fs::remove_dir_all(mount).unwrap();
    }
}
