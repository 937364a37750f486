//! Tells the program which commit it was built from, and lays out the tables of endpoints.

use std::{env, fmt::Write, fs, path::Path, process::Command};

#[path = "src/endpoint/hash.rs"]
mod hash;

/// The tables, with what the code calls them.
const TABLES: [(&str, &str); 2] = [
    ("WECHAT", "src/endpoint/wechat.tsv"),
    ("WECOM", "src/endpoint/wecom.tsv"),
];

fn main() {
    println!("cargo::rerun-if-env-changed=SIDECAR_BUILD_COMMIT");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/logs/HEAD");
    let given = env::var("SIDECAR_BUILD_COMMIT").ok();
    let commit = given
        .or_else(of_git)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=SIDECAR_BUILD_COMMIT={commit}");

    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/endpoint");
    // What pgo/rustc hands to the compiler, which cargo does not see.
    println!("cargo::rerun-if-env-changed=SIDECAR_PGO");
    for file in ["pgo/calls.profdata", "pgo/rustc.version"] {
        if Path::new(file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    let code = match endpoints() {
        Ok(code) => code,
        Err(problem) => {
            println!("cargo::error={problem}");
            return;
        }
    };
    let folder = env::var("OUT_DIR").unwrap_or_default();
    if let Err(error) = fs::write(Path::new(&folder).join("endpoints.rs"), code) {
        println!("cargo::error=endpoints.rs: {error}");
    }
}

fn of_git() -> Option<String> {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}

/// All rows, then each table's places. All text is in one string: no row has a pointer in it, which
/// would have to be adjusted whenever the program starts.
fn endpoints() -> Result<String, String> {
    let (mut text, mut rows, mut tables) = (String::new(), String::new(), String::new());
    let mut count = 0;
    for (name, path) in TABLES {
        let table = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let mut keys = Vec::new();
        for line in table.lines() {
            let problem = |problem: &str| format!("{path}: {problem}: {line}");
            let (label, credential) = line
                .split_once('\t')
                .ok_or_else(|| problem("no tab in this line"))?;
            let credential = self::credential(credential)
                .ok_or_else(|| problem("the credential of this line is none"))?;
            let key = label.to_ascii_lowercase();
            if keys.contains(&key) {
                return Err(problem("this path stands there twice"));
            }
            let start = text.len();
            text.push_str(&key);
            let shown = if key == label { start } else { text.len() };
            if key != label {
                text.push_str(label);
            }
            let length = key.len();
            let _ = writeln!(
                rows,
                "    Row {{ key: {start}, label: {shown}, length: {length}, credential: Credential::{credential} }},"
            );
            keys.push(key);
        }
        let (shifts, places) = lay_out(&keys, count)
            .ok_or_else(|| format!("{path}: no two of its paths may lie at one place"))?;
        let _ = writeln!(
            tables,
            "static {name}: Table<{}, {}> = Table {{ first: {count}, rows: {}, shifts: {shifts:?}, places: {places:?} }};",
            shifts.len(),
            places.len(),
            keys.len(),
        );
        count += keys.len();
    }
    Ok(format!(
        "static TEXT: &str = {text:?};\nstatic ROWS: [Row; {count}] = [\n{rows}];\n{tables}"
    ))
}

/// What the code calls a credential of the tables.
fn credential(word: &str) -> Option<&'static str> {
    Some(match word {
        "access_token" => "AccessToken",
        "none" => "Nothing",
        "secret" => "Secret",
        "token_request" => "TokenFetch",
        "quota_reset" => "QuotaReset",
        "user_access_token" | "component_access_token" | "component_in_access_token" => "Own",
        "suite_access_token" | "provider_access_token" => "Own",
        "device_access_token" | "model_access_token" => "Own",
        _ => return None,
    })
}

/// A shift for each bucket, so that every path has a place of its own: the fullest buckets first,
/// while there is much room. Rows are counted from `first`; a place that is nobody's has that of
/// some row, whose path is another anyway.
fn lay_out(keys: &[String], first: usize) -> Option<(Vec<u16>, Vec<u16>)> {
    let places = (keys.len() * 4 / 3).next_power_of_two();
    let mut buckets = vec![Vec::new(); places / 4];
    for (at, key) in keys.iter().enumerate() {
        let hash = hash::hash(key.as_bytes());
        buckets[hash::bucket(hash, places / 4)].push((hash, at));
    }
    let mut order: Vec<usize> = (0..buckets.len()).collect();
    order.sort_by_key(|bucket| std::cmp::Reverse(buckets[*bucket].len()));
    let mut taken = vec![None; places];
    let mut shifts = vec![0; buckets.len()];
    for bucket in order {
        let members = &buckets[bucket];
        shifts[bucket] = (0..=u16::MAX).find(|shift| {
            let mut wanted: Vec<usize> = members
                .iter()
                .map(|(hash, _)| hash::place(*hash, *shift, places))
                .collect();
            wanted.sort_unstable();
            wanted.windows(2).all(|two| two[0] != two[1])
                && wanted.iter().all(|place| taken[*place].is_none())
        })?;
        for (hash, at) in members {
            taken[hash::place(*hash, shifts[bucket], places)] = Some(*at);
        }
    }
    let row = |at: &Option<usize>| u16::try_from(first + at.unwrap_or_default()).ok();
    let rows = taken.iter().map(row).collect::<Option<_>>()?;
    Some((shifts, rows))
}
