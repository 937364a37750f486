//! The metrics page: Prometheus can read it, it counts correctly, and its number of labels has a limit.

mod support;

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use support::{APPID, Sidecar, Wechat};

const SEND: &str = "/cgi-bin/user/info/updateremark";

#[tokio::test]
async fn the_metrics_page_is_what_prometheus_reads() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::start(&wechat).await;
    wechat.rotate();
    sidecar.post(SEND, "x").await;
    sidecar.get("/unknown/path?query=1").await;
    sidecar
        .raw("GET /a//b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    let reply = sidecar.admin("/metrics").await;
    assert_eq!(
        reply.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let (mut kinds, mut helps, mut samples) = (HashMap::new(), HashSet::new(), HashSet::new());
    let mut family = String::new();
    let page = reply.text();
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            assert!(
                help.len() > family.len() + 1 && helps.insert(family.clone()),
                "{line}"
            );
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(
                name == family && ["counter", "gauge", "histogram"].contains(&kind),
                "{line}"
            );
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(
                kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            let name = series.split('{').next().unwrap();
            let histogram = kinds[&family] == "histogram";
            let belongs = name == family
                || histogram
                    && ["_bucket", "_sum", "_count"]
                        .iter()
                        .any(|end| name == format!("{family}{end}"));
            let ours = ["wechat_sidecar_", "process_"].iter();
            let ours = ours.copied().any(|prefix| name.starts_with(prefix));
            assert!(belongs && ours, "{line}");
            assert!(samples.insert(series.to_owned()), "twice: {line}");
            let labels = series.strip_prefix(name).unwrap();
            assert!(
                labels.is_empty() || labels.starts_with('{') && labels.ends_with("\"}"),
                "{line}"
            );
        }
    }
    assert_eq!(kinds.len(), helps.len());
    for hidden in ["unknown/path", "query", "a//b"] {
        assert!(!page.contains(hidden));
    }
    let buckets: Vec<f64> = page
        .lines()
        .filter(|line| line.contains("_bucket{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(
        buckets.is_sorted() && buckets.last() == Some(&3.0),
        "{buckets:?}"
    );
}

#[tokio::test]
async fn counters_tell_what_happened() {
    let wechat = Wechat::calm().await;
    let sidecar = Sidecar::with(&wechat, &["--replay-limit", "1KiB"]).await;
    let account =
        |name: &str, labels: &str| format!("wechat_sidecar_{name}{{account=\"{APPID}\"{labels}}}");
    let call = |outcome: &str| {
        account(
            "calls_total",
            &format!(",endpoint=\"{SEND}\",outcome=\"{outcome}\""),
        )
    };
    let errcode = |code: &str| {
        let labels = format!(",endpoint=\"{SEND}\",errcode=\"{code}\"");
        account("errcodes_total", &labels)
    };
    sidecar.post(SEND, "accepted").await;
    wechat.rotate();
    sidecar.post(SEND, "replayed").await;
    wechat.change(|behaviour| behaviour.refuse_next = 1);
    sidecar.post(SEND, vec![b'x'; 2000]).await;
    wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), "{\"errcode\":45009}".into())));
    sidecar.post(SEND, "errcode").await;
    wechat.change(|behaviour| behaviour.body = Some(("a/b".into(), "{\"errcode\":123456}".into())));
    sidecar.post(SEND, "other").await;
    sidecar.get("/cgi-bin/token").await;
    wechat.stop();
    wechat.wait_until(|wechat| wechat.connections() == 0).await;
    sidecar.post(SEND, "failed").await;
    for (sample, value) in [
        (call("accepted"), 2.0),
        (call("refused"), 1.0),
        (call("errcode"), 2.0),
        (call("failed"), 1.0),
        (
            account(
                "calls_total",
                ",endpoint=\"/cgi-bin/token\",outcome=\"local\"",
            ),
            1.0,
        ),
        (errcode("45009"), 1.0),
        (errcode("40001"), 2.0),
        (errcode("other"), 1.0),
        (account("refusals_total", ""), 2.0),
        (account("replays_total", ",outcome=\"accepted\""), 1.0),
        (
            account("replays_skipped_total", ",reason=\"not_held\""),
            1.0,
        ),
        (account("bodies_not_held_total", ""), 1.0),
        (
            account("token_fetches_total", ",cause=\"missing\",outcome=\"new\""),
            1.0,
        ),
        (
            account("token_fetches_total", ",cause=\"refusal\",outcome=\"new\""),
            1.0,
        ),
        (
            "wechat_sidecar_upstream_connects_total{outcome=\"failed\"}".to_owned(),
            1.0,
        ),
    ] {
        assert_eq!(
            sidecar.metric(&sample).await,
            value,
            "{sample}\n{}",
            sidecar.admin("/metrics").await.text()
        );
    }
    assert!(
        (7000.0..=7200.0).contains(&sidecar.metric(&account("token_expires_seconds", "")).await)
    );
}

#[tokio::test]
async fn at_most_64_endpoints_have_a_label() {
    let table = include_str!("../src/wechat/endpoint/wechat.tsv");
    let paths = table
        .lines()
        .filter_map(|line| line.strip_suffix("\taccess_token"))
        .take(100);
    let wechat = Wechat::calm().await;
    let sidecar = &Sidecar::start(&wechat).await;
    for path in paths {
        sidecar.get(path).await;
        sidecar.get(&path.to_ascii_uppercase()).await;
    }
    join_all((0..100).map(|n| async move { sidecar.get(&format!("/unknown/{n}")).await })).await;
    let page = sidecar.admin("/metrics").await.text();
    let labels: HashSet<_> = page
        .lines()
        .filter_map(|line| line.split_once("endpoint=\"")?.1.split('"').next())
        .collect();
    assert_eq!(
        (labels.len(), labels.contains("other")),
        (65, true),
        "{labels:?}"
    );
}

#[tokio::test]
async fn connections_for_token_requests_are_counted() {
    const CONNECTS: &str = "wechat_sidecar_upstream_connects_total";
    let made = format!("{CONNECTS}{{outcome=\"made\"}}");
    let failed = format!("{CONNECTS}{{outcome=\"failed\"}}");
    let wechat = Wechat::calm().await;
    let fine = Sidecar::start(&wechat).await;
    assert_eq!(
        (fine.metric(&made).await, fine.metric(&failed).await),
        (1.0, 0.0)
    );
    wechat.stop();
    let failing = Sidecar::unready(&wechat, &[], &[]).await;
    failing.becomes(&failed, 1.0).await;
}
