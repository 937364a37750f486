//! The webhook as an API server uses it: over TLS, with AdmissionReviews of all kinds.
#![allow(clippy::unwrap_used)]

#[path = "inject/golden.rs"]
#[allow(dead_code)]
mod golden;
#[path = "webhook/support.rs"]
mod support;

use std::time::Duration;

use golden::Kind;
use serde_json::{Value, json};
use support::{ApiServer, PATIENCE, Webhook, certify, patch, pod, review};
use tokio::time::{sleep, timeout};

/// Every pod in the golden inputs, and every pod that a controller would create from a template there.
fn pods() -> Vec<Value> {
    let mut pods = Vec::new();
    for kind in [Kind::In, Kind::Unchanged] {
        for golden in golden::all(kind) {
            let documents = golden::documents(&golden.text);
            let mut documents = documents.as_array().unwrap().clone();
            while let Some(document) = documents.pop() {
                match document["kind"].as_str() {
                    Some("List") => documents
                        .extend(document["items"].as_array().into_iter().flatten().cloned()),
                    Some("Pod") if document["apiVersion"] == "v1" => pods.push(document),
                    Some("CronJob") => documents.push(document["spec"]["jobTemplate"].clone()),
                    _ => {
                        let mut template = document["spec"]["template"].clone();
                        if template["spec"]["containers"][0].is_object() {
                            template["kind"] = json!("Pod");
                            template["apiVersion"] = json!("v1");
                            pods.push(template);
                        }
                    }
                }
            }
        }
    }
    pods
}

/// All pods, with the webhook's patch, if there is one, and the result of the offline injector.
async fn patches() -> Vec<(Value, Option<Value>, Value)> {
    let webhook = Webhook::start(&[]).await;
    let pods = pods();
    assert!(pods.len() > 100, "only {} pods", pods.len());
    let list = json!({ "kind": "List", "apiVersion": "v1", "items": pods });
    let offline = golden::inject(&[], list.to_string().as_bytes());
    assert!(offline.status, "{}", offline.stderr);
    let mut offline: Value = serde_json::from_str(&offline.stdout).unwrap();
    let mut all = Vec::new();
    for (before, expected) in pods
        .into_iter()
        .zip(offline["items"].as_array_mut().unwrap())
    {
        let response = webhook.ask(&review(&before)).await.response();
        assert_eq!(response["allowed"], true, "{response}");
        all.push((before, patch(&response), expected.take()));
    }
    let patched = all.iter().filter(|(_, patch, _)| patch.is_some()).count();
    assert!(patched > 90, "only {patched} patches");
    all
}

#[tokio::test]
async fn a_patch_and_the_offline_injector_give_one_and_the_same_pod() {
    for (mut pod, patch, expected) in patches().await {
        if let Some(patch) = patch {
            let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
            json_patch::patch(&mut pod, &patch).unwrap();
        }
        assert_eq!(pod, expected);
    }
}

#[tokio::test]
#[ignore = "needs Python with jsonpatch"]
async fn another_library_which_did_not_make_the_patches_applies_them_in_the_same_way() {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(target).join("sdk/k8s-venv/bin/python");
    assert!(python.exists(), "tests/run installs {}", python.display());
    let patched = patches()
        .await
        .into_iter()
        .filter(|(_, patch, _)| patch.is_some());
    let triples =
        Value::from_iter(patched.map(|(before, patch, after)| json!([before, patch, after])));
    let path = std::env::temp_dir().join(format!("wechat-sidecar-patches-{}", std::process::id()));
    std::fs::write(&path, triples.to_string()).unwrap();
    let script = "import json, jsonpatch, sys\n\
        for before, patch, after in json.load(open(sys.argv[1])):\n    \
        assert jsonpatch.apply_patch(before, patch) == after, patch\n";
    let done = std::process::Command::new(python)
        .args(["-c", script])
        .arg(&path)
        .output()
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
async fn a_pod_that_was_injected_is_patched_no_second_time() {
    let webhook = Webhook::start(&["--set", "image=other:1"]).await;
    let list = json!({ "kind": "List", "apiVersion": "v1", "items": [pod(json!({}))] });
    let offline = golden::inject(&[], list.to_string().as_bytes()).stdout;
    let injected = serde_json::from_str::<Value>(&offline).unwrap()["items"][0].take();
    let response = webhook.ask(&review(&injected)).await.response();
    assert_eq!(
        (response["allowed"].clone(), patch(&response)),
        (json!(true), None)
    );

    // A container that another webhook added still gets the address of the sidecar.
    let mut more = injected.clone();
    more["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "more", "image": "more:1" }));
    let patch = patch(&webhook.ask(&review(&more)).await.response()).unwrap();
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    json_patch::patch(&mut more, &patch).unwrap();
    assert_eq!(
        more["spec"]["containers"][1]["env"][0]["name"],
        "WECHAT_API_BASE_URL"
    );
    assert_eq!(
        more["spec"]["initContainers"],
        injected["spec"]["initContainers"]
    );
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_name_and_what_cannot_be_is_said() {
    let webhook = Webhook::start(&["--set", "secret=wechat", "--prefix", "wechat.example"]).await;
    for (annotation, value) in [
        ("wechat.example/memory-limit", "lots"),
        ("wechat.example/lisen", "1"),
    ] {
        let refused = webhook
            .ask(&review(&pod(json!({ annotation: value }))))
            .await
            .response();
        assert_eq!(refused["allowed"], false);
        let message = refused["status"]["message"].as_str().unwrap();
        assert!(message.contains(annotation), "{message}");
        assert!(refused.get("patch").is_none() && refused["uid"].is_string());
    }
    // A limit that does not fit is no reason to refuse the pod.
    let tight = pod(json!({ "wechat.example/memory-limit": "40Mi" }));
    let tight = webhook.ask(&review(&tight)).await.response();
    let warning = tight["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("wechat.example/memory-limit is 40Mi: 10 MiB") && warning.len() <= 256,
        "{warning}"
    );
    let patched = patch(&tight).unwrap().to_string();
    assert!(
        patched.contains("\\\"warnings\\\":[\\\"wechat.example/memory-limit"),
        "{patched}"
    );

    let mut host = pod(json!({}));
    host["spec"]["hostNetwork"] = json!(true);
    let skipped = webhook.ask(&review(&host)).await.response();
    assert_eq!(
        (skipped["allowed"].clone(), patch(&skipped)),
        (json!(true), None)
    );
    let warning = skipped["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("host's network") && warning.len() <= 256,
        "{warning}"
    );

    let mut dry = review(&pod(
        json!({ "wechat-sidecar.dev/lisen": "not our prefix" }),
    ));
    dry["request"]["dryRun"] = json!(true);
    let injected = patch(&webhook.ask(&dry).await.response())
        .unwrap()
        .to_string();
    assert!(injected.contains(r#""secretName":"wechat""#), "{injected}");

    let page = webhook.get(&webhook.client, "/metrics").await.unwrap().text;
    for (outcome, count) in [
        ("injected", 2),
        ("skipped", 1),
        ("refused", 2),
        ("malformed", 0),
    ] {
        let line =
            format!("wechat_sidecar_webhook_reviews_total{{outcome=\"{outcome}\"}} {count}\n");
        assert!(page.contains(&line), "{page}");
    }
    assert!(
        page.contains("wechat_sidecar_webhook_review_seconds_count 5\n"),
        "{page}"
    );
    let expires = "wechat_sidecar_webhook_certificate_expires_seconds 3153"; // 3,650 days
    assert!(page.contains(expires), "{page}");
}

#[tokio::test]
async fn large_reviews_are_answered_and_garbage_is_not() {
    let webhook = Webhook::start(&[]).await;
    let large = webhook
        .ask(&review(&pod(json!({ "large": "x".repeat(3 << 20) }))))
        .await;
    assert!(patch(&large.response()).is_some());

    let post = async |body: Vec<u8>, kind: &str| webhook.post(body, kind).await.status;
    let json = "application/json";
    let good = || review(&pod(json!({}))).to_string().into_bytes();
    assert_eq!(post(b"garbage".to_vec(), json).await, 400);
    assert_eq!(post(vec![b'['; 1 << 20], json).await, 400);
    assert_eq!(post(Vec::new(), json).await, 400);
    assert_eq!(
        post(br#"{"kind":"Pod","apiVersion":"v1"}"#.to_vec(), json).await,
        400
    );
    assert_eq!(post(good(), "text/plain").await, 415);
    assert_eq!(post(good(), "application/json; charset=utf-8").await, 200);
    for path in ["/inject", "/", "/mutate"] {
        let status = webhook.get(&webhook.client, path).await.unwrap().status;
        assert!([404, 405].contains(&status), "{path}: {status}");
    }

    let mut deployment = review(&json!({ "kind": "Deployment", "apiVersion": "apps/v1" }));
    deployment["request"]["resource"] =
        json!({ "group": "apps", "version": "v1", "resource": "deployments" });
    let response = webhook.ask(&deployment).await.response();
    assert_eq!(
        (response["allowed"].clone(), patch(&response)),
        (json!(true), None)
    );
    // A pod that no API server would send is refused, and the webhook keeps working.
    for spec in [
        json!(null),
        json!(7),
        json!({}),
        json!({ "containers": [7] }),
        json!({ "containers": "x" }),
    ] {
        let broken = json!({ "kind": "Pod", "apiVersion": "v1", "metadata": {}, "spec": spec });
        assert_eq!(
            webhook.ask(&review(&broken)).await.response()["allowed"],
            false,
            "{spec}"
        );
    }
    // The webhook may hang up before all of it has arrived.
    let endless = webhook.try_post(vec![b' '; 17 << 20], json).await;
    assert!(endless.is_err() || endless.is_ok_and(|reply| reply.status == 413));
}

#[tokio::test]
async fn a_pod_of_many_values_takes_few_operations_and_a_bounded_memory() {
    let webhook = Webhook::start(&[]).await;
    let variable = |at: usize| json!({ "name": format!("V{at}"), "value": "x" });
    let many: Vec<Value> = (0..50_000).map(variable).collect();
    let mut large = pod(json!({}));
    large["spec"]["containers"][0]["env"] = Value::Array(many);
    let patch = patch(&webhook.ask(&review(&large)).await.response()).unwrap();
    assert!(patch.as_array().unwrap().len() < 6, "{patch}");
    // The text is small, and takes much memory once it is parsed.
    let bomb = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1","object":{"x":["#;
    for (item, times) in [
        ("[0],", 1_400_000),
        ("[0],", 290_000),
        ("{\"a\":0},", 290_000),
    ] {
        let body = format!("{bomb}{}0]}}}}}}", item.repeat(times));
        let posts = (0..4).map(|_| webhook.post(body.clone(), "application/json"));
        for reply in futures_util::future::join_all(posts).await {
            assert!([200, 400, 503].contains(&reply.status), "{}", reply.status);
        }
    }
    let peak = webhook.memory("VmHWM:");
    assert!(peak < 200 * 1024, "{peak} KiB");
}

#[tokio::test]
async fn connections_that_ask_nothing_do_not_lock_the_api_server_out() {
    let webhook = Webhook::start(&[]).await;
    let mut idle = Vec::new();
    for _ in 0..700 {
        idle.push(webhook.connect().await);
    }
    assert_eq!(
        webhook.get(&webhook.client, "/livez").await.unwrap().status,
        200
    );
    assert!(patch(&webhook.ask(&review(&pod(json!({})))).await.response()).is_some());
}

#[tokio::test]
async fn a_certificate_is_read_again_and_half_a_change_changes_nothing() {
    let webhook = Webhook::start(&[]).await;
    let old = webhook.client.clone();
    // Only one of the two files was replaced, so they do not match.
    let other = webhook.folder.join("other");
    certify(&other);
    std::fs::copy(other.join("tls.key"), webhook.folder.join("tls.key")).unwrap();
    webhook.says("the certificate in use stays").await;
    assert_eq!(webhook.get(&old, "/readyz").await.unwrap().status, 200);

    let root = certify(&webhook.folder);
    webhook.says("the certificate changed").await;
    let new = webhook.trusting(vec![root]);
    assert_eq!(webhook.get(&new, "/readyz").await.unwrap().status, 200);
}

#[tokio::test]
async fn native_sidecars_are_refused_in_a_cluster_that_does_not_know_them() {
    let folder =
        std::env::temp_dir().join(format!("wechat-sidecar-account-{}", std::process::id()));
    let api = ApiServer::start("28+", Some(&folder)).await;
    let account = folder.to_str().unwrap();
    let webhook = Webhook::start(&["--api-server", &api.url, "--service-account", account]).await;
    webhook.says("the cluster's version major=1 minor=28").await;
    let refused = webhook.ask(&review(&pod(json!({})))).await.response();
    let message = refused["status"]["message"].as_str().unwrap();
    assert_eq!(refused["allowed"], false);
    assert!(
        message.contains("wechat-sidecar.dev/sidecar") && message.contains("1.28"),
        "{message}"
    );
    let classic = pod(json!({ "wechat-sidecar.dev/sidecar": "classic" }));
    let patch = patch(&webhook.ask(&review(&classic)).await.response()).unwrap();
    assert!(!patch.to_string().contains("restartPolicy"), "{patch}");
    let head = api.heads.lock().unwrap()[0].to_lowercase();
    assert!(
        head.contains("authorization: bearer a-token-of-the-webhooks\r\n"),
        "{head}"
    );
    assert!(!webhook.log().contains("a-token-of-the-webhooks"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_cluster_whose_version_is_not_known_is_taken_for_a_newer_one() {
    let webhook = Webhook::start(&["--api-server", "https://127.0.0.1:1"]).await;
    webhook.says("taken for 1.29 or newer").await;
    assert!(patch(&webhook.ask(&review(&pod(json!({})))).await.response()).is_some());
}

#[tokio::test]
async fn the_pods_word_beats_its_namespaces_which_beats_the_operators() {
    let api = ApiServer::start("33", None).await;
    let namespace = json!({ "kind": "Namespace", "metadata": { "name": "shop", "annotations": {
        "wechat-sidecar.dev/secret": "of-the-namespace",
        "wechat-sidecar.dev/log-level": "debug",
    } } });
    let path = "/api/v1/namespaces/shop";
    api.answers
        .lock()
        .unwrap()
        .insert(path.to_owned(), namespace);
    let flags = [
        "--namespace-annotations",
        "--api-server",
        &api.url,
        "--set",
        "log-level=warn",
        "--set",
        "account=wx1",
    ];
    let webhook = Webhook::start(&flags).await;
    let own = pod(json!({ "wechat-sidecar.dev/secret": "of-the-pod" }));
    let patch = patch(&webhook.ask(&review(&own)).await.response())
        .unwrap()
        .to_string();
    for text in [
        r#""secretName":"of-the-pod""#,
        r#""value":"debug""#,
        r#""value":"wx1""#,
    ] {
        assert!(patch.contains(text), "{text}: {patch}");
    }
    // A namespace that is really another path gets no request with our token.
    for name in ["shop/secrets", "..", "a?b", "shop%2f..", "SHOP"] {
        let mut strange = review(&own);
        strange["request"]["namespace"] = json!(name);
        assert_eq!(webhook.ask(&strange).await.status, 500, "{name}");
    }
    let heads = api.heads.lock().unwrap().clone();
    let known = ["GET /version ", "GET /api/v1/namespaces/shop "];
    let known = |head: &String| known.iter().any(|known| head.starts_with(known));
    assert!(heads.iter().all(known), "{heads:?}");
    // A namespace cannot be read, so the review fails and failurePolicy decides.
    let mut elsewhere = review(&own);
    elsewhere["request"]["namespace"] = json!("elsewhere");
    let failed = webhook.ask(&elsewhere).await;
    assert_eq!(failed.status, 500);
    assert!(
        failed.text.contains("--namespace-annotations"),
        "{}",
        failed.text
    );
}

#[tokio::test]
async fn a_webhook_that_is_to_end_answers_on_for_a_while_and_then_ends() {
    let mut webhook = Webhook::start(&["--shutdown-delay", "2s"]).await;
    assert_eq!(
        webhook.get(&webhook.client, "/livez").await.unwrap().status,
        200
    );
    webhook.signal("-TERM");
    let unready = async {
        while webhook
            .get(&webhook.client, "/readyz")
            .await
            .unwrap()
            .status
            != 503
        {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, unready).await.unwrap();
    let reply = webhook.ask(&review(&pod(json!({})))).await;
    assert!(
        reply.closes,
        "the API server keeps a connection that is about to go"
    );
    assert!(patch(&webhook.ask(&review(&pod(json!({})))).await.response()).is_some());
    let ended = timeout(PATIENCE, webhook.child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn a_label_that_is_neither_word_is_refused_with_a_sentence() {
    let webhook = Webhook::start(&[]).await;
    let refusal = async |review: &Value| {
        let response = webhook.ask_in_unclear_namespace(review).await.response();
        assert_eq!(response["status"]["code"], 422, "{response}");
        response["status"]["message"].as_str().unwrap().to_owned()
    };
    let silent = review(&pod(json!({})));
    let said = refusal(&silent).await;
    let sentence =
        "the namespace's label wechat-sidecar.dev/injection is neither enabled nor disabled";
    assert!(said.contains(sentence), "{said}");
    let mut unclear = pod(json!({}));
    for word in ["True", "yes", ""] {
        unclear["metadata"]["labels"] = json!({ "wechat-sidecar.dev/inject": word });
        let said = webhook.ask(&review(&unclear)).await.response();
        let said = said["status"]["message"].as_str().unwrap().to_owned();
        let sentence = format!("the pod's label wechat-sidecar.dev/inject: {word:?} is neither");
        assert!(said.contains(&sentence), "{said}");
        assert_eq!(refusal(&review(&unclear)).await, said);
    }
    // A pod that decides for itself, or that can have no sidecar at all, does not depend on its namespace.
    for (word, patched) in [("false", false), ("true", true)] {
        let decided = pod(json!({ "wechat-sidecar.dev/inject": word }));
        let response = webhook.ask_in_unclear_namespace(&review(&decided)).await;
        let response = response.response();
        assert_eq!(response["allowed"], true, "{response}");
        assert_eq!(patch(&response).is_some(), patched, "{word}");
    }
    let mut host = pod(json!({}));
    host["spec"]["hostNetwork"] = json!(true);
    let response = webhook
        .ask_in_unclear_namespace(&review(&host))
        .await
        .response();
    assert_eq!(
        (&response["allowed"], patch(&response)),
        (&json!(true), None)
    );
}

#[tokio::test]
async fn the_label_of_a_namespace_that_can_be_read_is_named() {
    let api = ApiServer::start("33", None).await;
    let labels = json!({ "wechat-sidecar.dev/injection": "on" });
    let namespace =
        json!({ "kind": "Namespace", "metadata": { "name": "shop", "labels": labels } });
    let path = "/api/v1/namespaces/shop".to_owned();
    api.answers.lock().unwrap().insert(path, namespace);
    let flags = ["--namespace-annotations", "--api-server", &api.url];
    let webhook = Webhook::start(&flags).await;
    let refused = webhook
        .ask_in_unclear_namespace(&review(&pod(json!({}))))
        .await;
    let said = refused.response()["status"]["message"].to_string();
    assert!(
        said.contains("\\\"on\\\" is neither enabled nor disabled"),
        "{said}"
    );
    // What is known of it may be older than what the API server knows.
    for words in [
        json!({}),
        json!({ "wechat-sidecar.dev/injection": "enabled" }),
    ] {
        let known = json!({ "kind": "Namespace", "metadata": { "name": "shop", "labels": words } });
        api.answers
            .lock()
            .unwrap()
            .insert("/api/v1/namespaces/shop".to_owned(), known);
        let webhook = Webhook::start(&flags).await;
        let refused = webhook
            .ask_in_unclear_namespace(&review(&pod(json!({}))))
            .await;
        assert_eq!(refused.response()["allowed"], false);
    }
}
