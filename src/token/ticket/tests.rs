//! Tests of which calls ask for which ticket.

use super::*;

#[test]
fn only_the_tickets_that_are_kept_are_wanted() {
    use Api::{Wechat, Wecom};
    use Ticket::{Agent, Card, Corp, Jsapi, Sdk};
    let of = |api, path: &str, types: &[&str]| {
        let types = types.iter().map(|text| (*text).to_owned());
        requested(api, path.as_bytes(), types)
    };
    let path = "/cgi-bin/ticket/getticket";
    assert_eq!(of(Wechat, path, &["jsapi"]), Some(Jsapi));
    assert_eq!(of(Wechat, path, &["wx_card"]), Some(Card));
    assert_eq!(of(Wechat, path, &["2"]), Some(Sdk));
    for types in [
        &[][..],
        &[""],
        &["JSAPI"],
        &["jsapi", "2"],
        &["jsapi", "jsapi"],
    ] {
        assert_eq!(of(Wechat, path, types), None, "{types:?}");
    }
    assert_eq!(of(Wecom, path, &["jsapi"]), None);
    assert_eq!(of(Wecom, "/cgi-bin/get_jsapi_ticket", &[]), Some(Corp));
    assert_eq!(
        of(Wecom, "/cgi-bin/ticket/get", &["agent_config"]),
        Some(Agent)
    );
    assert_eq!(of(Wecom, "/cgi-bin/ticket/get", &["wx_card"]), None);
    assert_eq!(of(Wechat, "/cgi-bin/get_jsapi_ticket", &[]), None);
}
