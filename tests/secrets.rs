//! The secret, the tokens and the data of apps are in no log, error, metric or page.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::{
    APPID, Reply, Sidecar, Wechat,
    wechat::{Behaviour, HangUp},
};

/// A secret that is encoded differently in a URL.
const SECRET: &str = "S3CR+T/with=odd&bytes%41";
/// Data of apps, in all parts of a call.
const OF_APPS: [&str; 3] = ["QUERY-VALUE", "HEADER-VALUE", "BODY-VALUE"];

/// All output of the sidecars, which is searched at the end.
struct Told {
    wechat: Wechat,
    all: Vec<String>,
}

impl Told {
    async fn begin() -> Self {
        let wechat = Wechat::calm().await;
        wechat.set_secret(APPID, SECRET);
        Self {
            wechat,
            all: Vec::new(),
        }
    }

    async fn sidecar(&self, flags: &[&str]) -> Sidecar {
        Sidecar::unready(&self.wechat, flags, &[("WECHAT_SECRET", SECRET)]).await
    }

    fn hear(&mut self, reply: &Reply) {
        self.all
            .push(format!("{:?} {}", reply.headers, reply.text()));
    }

    /// A call with data in all its parts.
    async fn call(&mut self, sidecar: &Sidecar, target: &str) -> Reply {
        let mark = if target.contains('?') { '&' } else { '?' };
        let url = format!(
            "{}{target}{mark}q=QUERY-VALUE&access_token=QUERY-VALUE",
            sidecar.url
        );
        let request = sidecar
            .client
            .post(url)
            .header("x-app", "HEADER-VALUE")
            .body("BODY-VALUE");
        let reply = sidecar.send(request).await;
        self.hear(&reply);
        reply
    }

    /// Ends the sidecar, and keeps its pages and its log.
    async fn end(&mut self, mut sidecar: Sidecar) {
        for page in [
            "/metrics",
            "/accounts",
            "/readyz",
            "/startupz",
            "/",
            "/log-level",
        ] {
            let reply = sidecar.admin(page).await;
            self.hear(&reply);
        }
        sidecar.signal("-TERM");
        sidecar.ended().await;
        let log = sidecar.log();
        // The log has the level that was set, so there is something to search.
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
        self.all.push(log);
    }

    fn search(&self) {
        let encoded: String = SECRET
            .bytes()
            .map(|byte| match byte {
                b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect();
        let mut hidden = vec![
            SECRET.to_owned(),
            encoded.clone(),
            encoded.to_lowercase(),
            "S3CR".to_owned(),
        ];
        hidden.extend(
            self.wechat
                .all_tokens()
                .iter()
                .map(|token| token[..24].to_owned()),
        );
        hidden.push("LEAKED".to_owned());
        hidden.extend(OF_APPS.map(str::to_owned));
        for text in &self.all {
            let text = text.replace("%2B", "+");
            for hidden in &hidden {
                assert!(!text.contains(hidden.as_str()), "{hidden} is in: {text}");
            }
            assert!(!text.contains("panicked"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_token_request_that_fails_in_any_way_tells_nothing() {
    let mut told = Told::begin().await;
    let knobs: [fn(&mut Behaviour); 9] = [
        |behaviour| behaviour.token_errcode = Some(40125),
        |behaviour| behaviour.token_errcode = Some(45009),
        |behaviour| behaviour.token_garbage = true,
        |behaviour| behaviour.token_hangup = true,
        |behaviour| behaviour.token_status = Some(502),
        |behaviour| {
            behaviour.token_body =
                Some("{\"access_token\":\"LEAKED-TOKEN\",\"expires_in\":\"soon\"}".into())
        },
        |behaviour| {
            behaviour.token_body =
                Some("{\"access_token\":\"LEAKED-TOKEN\",\"expires_in\":7200".into())
        },
        |behaviour| {
            behaviour.token_body = Some(
                format!("{{\"errcode\":40125,\"errmsg\":\"invalid appsecret {SECRET}\"}}").into(),
            )
        },
        |behaviour| behaviour.token_body = Some(vec![b'x'; 100_000].into()),
    ];
    for api in ["stable", "classic"] {
        for knob in knobs {
            let before = Behaviour {
                refusal_chance: 0.0,
                ..Behaviour::default()
            };
            told.wechat.change(|behaviour| {
                *behaviour = before;
                knob(behaviour);
            });
            let mut sidecar = told.sidecar(&["--token-api", api]).await;
            sidecar.line("no new token").await;
            assert_eq!(told.call(&sidecar, "/cgi-bin/user/get").await.status, 503);
            told.end(sidecar).await;
        }
    }
    told.wechat.stop();
    told.wechat
        .wait_until(|wechat| wechat.connections() == 0)
        .await;
    for api in ["stable", "classic"] {
        let mut sidecar = told.sidecar(&["--token-api", api]).await;
        sidecar.line("no new token").await;
        assert_eq!(told.call(&sidecar, "/cgi-bin/user/get").await.status, 503);
        let login = "/sns/jscode2session?js_code=QUERY-VALUE";
        assert_eq!(told.call(&sidecar, login).await.status, 502);
        told.end(sidecar).await;
    }
    told.search();
}

#[tokio::test]
async fn a_call_that_fails_in_any_way_tells_nothing() {
    let mut told = Told::begin().await;
    let flags = [
        "--upstream-timeout",
        "500ms",
        "--idle-timeout",
        "500ms",
        "--replay-limit",
        "1KiB",
    ];
    let sidecar = told.sidecar(&flags).await;
    sidecar.until_ready().await;
    let wechat = told.wechat.clone();
    for hang_up in [
        HangUp::BeforeReading,
        HangUp::AfterRequest,
        HangUp::MidHead,
        HangUp::MidBody,
    ] {
        wechat.change(|behaviour| behaviour.hang_up = hang_up);
        for path in [
            "/cgi-bin/user/get",
            "/sns/jscode2session?js_code=QUERY-VALUE",
        ] {
            assert_eq!(told.call(&sidecar, path).await.status, 502, "{hang_up:?}");
        }
    }
    wechat.change(|behaviour| (behaviour.hang_up, behaviour.stall) = (HangUp::Never, true));
    assert_eq!(told.call(&sidecar, "/cgi-bin/user/get").await.status, 504);
    assert_eq!(
        told.call(&sidecar, "/sns/jscode2session?js_code=QUERY-VALUE")
            .await
            .status,
        504
    );
    wechat.change(|behaviour| (behaviour.stall, behaviour.stall_body) = (false, true));
    assert_eq!(told.call(&sidecar, "/cgi-bin/user/get").await.status, 504);
    wechat.change(|behaviour| {
        behaviour.stall_body = false;
        behaviour.refuse_always = vec!["/wxa/forbidden".into()];
    });
    for _ in 0..15 {
        assert_eq!(
            told.call(&sidecar, "/wxa/forbidden").await.errcode(),
            Some(40001)
        );
    }
    wechat.rotate();
    wechat.change(|behaviour| behaviour.token_errcode = Some(40243));
    assert_eq!(
        told.call(&sidecar, "/cgi-bin/user/info/updateremark")
            .await
            .errcode(),
        Some(40001)
    );
    told.end(sidecar).await;
    told.search();
}

#[tokio::test]
async fn a_call_that_is_turned_down_is_not_repeated_to_anybody() {
    let mut told = Told::begin().await;
    let sidecar = told.sidecar(&["--replay-limit", "1KiB"]).await;
    sidecar.until_ready().await;
    let query = "?access_token=QUERY-VALUE&secret=QUERY-VALUE";
    for target in [
        "/a//b",
        "/a/../QUERY-VALUE",
        "/a%2fQUERY-VALUE",
        "/cgi-bin/clear_quota/v2",
        "/sns/userinfo",
        "/cgi-bin/stable_token",
        "/sns/oauth2/access_token?appid=wxQUERY-VALUE",
        "/cgi-bin/token?appid=wxQUERY-VALUE",
    ] {
        let mark = if target.contains('?') { "&" } else { "?" };
        told.all.push(sidecar.raw(format!("POST {target}{mark}{} HTTP/1.1\r\nHost: localhost\r\nX: HEADER-VALUE\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", &query[1..])).await);
    }
    for head in [
        "GET http://QUERY-VALUE.example/QUERY HTTP/1.1\r\nHost: QUERY-VALUE".to_owned(),
        format!("GET /x{query} HTTP/1.1\r\nHost: HEADER-VALUE"),
        format!("GET /x{query} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://HEADER-VALUE"),
        format!("GET /x{query} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: HEADER-VALUE"),
        format!("GET /x{query} HTTP/9.9\r\nHost: localhost\r\nX: HEADER-VALUE"),
        format!("GET /x{query} HTTP/1.1\r\nHost: localhost\r\nX HEADER-VALUE"),
        format!("GET /x{query}\u{1} HTTP/1.1\r\nHost: localhost"),
        format!(
            "GET /x{query}{} HTTP/1.1\r\nHost: localhost",
            "&QUERY-VALUE".repeat(20_000)
        ),
        format!("POST /x{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: HEADER-VALUE"),
        format!(
            "POST /x{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"
        ),
        format!(
            "POST /x{query} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nBODY-VALUE"
        ),
        format!(
            "POST /x{query} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{}",
            "BODY-VALUE".repeat(6554)
        ),
        "CONNECT QUERY-VALUE:443 HTTP/1.1\r\nHost: QUERY-VALUE\r\nProxy-Authorization: HEADER-VALUE".to_owned(),
    ] {
        let reply = sidecar
            .raw(format!(
                "{}\r\n\r\n",
                head.replace("HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n")
            ))
            .await;
        assert!(reply.starts_with("HTTP/1.1 4"), "{head:.100}: {reply}");
        told.all.push(reply);
    }
    told.end(sidecar).await;
    told.search();
}

#[tokio::test]
async fn a_reply_that_quotes_the_target_is_cleaned_where_an_app_follows_it() {
    let mut told = Told::begin().await;
    let sidecar = told.sidecar(&[]).await;
    sidecar.until_ready().await;
    let encoded = "S3CR%2BT%2Fwith%3Dodd%26bytes%2541";
    let token = told.wechat.token();
    for location in [
        format!("/x?secret={encoded}&access_token={token}#{token}"),
        format!("https://h/{encoded}?%73ecret={encoded}&r={token}&s={SECRET}"),
    ] {
        told.wechat.change(|behaviour| {
            behaviour.status = Some(302);
            behaviour.extra_headers = vec![
                ("Location".into(), location.clone()),
                ("Content-Location".into(), location),
            ];
        });
        for target in [
            "/sns/jscode2session?js_code=1&grant_type=authorization_code",
            "/cgi-bin/user/get",
        ] {
            let reply = sidecar.get(target).await;
            assert_eq!(reply.status, 302);
            let both = format!(
                "{:?} {:?}",
                reply.header("location"),
                reply.header("content-location")
            );
            let hidden = if target.starts_with("/sns") {
                [encoded, SECRET]
            } else {
                [token.as_str(); 2]
            };
            assert!(
                hidden.iter().all(|hidden| !both.contains(hidden)),
                "{target}: {both}"
            );
        }
    }
    tokio::time::timeout(Duration::from_secs(30), told.end(sidecar))
        .await
        .unwrap();
    told.search();
}
