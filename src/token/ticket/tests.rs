//! Tests of which calls ask for which ticket, and of whose it is.

use super::*;
use crate::{
    net::{
        connector::{ConnectOptions, Connector},
        dns::Resolver,
        origin::Origin,
        tls::load,
    },
    token::keeper::{Keeper, schedule::Renewal},
    token::source::{
        AccountSource,
        api::{self, ApiClient},
        file::TokenFile,
    },
};

/// The tickets of an account of a corp.
fn tickets(id: &str, pool: &Arc<TicketPool>) -> Arc<Tickets> {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let second = Duration::from_secs(1);
    let options = ConnectOptions {
        origins: vec![Origin::parse("http://127.0.0.1:1").unwrap()],
        dns: Resolver::new(None),
        tls: load(None).unwrap(),
        egress: None,
        connect_timeout: second,
    };
    let keeper_options = keeper::Options {
        renewal: Renewal::Late,
        retry_same_token: false,
        daily_fetches: 500,
        patience: second,
    };
    let client = api::client(&options, Arc::default()).unwrap();
    let source = AccountSource::File(Box::new(TokenFile::new("/nowhere")));
    let client = TicketClient {
        appid: "ww1".to_owned(),
        store_prefix: None,
        api: Api::Wecom,
        keeper: Keeper::new(source, keeper_options, Arc::default()),
        client: ApiClient::new(client, Arc::new(Connector::new(options).unwrap())),
        metrics: Arc::default(),
    };
    Tickets::new(client, id, pool.clone())
}

#[tokio::test]
async fn a_suspension_is_counted_once_for_the_ticket_that_accounts_of_a_corp_share() {
    let pool = Arc::new(TicketPool::new(None, Duration::from_secs(1)));
    let all = ["one", "two"].map(|id| tickets(id, &pool));
    let ticket = |at: usize, ticket| all[at].find_or_make(ticket);
    assert!(Arc::ptr_eq(
        &ticket(0, Ticket::Corp),
        &ticket(1, Ticket::Corp)
    ));
    for tickets in &all {
        tickets.find_or_make(Ticket::Agent);
    }
    let hour = Duration::from_secs(3600);
    suspended(all.iter().map(|tickets| &**tickets), hour);
    for (at, kind) in [(0, Ticket::Corp), (0, Ticket::Agent), (1, Ticket::Agent)] {
        assert_eq!(ticket(at, kind).keeper.total_suspension(), hour, "{kind:?}");
    }
}

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
