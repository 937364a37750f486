//! `inject` as its user runs it: a sidecar is added to workloads, and the output is compared with golden files.
//!
//! `tests/inject/golden` has these files: NAME.in.* becomes NAME.out.*, NAME.unchanged.* stays as it is, and
//! NAME.refused.* is refused with the reason in its first line. With UPDATE=1 the outputs are written.
#![allow(clippy::unwrap_used)]

#[path = "inject/golden.rs"]
mod golden;

use golden::{Golden, Kind, all, documents, inject};
use serde_json::{Value, json};

#[test]
fn every_workload_becomes_what_its_file_shows() {
    let mut wrong = Vec::new();
    let files = all(Kind::In);
    assert!(files.len() >= 60, "only {} workloads", files.len());
    for golden in files {
        let done = inject(&golden.args, golden.text.as_bytes());
        assert!(done.status, "{}: {}", golden.name, done.stderr);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(golden.output(), &done.stdout).unwrap();
        }
        let shown = std::fs::read_to_string(golden.output()).unwrap_or_default();
        if shown != done.stdout {
            wrong.push(golden.name);
        }
    }
    assert!(wrong.is_empty(), "not as their files show: {wrong:?}");
}

#[test]
fn a_second_injection_changes_nothing() {
    for Golden {
        name, args, text, ..
    } in all(Kind::In)
    {
        let once = inject(&args, text.as_bytes()).stdout;
        let twice = inject(&args, once.as_bytes()).stdout;
        assert_eq!(once, twice, "{name}");
    }
}

#[test]
fn uninject_gives_the_workload_back() {
    for Golden {
        name, args, text, ..
    } in all(Kind::In)
    {
        // Some of the parts that `uninject` removes may have been there before, empty.
        let before = stripped(documents(&text));
        let mut out = vec!["--uninject".to_owned()];
        let prefix = args.iter().position(|arg| arg == "--prefix");
        out.extend(prefix.into_iter().flat_map(|at| args[at..at + 2].to_vec()));
        // A sidecar that was in the input is removed as well.
        let before_uninjected = inject(&out, text.as_bytes()).stdout;
        let injected = inject(&args, text.as_bytes()).stdout;
        let after = stripped(documents(&inject(&out, injected.as_bytes()).stdout));
        let before = if before_uninjected == text {
            before
        } else {
            stripped(documents(&before_uninjected))
        };
        assert_eq!(before, after, "{name}");
    }
}

#[test]
fn what_wants_no_sidecar_passes_byte_for_byte() {
    let files = all(Kind::Unchanged);
    assert!(files.len() >= 15);
    for Golden {
        name, args, text, ..
    } in files
    {
        let done = inject(&args, text.as_bytes());
        assert!(done.status, "{name}: {}", done.stderr);
        assert_eq!(done.stdout, text, "{name}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_name_and_nothing_is_written() {
    let files = all(Kind::Refused);
    assert!(files.len() >= 25);
    for Golden {
        name,
        args,
        text,
        says,
        ..
    } in files
    {
        let done = inject(&args, text.as_bytes());
        assert!(
            !done.status && done.stdout.is_empty(),
            "{name}: {}",
            done.stdout
        );
        let says = says.unwrap_or_else(|| panic!("{name} does not say what it says"));
        assert!(
            done.stderr.contains(&says),
            "{name}: {says:?} is not in {:?}",
            done.stderr
        );
        assert!(
            done.stderr.contains("nothing was written"),
            "{name}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_whole_clusters_list_is_read_and_aliases_do_not_multiply() {
    let pod = |at: usize| {
        let env = (0..40).map(|at| format!("        - {{name: V{at}, value: '{at}'}}\n"));
        let env: String = env.collect();
        format!(
            "  - apiVersion: v1\n    kind: Pod\n    metadata: {{name: p{at}}}\n    spec:\n      \
             containers:\n      - name: a\n        image: a:1\n        env:\n{env}"
        )
    };
    let pods: String = (0..1200).map(pod).collect();
    let list = format!("apiVersion: v1\nkind: List\nitems:\n{pods}");
    let done = inject(&[], list.as_bytes());
    assert!(done.status, "{}", done.stderr);
    assert_eq!(
        done.stdout.matches("name: wechat-sidecar-secret").count(),
        2400
    );

    let many = "- *a\n".repeat(5000);
    let aliases = format!("kind: X\nx: &a {{b: c}}\ny:\n{many}");
    assert!(inject(&[], aliases.as_bytes()).status);
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for at in 1..12 {
        let before = format!("*a{},", at - 1).repeat(9);
        bomb.push_str(&format!("a{at}: &a{at} [{before}]\n"));
    }
    assert!(!inject(&[], bomb.as_bytes()).status);
}

#[test]
fn what_somebody_should_know_is_said() {
    let says = |stream: &str, text: &str| {
        let done = inject(&[], stream.as_bytes());
        assert!(
            done.status && done.stderr.contains(text),
            "{text:?}: {}",
            done.stderr
        );
    };
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, annotations: \
        {wechat-sidecar.dev/secret: mine}}\nspec: {template: {spec: {containers: [{name: a}]}}}";
    says(deployment, "they belong on its pod template");
    let pod = |annotations: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{{annotations}}}}}\n\
             spec: {{{spec}, containers: [{{name: a}}]}}"
        )
    };
    says(
        &pod("", "shareProcessNamespace: true"),
        "may read the sidecar's AppSecret",
    );
    says(
        &pod("", "hostNetwork: true"),
        "pod/p: warning: skipped, it is on the host's network",
    );
    let delay = "wechat-sidecar.dev/shutdown-delay: 5s";
    says(
        &pod(delay, "restartPolicy: Always"),
        "is for classic sidecars",
    );
    let classic = "wechat-sidecar.dev/sidecar: classic";
    says(&pod(classic, "restartPolicy: Never"), "/quitquitquit");
    says(
        &pod(classic, "terminationGracePeriodSeconds: 600"),
        "serves for 60s",
    );
    let hosts = "wechat-sidecar.dev/https-hosts: qyapi.weixin.qq.com";
    says(
        &pod(hosts, "restartPolicy: Always"),
        "https-hosts has no effect without wechat-sidecar.dev/https",
    );
    let https = "wechat-sidecar.dev/mode: transparent, wechat-sidecar.dev/https: 'true'";
    let init = |more: &str| {
        let spec = format!("initContainers: [{{name: i, {more}}}]");
        pod(https, &spec)
    };
    says(
        &init("env: [{name: SSL_CERT_DIR, value: /mine}]"),
        "the container i sets SSL_CERT_DIR itself",
    );
    says(
        &init("envFrom: [{configMapRef: {name: m}}]"),
        "the container i has envFrom, which may set NODE_EXTRA_CA_CERTS",
    );
    // Whoever follows this advice is not told again.
    let own = "env: [{name: SSL_CERT_DIR, value: /run/wechat-sidecar/trust/hashed}]";
    let done = inject(&[], init(own).as_bytes());
    assert!(!done.stderr.contains("warning"), "{}", done.stderr);
}

/// Removes empty values, because `uninject` does not know whether they were there before.
fn stripped(mut value: Value) -> Value {
    fn is_empty(value: &Value) -> bool {
        [json!(null), json!([]), json!({})].contains(value)
    }
    match &mut value {
        Value::Array(items) => {
            items
                .iter_mut()
                .for_each(|item| *item = stripped(item.take()));
        }
        Value::Object(fields) => {
            fields
                .values_mut()
                .for_each(|field| *field = stripped(field.take()));
            fields.retain(|_, field| !is_empty(field));
        }
        _ => {}
    }
    value
}
