//! Tests of accounts in the file, and of what is refused.

use std::{fs, os::unix::fs::PermissionsExt};

use super::{Given, SECRET, given};
use crate::{account, config::keys::Id, token::source::wechat::TokenApi};

/// No account in the environment.
fn in_the_file(text: &str) -> Given {
    let mut given = given().file(text);
    given.0.env.clear();
    given
}

#[test]
fn what_is_unwise_about_several_accounts_is_a_warning() {
    let real = |second: &str| {
        let first = format!(
            "[[accounts]]\nappid='wx1'\nsecret='{SECRET}'\n[[accounts]]\nsecret='{SECRET}'\n"
        );
        in_the_file(&format!("{first}{second}")).flag(Id::TokenEndpoint, "real")
    };
    // WeChat's tokens identify their account.
    let warnings = real("appid='wx2'").load().warnings;
    assert!(warnings.is_empty(), "{warnings:?}");
    let given = real("corpid='ww1'\nkind='wecom'");
    let [warning] = &given.load().warnings[..] else {
        panic!()
    };
    assert!(
        warning.contains("X-Wechat-Appid") && warning.contains("WeCom"),
        "{warning}"
    );
    fs::set_permissions(&given.1, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = given.load().warnings.concat();
    assert!(
        warnings.contains("--config: everybody") && !warnings.contains(SECRET),
        "{warnings}"
    );
}

#[test]
fn accounts_stand_in_the_file() {
    let secret = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let file = format!(
        "deny = '/cgi-bin/menu/*'\ndaily-fetches = 7\n[[accounts]]\nname = 'orders'\nappid = 'wx1'\nsecret = '1{}'\n\
         default = true\ntoken_api = 'classic'\nallow = ['/cgi-bin/**']\nlisten = '127.0.0.1:7099'\n\
         [[accounts]]\nappid = 'wx2'\nsecret_file = '{}'\ndeny = '/Card/**'\n[accounts.token]\napi = 'stable'\nsource = 'wechat'\n",
        &SECRET[1..],
        secret.display()
    );
    let config = in_the_file(&file).load();
    let [one, two] = &config.accounts[..] else {
        panic!()
    };
    assert_eq!(
        (one.name.as_deref(), &*one.appid, one.default),
        (Some("orders"), "wx1", true)
    );
    assert_eq!((one.token_api, one.daily_fetches), (TokenApi::Classic, 7));
    assert_eq!(
        format!("{:?}", one.rules),
        "Rules { allow: [\"/cgi-bin/**\"], deny: [\"/cgi-bin/menu/*\"] }"
    );
    assert_eq!(one.listen[0].to_string(), "127.0.0.1:7099");
    let own = format!("1{}", &SECRET[1..]);
    assert_eq!(one.secret.as_ref().unwrap().held().expose(), own);
    assert_eq!(
        (two.name.as_deref(), &*two.appid, two.default),
        (None, "wx2", false)
    );
    assert_eq!(two.secret.as_ref().unwrap().held().expose(), SECRET);
    assert_eq!(
        format!("{:?}", two.rules),
        "Rules { allow: [], deny: [\"/cgi-bin/menu/*\", \"/Card/**\"] }"
    );
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    let again = in_the_file(&file).load().accounts;
    assert_eq!(config.accounts, again);
    fs::remove_file(&secret).unwrap();
}

#[test]
fn a_difference_between_two_readings_of_an_account_is_seen() {
    let account = |secret: &str, more: &str| {
        let text = format!("[[accounts]]\nappid = 'wx1'\nsecret = '{secret}'\n{more}");
        in_the_file(&text).load().accounts.remove(0)
    };
    let before = account("a", "");
    assert_eq!(before, account("a", "kind = 'wechat'"));
    for (secret, more) in [
        ("b", ""),
        ("a", "name = 'x'"),
        ("a", "default = true"),
        ("a", "deny = '/x'"),
        ("a", "listen = '127.0.0.1:7099'"),
        ("a", "daily_fetches = 3"),
        ("a", "token_api = 'classic'"),
    ] {
        let after = account(secret, more);
        assert_ne!(before, after, "{more}");
        assert_eq!(before.same_tokens(&after), !more.contains("token_api"));
        assert_eq!(before.same_secret(&after), secret == "a");
    }
}

#[test]
fn what_is_wrong_with_an_account_is_said_with_its_line_and_without_its_value() {
    let one = "[[accounts]]\nname = 'one'\nappid = 'wx1'\nsecret = 'HUNTER2'\n";
    let two = |more: &str| format!("{one}[[accounts]]\nsecret = 'HUNTER2'\n{more}");
    for (text, says) in [
        (
            "[[accounts]]\nsecret = 'HUNTER2'".to_owned(),
            "line 1: this account has no appid",
        ),
        (
            "[[accounts]]\nkind = 'wecom'\nsecret = 'HUNTER2'".to_owned(),
            "has no corpid",
        ),
        (
            "[[accounts]]\nappid = 'wx1'".to_owned(),
            "line 1: this account has no AppSecret",
        ),
        (
            "[[accounts]]\nappid = 'wx1'\nsecret = ' '".to_owned(),
            "line 3: the AppSecret is empty",
        ),
        (
            "[[accounts]]\nappid = 'wx1'\nsecret = 'HUNTER2'\nsecret_file = 'HUNTER2'".to_owned(),
            "line 4: this account has secret as well",
        ),
        (
            "[[accounts]]\nappid = 'wx1'\nsecret_file = '/HUNTER2'".to_owned(),
            "line 3: the file cannot be used",
        ),
        (
            "[[accounts]]\nappid = 'wx1'\ncorpid = 'HUNTER2'\nsecret = 'x'".to_owned(),
            "twice",
        ),
        (
            two("appid = 'wx1'"),
            "line 7: another account has this AppID",
        ),
        (two("appid = 'WX1'"), "another account has this AppID"),
        (
            two("appid = 'wx1'\nkind = 'wecom'\nname = 'x'"),
            "another account has this AppID",
        ),
        (
            two("appid = 'HUNTER2/'"),
            "line 7: the value is not an AppID",
        ),
        (
            two("appid = 'cgi-bin'"),
            "the beginning of paths of WeChat's",
        ),
        (
            two("appid = 'wx2'\nname = 'ONE'"),
            "line 8: another account has this name",
        ),
        (
            two("appid = 'wx2'\nname = 'Shop'"),
            "line 8: the value is the beginning of paths",
        ),
        (
            two("appid = 'wx2'\nname = 'HUNTER2/x'"),
            "line 8: the value is no name",
        ),
        (two("appid = 'wx2'\nname = ''"), "the value is no name"),
        (
            two("appid = 'wx2'\nname = 'WX1'"),
            "line 8: the name of one account is the AppID of another",
        ),
        (two("appid = 'one'"), "is the AppID of another"),
        (
            two("appid = 'wx2'\nkind = 'HUNTER2'"),
            "line 8: the value is none of wechat, wecom",
        ),
        (
            two("appid = 'wx2'\ntoken.source = 'HUNTER2'"),
            "line 8: the value is none of wechat",
        ),
        (
            two("appid = 'wx2'\ndefault = 'HUNTER2'"),
            "line 8: the value is neither true nor false",
        ),
        (
            two("appid = 'wx2'\ndeny = 'HUNTER2'"),
            "line 8: the value is no pattern",
        ),
        (
            two("appid = 'wx2'\nallow = 'preset:account-wide'"),
            "line 8: the value is a preset, which is for deny",
        ),
        (
            two("appid = 'wx2'\nlisten = 'HUNTER2'"),
            "line 8: the value is not an IP address",
        ),
        (
            two("appid = 'wx2'\nlisten = '127.0.0.1:7080'"),
            "line 8: an address is taken twice",
        ),
        (
            two("appid = 'wx2'\nlisten = ['unix:/a', 'unix:/a']"),
            "taken twice",
        ),
        (
            two("appid = 'wx2'\nlisten = '0.0.0.0:1'"),
            "line 8: 0.0.0.0:1 can be reached from other machines",
        ),
        (
            two("appid = 'wx2'\nsecrets = 'HUNTER2'"),
            "line 8: there is no such key; did you mean secret?",
        ),
        (
            two("appid = 'wx2'\nHUNTERS = 'HUNTER2'"),
            "line 8: an account has no such key; it has name, appid",
        ),
    ] {
        let error = in_the_file(&text).error();
        assert!(error.contains(says), "{text}\n{error}");
        assert!(!error.contains("HUNTER2"), "{error}");
    }
    let defaults = "[[accounts]]\nappid='wx1'\nsecret='a'\ndefault=true\n[[accounts]]\nappid='wx2'\nsecret='a'\ndefault=true";
    let error = in_the_file(defaults).error();
    assert!(
        error.contains("line 8: another account is the default"),
        "{error}"
    );
    let corp = |names: [&str; 2]| {
        let account =
            |name| format!("[[accounts]]\nkind='wecom'\ncorpid='ww1'\nsecret='a'\n{name}\n");
        in_the_file(&names.map(account).concat())
    };
    let error = corp(["name='a'", ""]).error();
    assert!(error.contains("give each of them a name"), "{error}");
    assert_eq!(corp(["name='a'", "name='b'"]).load().accounts[1].id(), "b");
}

#[test]
fn an_account_in_the_environment_and_others_in_the_file_contradict_each_other() {
    for variable in ["WECHAT_APPID", "WECHAT_SECRET", "WECHAT_SECRET_FILE"] {
        let given =
            in_the_file("\n[[accounts]]\nappid = 'wx1'\nsecret = 'a'").env(variable, "HUNTER2");
        let error = given.error();
        assert!(
            error.contains("line 2") && error.contains(variable),
            "{error}"
        );
        assert!(
            error.contains("accounts") && !error.contains("HUNTER2"),
            "{error}"
        );
    }
}

#[test]
fn the_example_loads() {
    let secret = std::env::temp_dir().join(format!("example-{}", std::process::id()));
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/accounts.toml");
    let example = fs::read_to_string(example).unwrap();
    let path = format!("'{}' #", secret.display());
    let text = example.replace("\"/run/secrets/", &format!("{path}\""));
    let config = in_the_file(&text).load();
    let ids: Vec<&str> = config.accounts.iter().map(|account| account.id()).collect();
    assert_eq!(
        ids,
        ["wx0123456789abcdef", "wxfedcba9876543210", "contacts"]
    );
    assert!(config.accounts[0].default && !config.accounts[1].rules.allow.is_empty());
    assert_eq!(config.warnings, Vec::<String>::new());
    fs::remove_file(&secret).unwrap();
}

#[test]
fn an_accounts_prefix_in_the_store_is_its_own() {
    let account = "[[accounts]]\nappid = 'wx1'\nsecret = 'one'\n";
    let given = in_the_file(&format!(
        "store = 'redis://localhost'\nstore-prefix = 'wx'\n{account}[[accounts]]\nappid = 'wx2'\nsecret = 'two'\nstore_prefix = 'wa:'\n"
    ));
    let config = given.load();
    let prefixes = config.accounts.iter().map(|one| one.key_parts().prefix);
    assert_eq!(prefixes.collect::<Vec<_>>(), [None, Some("wa")]);
    let mut other = account::Options::clone(&config.accounts[1]);
    other.store_prefix = Some("wb".to_owned());
    assert!(other != *config.accounts[1] && other.same_tokens(&config.accounts[1]));
    for (text, says) in [
        (
            format!("{account}store_prefix = 'wa'"),
            "there is no --store that it could be for",
        ),
        (
            format!("store = 'redis://localhost'\n{account}store_prefix = 'HUNTER2 HUNTER2'"),
            "is not what a key can begin with",
        ),
    ] {
        let error = in_the_file(&text).error();
        assert!(
            error.contains(says) && !error.contains("HUNTER2"),
            "{error}"
        );
        assert!(error.contains("store_prefix"), "{error}");
    }
}

/// With a step for each pair of accounts, or for each line before a line, this takes minutes.
#[test]
fn ten_thousand_accounts_are_read_within_seconds() {
    let account = |at: usize| {
        let port = 10_000 + at;
        format!(
            "[[accounts]]\nappid = 'wx{at:016x}'\nname = 'shop-{at}'\nsecret = '{at:032x}'\n\
             deny = '/card/{at}/**'\nlisten = '127.0.0.1:{port}'\n"
        )
    };
    let file: String = (0..10_000).map(account).collect();
    let begin = tokio::time::Instant::now();
    let config = in_the_file(&file).load();
    let took = begin.elapsed();
    assert_eq!(config.accounts.len(), 10_000);
    assert_eq!(config.accounts[7000].name.as_deref(), Some("shop-7000"));
    // Rules of their own match no path.
    assert!(
        config
            .warnings
            .iter()
            .any(|warning| warning.contains("/card/9999/**"))
    );
    assert!(took.as_secs() < 30, "{took:?}");
    let mistake = format!("{file}[[accounts]]\nappid = 'WX0000000000000001'\nsecret = '{SECRET}'");
    let error = in_the_file(&mistake).error();
    assert!(error.contains("line 60002: "), "{error}");
}
