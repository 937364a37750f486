//! Tests of the rates of `pace`.

use tokio::time::Duration;

use super::{SECRET, given};
use crate::{account::pacing::Rate, config::keys::Id};

#[test]
fn an_accounts_own_rates_come_before_the_global_ones() {
    let mut given = given().file(&format!(
        "pace = ['/cgi-bin/**=100/s', '/wxa/**=1/day']\npace-wait = '0s'\n\
         [[accounts]]\nappid = 'wx1'\nsecret = '{SECRET}'\npace = '/cgi-bin/user/get=5000/min'\n\
         [[accounts]]\nappid = 'wx2'\nsecret = '{SECRET}'\n"
    ));
    given.0.env.clear();
    let config = given.load();
    let rules = |at: usize| {
        let rules = config.accounts[at].pacing.rules.iter();
        rules.map(|rule| &*rule.text).collect::<Vec<_>>()
    };
    let own = "/cgi-bin/user/get=5000/min";
    let global = ["/cgi-bin/**=100/s", "/wxa/**=1/day"];
    assert_eq!(rules(0), [&[own][..], &global].concat());
    assert_eq!(rules(1), global);
    let minute = Duration::from_secs(60);
    assert_eq!(
        config.accounts[0].pacing.rules[0].rate,
        Rate::new(5000, minute)
    );
    assert_eq!(config.accounts[0].pacing.wait, Duration::ZERO);
}

#[test]
fn nothing_is_paced_by_default_and_a_mistake_is_named() {
    let config = given().load();
    assert!(config.accounts[0].pacing.rules.is_empty());
    assert_eq!(config.accounts[0].pacing.wait, Duration::from_secs(5));
    for (id, text, says) in [
        (
            Id::Pace,
            "/x",
            "--pace: \"/x\" is not a pattern of paths, an equals sign and a rate; for example /cgi-bin/message/**=5000/min",
        ),
        (
            Id::Pace,
            "/x=0/s",
            "has a rate that is not a number of calls from 1 to",
        ),
        (Id::Pace, "/x=5/week", "/s, /min, /hour or /day"),
        (Id::Pace, "x=5/s", "is no pattern: one begins with a slash"),
        (Id::PaceWait, "2min", "is longer than a minute"),
        (Id::PaceWait, "5", "is not a duration with its unit"),
    ] {
        let error = given().flag(id, text).error();
        assert!(error.contains(says), "{text}: {error}");
    }
    let warnings = given()
        .flag(Id::Pace, "/cgi-bin/mneu/*=1/s")
        .load()
        .warnings;
    assert!(
        warnings[0].contains("pace = \"/cgi-bin/mneu/*\" matches no"),
        "{warnings:?}"
    );
}
