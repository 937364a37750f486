//! How the list of problems is kept, and how the log is told of it.

use std::{
    io::{self, Write},
    sync::Arc,
};

use tokio::time::advance;
use tracing::subscriber::DefaultGuard;

use super::*;
use crate::{
    lang::Lang,
    secret::{Secret, SecretSource},
};

/// The lines of the log of one test.
#[derive(Clone, Default)]
pub(super) struct LogLines(Arc<Mutex<Vec<u8>>>);

impl Write for LogLines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogLines {
    pub(super) fn all(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// The log of this thread at the level info, until the guard is dropped.
pub(super) fn log() -> (LogLines, DefaultGuard) {
    let lines = LogLines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let guard = tracing::subscriber::set_default(log.finish());
    (lines, guard)
}

const ENDPOINTS: [&str; 10] = ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9"];

fn at(endpoint: &'static str) -> Occurrence<'static> {
    Occurrence {
        endpoint: Some(endpoint),
        ..Occurrence::default()
    }
}

/// So many seconds pass.
async fn pass(problems: &Problems, seconds: u32) {
    for _ in 0..seconds {
        advance(Duration::from_secs(1)).await;
        problems.tick();
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_five_minutes_at_200_calls_a_second_is_at_most_ten_lines() {
    let (lines, _log) = log();
    let problems = Problems::of("wx1");
    for _ in 0..300 {
        for call in 0..200 {
            let cause: &dyn Display = &"Connection refused";
            problems.occurred(
                Kind::Unreachable,
                Occurrence {
                    errcode: Some(990_502),
                    cause: Some(cause),
                    ..at(ENDPOINTS[call % 10])
                },
            );
        }
        pass(&problems, 1).await;
    }
    let open = problems.open();
    assert_eq!((open.len(), open[0].count), (1, 60_000));
    assert!(!open[0].endpoints.is_empty() && open[0].lasts.as_secs() == 300);
    problems.replied();
    pass(&problems, 10).await;
    assert!(problems.open().is_empty());
    let lines = lines.all();
    assert!(lines.len() <= 10, "{lines:#?}");
    let [first, .., last] = &lines[..] else {
        panic!("{lines:?}")
    };
    for part in [
        "WARN",
        "Connection refused",
        "DNS",
        "account=\"wx1\"",
        "kind=\"unreachable\"",
        "endpoint=\"/0\"",
        "errcode=990502",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(lines[2].contains("count=12000"), "{}", lines[2]);
    assert!(last.contains("INFO") && last.contains("over"), "{last}");
    assert!(last.contains("count=60000"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_what_it_disproves_and_nothing_else() {
    let problems = Problems::of("wx1");
    let all = [Kind::Unreachable, Kind::IpRejected, Kind::CallsQuota];
    for kind in all {
        problems.occurred(kind, at("/0"));
    }
    problems.replied();
    pass(&problems, 5).await;
    assert_eq!(problems.open_kinds(), all[1..]);
    assert!(problems.uncured_cause(Kind::IpRejected).is_none());
    problems.accepted();
    pass(&problems, 5).await;
    assert_eq!(problems.open_kinds(), all[2..]);
    pass(&problems, 50).await;
    assert!(problems.open().is_empty());
    problems.occurred(Kind::CallsQuota, at("/0"));
    assert_eq!(problems.open()[0].count, 1, "it is another one");
}

#[test]
fn a_good_call_takes_no_lock_while_nothing_is_wrong() {
    let problems = Problems::of("wx1");
    let held = problems.lock();
    // With a lock these would not come back.
    problems.accepted();
    problems.replied();
    drop(held);
    problems.occurred(Kind::Busy, at("/0"));
    problems.accepted();
    let held = problems.lock();
    problems.accepted();
    drop(held);
}

#[test]
fn whatever_occurs_takes_bounded_memory() {
    let problems = Problems::of("wx1");
    let endpoints: Vec<&'static str> = (0..1000).map(|at| &*format!("/{at}").leak()).collect();
    let (cause, rid) = ("x\n".repeat(100_000), "y".repeat(100_000));
    for endpoint in endpoints {
        for kind in Kind::ALL {
            problems.occurred(
                *kind,
                Occurrence {
                    rid: Some(&rid),
                    cause: Some(&cause),
                    ..at(endpoint)
                },
            );
        }
    }
    let open = problems.open();
    assert_eq!(open.len(), Kind::ALL.len());
    for problem in open {
        assert_eq!(problem.count, 1000);
        assert!(problem.endpoints.len() <= 4);
        assert_eq!(problem.rid.unwrap().len(), LONGEST_RID);
        let cause = problem.cause.unwrap();
        assert!(cause.len() == LONGEST_CAUSE && !cause.contains('\n'));
    }
}

#[test]
fn two_accounts_with_a_wrong_secret_are_told_apart() {
    let secret = |setting| Arc::new(SecretSource::fixed(Secret::new("HUNTER2")).given_by(setting));
    for (account, place) in [("wx1", "WECHAT_SECRET"), ("wx2", "secret in /etc/w.toml")] {
        let (lines, _log) = log();
        let problems = Problems::of(account);
        problems.set_places(CredentialPlaces {
            appid: Some("WECHAT_APPID".into()),
            secret: Some(secret(place)),
        });
        problems.occurred(
            Kind::TokenRequestFailed,
            Occurrence {
                advice: Some(Text {
                    en: "set the right one",
                    zh: "设置正确的",
                }),
                wrong: Some(WrongCredential::Secret),
                ..Occurrence::default()
            },
        );
        let advice = format!("set the right one; the secret was read from {place}");
        let open = &problems.open()[0];
        assert_eq!(open.advice_in(Lang::En), advice);
        assert_eq!(
            open.advice_in(Lang::Zh),
            format!("设置正确的；secret 读自 {place}")
        );
        assert_eq!(open.sentence_in(Lang::Zh), "token 请求失败");
        let line = &lines.all()[0];
        assert!(line.contains(&advice) && line.contains(account), "{line}");
        assert!(!line.contains("WECHAT_APPID") && !line.contains("HUNTER2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_says_whether_its_problem_is_there() {
    let problems = Problems::of("wx1");
    problems.observe(Kind::StoreAway, Standing::Stays);
    problems.observe(Kind::StoreAway, Standing::Gone);
    assert!(problems.open().is_empty());
    problems.occurred(Kind::StoreAway, Occurrence::default());
    for _ in 0..1000 {
        problems.observe(Kind::StoreAway, Standing::Stays);
        pass(&problems, 1).await;
    }
    assert_eq!(problems.open()[0].count, 1);
    problems.observe(Kind::StoreAway, Standing::Gone);
    pass(&problems, 5).await;
    assert!(problems.open().is_empty());
    problems.observe(Kind::FetchCeiling, Standing::There(&"500 today"));
    let cause = problems.open()[0].cause.clone();
    assert_eq!(cause.as_deref(), Some("500 today"));
}

#[test]
fn what_recurs_elsewhere_is_another_matter() {
    let problems = Problems::of("wx1");
    problems.recurred(Kind::EndpointRefused, "/0");
    assert!(problems.open().is_empty());
    problems.occurred(Kind::EndpointRefused, at("/0"));
    problems.recurred(Kind::EndpointRefused, "/1");
    problems.recurred(Kind::EndpointRefused, "/0");
    let open = problems.open();
    assert_eq!((open[0].count, &open[0].endpoints[..]), (2, &["/0"][..]));
}

#[tokio::test(start_paused = true)]
async fn a_problem_that_ended_is_told_of_for_an_hour() {
    let problems = Problems::default();
    problems.occurred_times(Kind::Timeout, 7, at("/0"));
    pass(&problems, 20).await;
    assert!(problems.past().is_empty());
    pass(&problems, 41).await;
    let past = problems.past();
    let ended = &past[0].problem;
    assert_eq!((past.len(), ended.kind, ended.count), (1, Kind::Timeout, 7));
    assert_eq!(ended.endpoints, ["/0"]);
    assert!(ended.lasts >= Duration::from_secs(60) && problems.open().is_empty());
    // The newest come first, and no more than five.
    for _ in 0..10 {
        problems.occurred(Kind::Busy, Occurrence::default());
        pass(&problems, 61).await;
    }
    let past = problems.past();
    assert_eq!((past.len(), past[0].problem.kind), (5, Kind::Busy));
    assert!(past[0].ended_at > past[1].ended_at);
    pass(&problems, 3600).await;
    assert!(problems.past().is_empty());
}
