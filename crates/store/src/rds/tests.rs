use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use aws_credential_types::Credentials;

use super::*;

const SERVER: &str = "shop.abcdef.eu-central-1.rds.amazonaws.com:5432";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// 2026-11-29 12:00:00 UTC
fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_953_600)
}

fn token(user: &str, session: Option<&str>) -> String {
    let credentials =
        Credentials::new("AKIDEXAMPLE", SECRET, session.map(str::to_owned), None, "of the test");
    presign(SERVER, "eu-central-1", user, &credentials.into(), noon()).expect("a token")
}

/// The query may have its parts in any order.
fn parts(token: &str) -> (&str, BTreeMap<&str, &str>) {
    let (place, query) = token.split_once('?').expect("a query");
    (place, query.split('&').map(|part| part.split_once('=').expect("a value")).collect())
}

/// What botocore 1.43.106 makes of the same (`generate_db_auth_token`).
#[test]
fn tokens_are_those_of_amazons_own_tools() {
    let plain = "shop.abcdef.eu-central-1.rds.amazonaws.com:5432/?Action=connect&DBUser=cdc&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20261129%2Feu-central-1%2Frds-db%2Faws4_request&X-Amz-Date=20261129T120000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=7408f1271ebfdb191ec6f70468d2ff637cfc9c45c31995e8cc9eb951b38aa08f";
    assert_eq!(parts(&token("cdc", None)), parts(plain));
    let with_session = "shop.abcdef.eu-central-1.rds.amazonaws.com:5432/?Action=connect&DBUser=o%20dd%40n%C3%A4me%2F%2B&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20261129%2Feu-central-1%2Frds-db%2Faws4_request&X-Amz-Date=20261129T120000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token=tok%2Fen%2Bwith%3D%3Dchars&X-Amz-Signature=881c47882dbcc1803950840aaca2b68b8ddc986c01c5ddbcb58aac302e0143d1";
    assert_eq!(parts(&token("o dd@näme/+", Some("tok/en+with==chars"))), parts(with_session));
}

#[test]
fn a_token_does_not_hold_the_secret_and_is_for_one_role() {
    assert!(!token("cdc", None).contains("wJalrXUtnFEMI"));
    assert_ne!(
        parts(&token("cdc", None)).1["X-Amz-Signature"],
        parts(&token("cdd", None)).1["X-Amz-Signature"]
    );
}

#[test]
fn the_region_is_in_the_name_of_an_endpoint() {
    assert_eq!(region_of("shop.abcdef.eu-central-1.rds.amazonaws.com"), Some("eu-central-1"));
    assert_eq!(region_of("shop.cluster-ro-abcdef.us-gov-west-1.rds.amazonaws.com."), Some("us-gov-west-1"));
    assert_eq!(region_of("p.proxy-abcdef.cn-north-1.rds.amazonaws.com.cn"), Some("cn-north-1"));
    assert_eq!(region_of("db.example"), None);
    assert_eq!(region_of("10.0.0.1"), None);
}
