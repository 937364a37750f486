//! The place in the app's containers at which the folder with the sidecar's CA is mounted.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    CONTAINER, InjectRefusal,
    https::TRUST_VOLUME,
    object::{containers, items},
    trust_env::TRUST_FOLDER,
};

/// Volumes that nobody can write to, so that no folder can be made in them to mount another one at.
const READ_ONLY_VOLUMES: [&str; 4] = ["configMap", "secret", "projected", "downwardAPI"];

/// Checks that the folder has its place in each container: nothing hides a part of it, and nothing read-only is above it.
pub(super) fn check(pod: &Value) -> Result<(), InjectRefusal> {
    let is_read_only = |mount: &Value| {
        let mut volumes = items(pod, "/spec/volumes").iter();
        let volume = volumes.find(|volume| volume["name"] == mount["name"]);
        let volume = volume.unwrap_or(&Value::Null);
        mount["readOnly"] == true
            || READ_ONLY_VOLUMES
                .iter()
                .any(|kind| !volume[*kind].is_null())
    };
    for container in containers(pod) {
        let name = container["name"].as_str().unwrap_or_default();
        for mount in items(container, "/volumeMounts") {
            let written = mount["mountPath"].as_str().unwrap_or_default();
            let path = resolved(written);
            if name == CONTAINER || mount["name"] == TRUST_VOLUME {
                continue;
            }
            if path.starts_with(TRUST_FOLDER) {
                return Err(InjectRefusal::new(format!(
                    "the container {name} mounts something of its own at {written}, where the files are by which it \
                     trusts the sidecar: mount it elsewhere"
                )));
            }
            if Path::new(TRUST_FOLDER).starts_with(&path) && is_read_only(mount) {
                return Err(InjectRefusal::new(format!(
                    "the container {name} mounts something read-only at {written}, in which {TRUST_FOLDER} cannot be \
                     mounted: mount it elsewhere"
                )));
            }
        }
    }
    Ok(())
}

/// The path without double slashes. Almost all images have a link from /var/run to /run.
fn resolved(path: &str) -> PathBuf {
    let path: PathBuf = Path::new(path).components().collect();
    match path.strip_prefix("/var/run") {
        Ok(below) => Path::new("/run").join(below),
        Err(_) => path,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_hides_a_part_of_the_folder_or_leaves_no_place_for_it_is_refused() {
        let pod = |path: &str, read_only: bool, volume: &str| {
            let mount = json!({ "name": "x", "mountPath": path, "readOnly": read_only });
            json!({ "spec": {
                "containers": [{ "name": "app", "volumeMounts": [mount] }],
                "volumes": [{ "name": "x", volume: {} }],
            } })
        };
        for path in [
            "/run/wechat-sidecar/trust",
            "/run/wechat-sidecar/trust/",
            "/run//wechat-sidecar/./trust",
            "/var/run/wechat-sidecar/trust",
            "/run/wechat-sidecar/trust/php",
        ] {
            assert!(check(&pod(path, false, "emptyDir")).is_err(), "{path}");
        }
        for path in ["/run/wechat-sidecar", "/run", "/var/run/"] {
            assert!(check(&pod(path, false, "emptyDir")).is_ok(), "{path}");
            assert!(check(&pod(path, true, "emptyDir")).is_err(), "{path}");
            assert!(check(&pod(path, false, "configMap")).is_err(), "{path}");
        }
        for path in ["/run/wechat-sidecar/trusted", "/run/secrets", "/etc/ssl"] {
            assert!(check(&pod(path, true, "secret")).is_ok(), "{path}");
        }
    }
}
