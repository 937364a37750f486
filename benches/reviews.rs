//! How long the webhook's reviews take at 200 a second, and what memory.
#![allow(clippy::unwrap_used)]

#[path = "../tests/webhook/support.rs"]
#[allow(dead_code)]
mod support;

use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Duration, Instant, interval},
};

use support::{Webhook, pod, review};

const SECONDS: u32 = 30;
const A_SECOND: u32 = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let webhook = Webhook::start(&[]).await;
    let status = format!("/proc/{}/status", webhook.child.id().unwrap());
    let memory = || {
        let status = std::fs::read_to_string(&status).unwrap();
        let lines = status
            .lines()
            .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
        lines
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .join(", ")
    };
    println!("at start: {}", memory());
    let webhook = std::sync::Arc::new(webhook);
    let mut ticks = interval(Duration::from_secs(1) / A_SECOND);
    let mut calls = JoinSet::new();
    for at in 0..SECONDS * A_SECOND {
        ticks.tick().await;
        // Pods of about 10 KB, and one of 1 MB a second.
        let size = if at % A_SECOND == 0 { 1 << 20 } else { 8 << 10 };
        let review = review(&pod(json!({ "filler": "x".repeat(size) })));
        let webhook = webhook.clone();
        calls.spawn(async move {
            let started = Instant::now();
            assert_eq!(webhook.ask(&review).await.response()["allowed"], true);
            started.elapsed()
        });
    }
    let mut times = calls.join_all().await;
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{} reviews: p50 {:?}, p99 {:?}, longest {:?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    println!("at the end: {}", memory());
}
