//! The smallest pingora proxy that appends an access_token.
//!
//! `pingora LISTEN UPSTREAM WORKERS TOKEN [CA.pem SERVER-NAME]`; without the last two it speaks plain HTTP upstream.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora_core::{
    Result,
    server::{Server, configuration::ServerConf},
    upstreams::peer::HttpPeer,
};
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Append {
    upstream: SocketAddr,
    name: Option<String>,
    token: String,
}

#[async_trait]
impl ProxyHttp for Append {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let name = self.name.clone().unwrap_or_default();
        Ok(Box::new(HttpPeer::new(
            self.upstream,
            self.name.is_some(),
            name,
        )))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        head: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        let came = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let mark = if came.contains('?') { '&' } else { '?' };
        let target = format!("{came}{mark}access_token={}", self.token);
        head.set_uri(target.parse().expect("a target"));
        head.insert_header("Host", self.name.as_deref().unwrap_or("localhost"))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, workers, token, tls @ ..] = &arguments[..] else {
        panic!("pingora LISTEN UPSTREAM WORKERS TOKEN [CA.pem SERVER-NAME]");
    };
    let conf = ServerConf {
        threads: workers.parse().expect("a number of workers"),
        upstream_keepalive_pool_size: 10_000,
        ca_file: tls.first().cloned(),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let proxy = Append {
        upstream: upstream.parse().expect("the upstream's address"),
        name: tls.get(1).cloned(),
        token: token.clone(),
    };
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}
