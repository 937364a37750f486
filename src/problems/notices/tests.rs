//! Tests of what the log is told of problems that many accounts have.

use std::sync::Arc;

use tokio::time::advance;

use super::*;
use crate::problems::{
    Occurrence, Problems, Standing,
    tests::{LogLines, log},
};

const SECOND: Duration = Duration::from_secs(1);

/// Many accounts with their problems.
struct ManyAccounts {
    notices: Arc<Notices>,
    all: Vec<Problems>,
}

fn accounts(number: usize) -> ManyAccounts {
    let notices = Arc::new(Notices::default());
    notices.set_many(number > 32);
    let all = (0..number).map(|at| Problems::of(&format!("wx{at}")).told_by(notices.clone()));
    let all = all.collect();
    ManyAccounts { notices, all }
}

impl ManyAccounts {
    /// So many seconds pass. The watch says of each account what `of` does.
    async fn pass(&self, seconds: u32, of: impl Fn(&Problems)) {
        for _ in 0..seconds {
            advance(SECOND).await;
            for problems in &self.all {
                of(problems);
                problems.tick();
            }
            self.notices.tick();
        }
    }
}

fn fails(problems: &Problems) {
    let cause: &dyn std::fmt::Display = &"Connection refused";
    problems.occurred(
        Kind::TokenRequestFailed,
        Occurrence {
            cause: Some(cause),
            ..Occurrence::default()
        },
    );
}

fn lines_with(lines: &LogLines, part: &str) -> Vec<String> {
    let mut all = lines.all();
    all.retain(|line| line.contains(part));
    all
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_a_thousand_accounts_is_some_dozen_lines_and_none_is_lost() {
    let (lines, _log) = log();
    let accounts = accounts(1000);
    // They are told of one after another, as their turns come.
    for (at, problems) in accounts.all.iter().enumerate() {
        fails(problems);
        if at % 20 == 19 {
            accounts
                .pass(1, |problems| {
                    problems.observe(Kind::TokenRequestFailed, Standing::Stays)
                })
                .await;
        }
    }
    let first_minute = lines.all();
    assert!(first_minute.len() <= 12, "{first_minute:#?}");
    assert_eq!(
        accounts
            .all
            .iter()
            .filter(|one| one.open().len() == 1)
            .count(),
        1000
    );
    // It goes on for three minutes: a line a minute after the first ones.
    accounts.pass(180, fails).await;
    let all = lines.all();
    assert!(all.len() <= 12 + 10, "{all:#?}");
    accounts
        .pass(120, |problems| {
            problems.observe(Kind::TokenRequestFailed, Standing::Gone)
        })
        .await;
    let all = lines.all();
    assert!(all.len() <= 12 + 10 + 8, "{all:#?}");
    // Each account is named or counted.
    for (own, summed) in [
        ("no new token: Connection refused; ", "the same for "),
        ("over: no new token", "over for "),
    ] {
        let own = lines_with(&lines, own);
        let summed = lines_with(&lines, summed);
        let accounts = summed.iter().map(|line| {
            let (_, number) = line.split_once(" others=").unwrap();
            number.split(' ').next().unwrap().parse::<usize>().unwrap()
        });
        assert_eq!(own.len(), 5, "{own:#?}");
        assert_eq!(own.len() + accounts.sum::<usize>(), 1000, "{summed:#?}");
    }
    let still = lines_with(&lines, "still, for ");
    assert!(
        still[0].contains("WARN") && still[0].contains("count="),
        "{still:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_five_accounts_each_has_a_line_and_of_six_one_is_summed_up_by_name() {
    for (number, own, sums) in [(5, 5, 0), (6, 5, 1)] {
        let (lines, _log) = log();
        let accounts = accounts(100);
        accounts.all[..number].iter().for_each(fails);
        accounts.pass(30, |_| {}).await;
        let all = lines.all();
        assert_eq!(all.len(), own + sums, "{all:#?}");
        assert_eq!(lines_with(&lines, "account=\"wx").len(), own);
        let sums = lines_with(&lines, "the same for 1 more account: no new token");
        assert!(
            sums.iter().all(|line| line.contains("such_as=\"wx5\"")),
            "{sums:#?}"
        );
        // Another kind has lines of its own.
        accounts.all[50].occurred(Kind::Busy, Occurrence::default());
        assert_eq!(lines_with(&lines, "account=\"wx50\"").len(), 1);
    }
}

#[test]
fn at_the_end_of_the_process_all_are_told_of() {
    let (lines, _log) = log();
    let accounts = accounts(100);
    accounts.all.iter().for_each(fails);
    assert_eq!(lines.all().len(), 5);
    for _ in 0..2 {
        accounts.notices.flush();
        assert_eq!(lines_with(&lines, "the same for 95 more accounts").len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_calm_minute_accounts_are_named_again() {
    let (lines, _log) = log();
    let accounts = accounts(100);
    accounts.all[..50].iter().for_each(fails);
    accounts.pass(61, |_| {}).await;
    let before = lines.all().len();
    fails(&accounts.all[99]);
    assert_eq!(lines.all().len(), before + 1);
    assert_eq!(lines_with(&lines, "account=\"wx99\"").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn with_a_few_accounts_each_has_its_line() {
    let (lines, _log) = log();
    let accounts = accounts(32);
    accounts.all.iter().for_each(fails);
    accounts.pass(30, |_| {}).await;
    assert_eq!(lines.all().len(), 32);
    // A reload may bring more, and take them away again.
    accounts.notices.set_many(true);
    assert!(accounts.all[0].is_one_of_many());
    accounts
        .all
        .iter()
        .for_each(|one| one.occurred(Kind::Busy, Occurrence::default()));
    accounts.notices.set_many(false);
    accounts.pass(11, |_| {}).await;
    assert_eq!(lines_with(&lines, "busy").len(), 6);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_problem_is_told_after_all_that_came_before_it() {
    let (lines, _log) = log();
    let accounts = accounts(100);
    // They fail one after another, so that some sums are still to come when all is well again.
    for problems in &accounts.all {
        fails(problems);
        let stays = |problems: &Problems| {
            problems.observe(Kind::TokenRequestFailed, Standing::Stays);
        };
        accounts.pass(1, stays).await;
    }
    let cured = |problems: &Problems| problems.observe(Kind::TokenRequestFailed, Standing::Gone);
    accounts.pass(120, cured).await;
    let all = lines.all();
    let is_end = |line: &String| line.contains("over");
    let first_end = all.iter().position(is_end).unwrap();
    assert!(all[first_end..].iter().all(is_end), "{all:#?}");
    let told = |part: &str| lines_with(&lines, part).len();
    assert!(
        told("the same for 40 more") == 1 && told("over for 95 more") == 1,
        "{all:#?}"
    );
}
