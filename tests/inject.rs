//! `inject` as its user runs it: workloads in, workloads with a sidecar out, held against files.
//!
//! `tests/inject/golden` holds them: NAME.in.* becomes NAME.out.*, NAME.unchanged.* stays as it is,
//! NAME.refused.* is refused with what its first line says. With UPDATE=1 the outputs are written.
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
        // Parts of what it takes away may have been there, empty.
        let before = stripped(documents(&text));
        let mut out = vec!["--uninject".to_owned()];
        let prefix = args.iter().position(|arg| arg == "--prefix");
        out.extend(prefix.into_iter().flat_map(|at| args[at..at + 2].to_vec()));
        // A sidecar that the input had goes as well.
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

/// Without what is empty: `uninject` does not know whether it was there.
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
