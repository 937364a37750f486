//! Look-ups at nameservers of these tests, most of them on a paused clock.

use std::fs;

use futures_util::future::join_all;
use tokio::{
    runtime,
    task::{spawn_blocking, yield_now},
    time::{Instant, sleep},
};

use super::{
    fake::{FakeSystem, Zone},
    *,
};

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Waits until a look-up has ended that nobody waits for.
async fn until(resolver: &Resolver, host: &str, expected: &[&str]) {
    let (expected, started) = (addresses(expected), Instant::now());
    while resolver.resolve(host).await.ok() != Some(expected.clone()) {
        assert!(started.elapsed() < Duration::from_secs(60), "{host}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_nameserver_of_several_costs_less_than_a_connection_may_take() {
    for silent in 1..=2 {
        let system = FakeSystem::start(3).await;
        for server in &system.servers[..silent] {
            server.set("a.test.", Zone::Silent);
        }
        system.servers[2].at("a.test.", &["10.0.0.1"]);
        if silent == 1 {
            system.servers[1].at("a.test.", &["10.0.0.1"]);
        }
        let (resolver, started) = (system.resolver(), Instant::now());
        assert_eq!(
            resolver.resolve("a.test").await.unwrap(),
            addresses(&["10.0.0.1"])
        );
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            started.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_too_late_for_one_caller_is_kept_for_the_next() {
    let system = FakeSystem::start(1).await;
    system.write("", "options timeout:10\n");
    system.servers[0].at("a.test.", &["10.0.0.1"]);
    system.servers[0].delay(PATIENCE + Duration::from_secs(1));
    let (resolver, started) = (system.resolver(), Instant::now());
    let early = resolver.resolve("a.test").await.unwrap_err();
    assert!(matches!(early, LookupError::TimedOut(PATIENCE)), "{early}");
    assert_eq!(
        resolver.resolve("a.test").await.unwrap(),
        addresses(&["10.0.0.1"])
    );
    assert!(
        started.elapsed() < PATIENCE + Duration::from_secs(2),
        "the same look-up"
    );
}

#[tokio::test(start_paused = true)]
async fn the_silent_nameservers_of_one_name_delay_no_other_name() {
    let system = FakeSystem::start(1).await;
    system.servers[0].set("silent.test.", Zone::Silent);
    system.servers[0].at("a.test.", &["10.0.0.1"]);
    let resolver = system.resolver();
    let silent = resolver.clone();
    let waiting = tokio::spawn(async move { silent.resolve("silent.test").await });
    yield_now().await;
    let started = Instant::now();
    assert_eq!(
        resolver.resolve("a.test").await.unwrap(),
        addresses(&["10.0.0.1"])
    );
    assert!(started.elapsed() < Duration::from_millis(100));
    assert!(!waiting.is_finished());
    assert!(waiting.await.unwrap().is_err());
}

#[test]
fn a_hundred_look_ups_need_no_thread() {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let system = FakeSystem::start(1).await;
        let hosts: Vec<String> = (0..100).map(|n| format!("{n}.test")).collect();
        for host in &hosts {
            system.servers[0].at(&format!("{host}."), &["10.0.0.1"]);
        }
        let resolver = system.resolver();
        // The system gives no more threads.
        let (busy, end) = std::sync::mpsc::channel::<()>();
        let blocked = spawn_blocking(move || end.recv());
        let found = join_all(hosts.iter().map(|host| resolver.resolve(host))).await;
        assert!(found.iter().all(Result::is_ok), "{found:?}");
        drop(busy);
        assert!(blocked.await.unwrap().is_err());
    });
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_for_a_name_share_one_look_up() {
    let system = FakeSystem::start(1).await;
    system.servers[0].at(
        "a.test.",
        &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::1"],
    );
    let resolver = system.resolver();
    let found = join_all((0..50).map(|_| resolver.resolve("a.test"))).await;
    let expected = addresses(&["10.0.0.1", "fd00::1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    for found in found {
        assert_eq!(found.unwrap(), expected);
    }
    let mut asked = system.servers[0].asked();
    asked.sort();
    assert_eq!(asked, ["a.test. A", "a.test. AAAA"]);
    resolver.resolve("a.test").await.unwrap();
    assert_eq!(system.servers[0].asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn known_addresses_are_used_at_once_and_looked_up_again_behind() {
    let system = FakeSystem::start(1).await;
    let server = &system.servers[0];
    server.set("a.test.", Zone::At(addresses(&["10.0.0.1"]), 5));
    let resolver = system.resolver();
    resolver.resolve("a.test").await.unwrap();
    server.asked();
    sleep(Duration::from_secs(4)).await;
    resolver.resolve("a.test").await.unwrap();
    assert_eq!(server.asked(), [""; 0], "it is still fresh");

    sleep(Duration::from_secs(2)).await;
    server.at("a.test.", &["10.0.0.2"]);
    server.delay(Duration::from_secs(2));
    let started = Instant::now();
    assert_eq!(
        resolver.resolve("a.test").await.unwrap(),
        addresses(&["10.0.0.1"])
    );
    assert_eq!(started.elapsed(), Duration::ZERO);
    let fresh = resolver.resolve_fresh("a.test", PATIENCE).await.unwrap();
    assert_eq!(fresh, addresses(&["10.0.0.2"]));

    // An old answer is better than none.
    server.set("a.test.", Zone::Silent);
    sleep(Duration::from_secs(120)).await;
    let kept = resolver
        .resolve_fresh("a.test", Duration::from_secs(1))
        .await;
    assert_eq!(kept.unwrap(), addresses(&["10.0.0.2"]));
    server.set("a.test.", Zone::ServFail);
    sleep(Duration::from_secs(120)).await;
    let kept = resolver.resolve_fresh("a.test", PATIENCE).await;
    assert_eq!(kept.unwrap(), addresses(&["10.0.0.2"]));
}

#[tokio::test(start_paused = true)]
async fn the_first_nameserver_that_works_decides_that_a_name_does_not_exist() {
    let system = FakeSystem::start(2).await;
    // Only the first one knows the names of this house, and it is slow.
    system.servers[0].at("inside.test.", &["10.0.0.1"]);
    system.servers[0].delay(Duration::from_secs(2));
    let resolver = system.resolver();
    assert_eq!(
        resolver.resolve("inside.test").await.unwrap(),
        addresses(&["10.0.0.1"])
    );
    let unknown = resolver.resolve("unknown.test").await.unwrap_err();
    assert!(
        unknown
            .to_string()
            .contains("no such name, says the nameserver 127.0.0.1"),
        "{unknown}"
    );

    system.servers[0].delay(Duration::ZERO);
    for server in &system.servers {
        server.set("broken.test.", Zone::ServFail);
    }
    let broken = resolver
        .resolve("broken.test")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        broken.contains("127.0.0.1: ") && broken.contains("127.0.0.2: "),
        "{broken}"
    );
    system.servers[1].at("half.test.", &["10.0.0.2"]);
    system.servers[0].set("half.test.", Zone::ServFail);
    assert_eq!(
        resolver.resolve("half.test").await.unwrap(),
        addresses(&["10.0.0.2"])
    );
}

#[tokio::test(start_paused = true)]
async fn a_network_that_drops_queries_for_one_family_delays_the_other_for_a_moment_only() {
    let system = FakeSystem::start(1).await;
    system.servers[0].set("a.test.", Zone::OnlyA(addresses(&["10.0.0.1"])));
    let (resolver, started) = (system.resolver(), Instant::now());
    assert_eq!(
        resolver.resolve("a.test").await.unwrap(),
        addresses(&["10.0.0.1"])
    );
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_short_name_is_looked_for_in_the_search_domains() {
    let system = FakeSystem::start(1).await;
    let server = &system.servers[0];
    system.write(
        "",
        "search ns.svc.test svc.test\noptions ndots:3 some-new-option\nnonsense\n",
    );
    server.at("redis.svc.test.", &["10.0.0.1"]);
    server.at("api.a.test.", &["10.0.0.2"]);
    server.at("a.b.c.test.", &["10.0.0.3"]);
    let resolver = system.resolver();
    assert_eq!(
        resolver.resolve("redis").await.unwrap(),
        addresses(&["10.0.0.1"])
    );
    let asked = server.asked();
    let names: Vec<_> = asked
        .iter()
        .filter_map(|asked| asked.strip_suffix(" A"))
        .collect();
    assert_eq!(names, ["redis.ns.svc.test.", "redis.svc.test."]);
    assert_eq!(
        resolver.resolve("api.a.test").await.unwrap(),
        addresses(&["10.0.0.2"])
    );
    let asked = server.asked();
    let names: Vec<_> = asked
        .iter()
        .filter_map(|asked| asked.strip_suffix(" A"))
        .collect();
    assert_eq!(
        names,
        [
            "api.a.test.ns.svc.test.",
            "api.a.test.svc.test.",
            "api.a.test."
        ]
    );
    for (host, name) in [
        ("a.b.c.test", "a.b.c.test. A"),
        ("api.a.test.", "api.a.test. A"),
    ] {
        resolver.resolve(host).await.unwrap();
        assert_eq!(server.asked()[0], name);
    }
    // A name past the hosts file is past the search domains, too.
    assert!(resolver.past_hosts_file().resolve("redis").await.is_err());
    assert_eq!(server.asked()[0], "redis. A");
}

#[tokio::test(start_paused = true)]
async fn the_hosts_file_comes_before_dns_and_may_be_skipped() {
    let system = FakeSystem::start(1).await;
    let server = &system.servers[0];
    system.write(
        "10.0.0.9 Api.Test other_name # a comment\nnonsense here\n",
        "",
    );
    for name in ["api.test.", "other_name."] {
        server.at(name, &["10.0.0.1", "fd00::1"]);
    }
    let resolver = system.resolver();
    for name in ["api.test", "API.test", "other_name"] {
        assert_eq!(
            resolver.resolve(name).await.unwrap(),
            addresses(&["10.0.0.9"]),
            "{name}"
        );
    }
    assert_eq!(server.asked(), [""; 0], "not even for the other family");
    let past = resolver.clone().past_hosts_file();
    for name in ["api.test", "other_name"] {
        let expected = addresses(&["10.0.0.1", "fd00::1"]);
        assert_eq!(past.resolve(name).await.unwrap(), expected, "{name}");
    }
    assert_eq!(
        past.nearby().resolve("api.test").await.unwrap(),
        addresses(&["10.0.0.9"])
    );
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_read_again() {
    let system = FakeSystem::start(1).await;
    let server = &system.servers[0];
    server.at("redis.old.test.", &["10.0.0.1"]);
    server.at("redis.new.test.", &["10.0.0.2"]);
    system.write("", "search old.test\n");
    let resolver = system.resolver();
    assert_eq!(
        resolver.resolve("redis").await.unwrap(),
        addresses(&["10.0.0.1"])
    );
    system.write("", "search new.test\n");
    until(&resolver, "redis", &["10.0.0.2"]).await;
    system.write("10.0.0.3 redis\n", "search new.test\n");
    until(&resolver, "redis", &["10.0.0.3"]).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_usable_resolv_conf_names_of_the_hosts_file_still_resolve() {
    let system = FakeSystem::start(1).await;
    for says in ["cannot be read", "no nameserver that can be used"] {
        system.write("10.0.0.9 api.test\n", "");
        match says {
            "cannot be read" => fs::remove_file(system.resolv_conf()),
            _ => fs::write(system.resolv_conf(), "nameserver nowhere\n"),
        }
        .unwrap();
        let resolver = system.resolver();
        let error = resolver.resolve("a.test").await.unwrap_err().to_string();
        assert!(
            error.contains(says) && error.contains("/etc/resolv.conf"),
            "{error}"
        );
        assert_eq!(
            resolver.resolve("api.test").await.unwrap(),
            addresses(&["10.0.0.9"])
        );
        // The file may come later.
        system.servers[0].at("a.test.", &["10.0.0.1"]);
        system.write("", "");
        until(&resolver, "a.test", &["10.0.0.1"]).await;
    }
    // The C library asks the nameserver of this machine.
    fs::write(system.resolv_conf(), "# none\n").unwrap();
    let resolver = system.resolver();
    assert_eq!(
        resolver.resolve("a.test").await.unwrap(),
        addresses(&["10.0.0.1"])
    );
}

#[tokio::test]
async fn an_address_and_localhost_need_no_nameserver() {
    let system = FakeSystem::start(1).await;
    let resolver = system.resolver();
    for (host, expected) in [
        ("10.0.0.1", ["10.0.0.1"].as_slice()),
        ("fd00::1", &["fd00::1"]),
        ("localhost", &["127.0.0.1", "::1"]),
        ("LocalHost.", &["127.0.0.1", "::1"]),
        ("a.localhost", &["127.0.0.1", "::1"]),
    ] {
        assert_eq!(
            resolver.resolve(host).await.unwrap(),
            addresses(expected),
            "{host}"
        );
    }
    assert_eq!(system.servers[0].asked(), [""; 0]);
    let invalid = resolver.resolve(&"x".repeat(300)).await.unwrap_err();
    assert!(matches!(invalid, LookupError::Invalid), "{invalid}");
}

#[tokio::test]
async fn a_look_up_whose_runtime_has_ended_fails_at_once() {
    let system = FakeSystem::start(1).await;
    system.servers[0].at("a.test.", &["10.0.0.1"]);
    let resolver = system.resolver();
    let elsewhere = resolver.clone();
    let ended = std::thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async { elsewhere.start() });
    });
    ended.join().unwrap();
    let error = resolver.resolve("a.test").await.unwrap_err();
    assert!(matches!(error, LookupError::Stopped), "{error}");
}
