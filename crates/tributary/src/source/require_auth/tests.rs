use super::*;

fn allows(list: &str) -> Vec<String> {
    let list: RequireAuth = list.parse().unwrap_or_else(|error| panic!("{list}: {error:?}"));
    OURS.iter().filter(|method| list.check(**method).is_ok()).map(ToString::to_string).collect()
}

fn refused(list: &str) -> String {
    format!("{:?}", list.parse::<RequireAuth>().expect_err(list))
}

#[test]
fn a_list_allows_what_it_names_and_a_negated_one_the_rest() {
    assert_eq!(allows("scram-sha-256"), ["scram-sha-256"]);
    assert_eq!(allows("scram-sha-256,md5"), ["md5", "scram-sha-256"]);
    assert_eq!(allows("scram-sha-256, none"), ["none", "scram-sha-256"]);
    assert_eq!(allows("!password"), ["none", "md5", "scram-sha-256"]);
    assert_eq!(allows("!password,!md5,!none"), ["scram-sha-256"]);
    assert_eq!(allows("gss,none"), ["none"]);
    let nothing = RequireAuth::default();
    assert!(OURS.iter().all(|method| nothing.check(*method).is_ok()));
}

#[test]
fn what_is_no_list_is_refused() {
    assert!(refused("scram").contains("`scram`"));
    assert!(refused("").contains("``"));
    assert!(refused("md5,!password").contains("mixes"));
    assert!(refused("md5,md5").contains("twice"));
    assert!(refused("gss,sspi").contains("leaves no method"));
    assert!(refused("!none,!password,!md5,!scram-sha-256").contains("leaves no method"));
}

#[test]
fn a_refusal_names_the_method_and_the_list() {
    let list: RequireAuth = "scram-sha-256".parse().expect("a list");
    let error = list.check(Method::Password).expect_err("not allowed");
    assert_eq!(error.kind(), crate::error::Kind::Config);
    assert!(error.to_string().contains("`password`, which require_auth=scram-sha-256"), "{error}");
    let error = list.check(Method::None).expect_err("not allowed");
    assert!(error.to_string().contains("without any authentication"), "{error}");
}
