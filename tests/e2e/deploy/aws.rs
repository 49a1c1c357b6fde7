//! Policies of AWS.
//!
//! Owns: the comparison of what they allow with what the store does.
//! Does not: ask AWS.
//! Holds: every request of the store is allowed, but deletion; nothing else is.
//! Fails: with the action that is missing, or too much.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::place;

/// The requests of the SDK, and the action that each takes.
const REQUESTS: [(&str, &str); 12] = [
    ("abort_multipart_upload", "s3:AbortMultipartUpload"),
    ("complete_multipart_upload", "s3:PutObject"),
    ("create_multipart_upload", "s3:PutObject"),
    ("delete_object", "s3:DeleteObject"),
    ("get_object", "s3:GetObject"),
    ("head_object", "s3:GetObject"),
    ("list_multipart_uploads", "s3:ListBucketMultipartUploads"),
    ("list_objects_v2", "s3:ListBucket"),
    ("list_parts", "s3:ListMultipartUploadParts"),
    ("put_object", "s3:PutObject"),
    ("upload_part", "s3:PutObject"),
    ("head_bucket", "s3:ListBucket"),
];

#[test]
fn the_policies_allow_what_the_store_does_and_no_more() -> Result<()> {
    let source = fs::read_to_string(place::repository()?.join("crates/store/src/s3.rs"))?;
    // Every request begins `self.client.request()`, over as many lines as rustfmt wants.
    let source: String = source.split_whitespace().collect();
    let used: BTreeSet<&str> =
        source.split("self.client.").skip(1).filter_map(|rest| rest.split('(').next()).collect();
    ensure!(used.len() > 8, "the store's requests are not found: {used:?}");
    let mut needed = BTreeSet::new();
    for request in used {
        let known = REQUESTS.iter().find(|(name, _)| *name == request);
        needed.insert(known.with_context(|| format!("which action does `{request}` take?"))?.1.to_owned());
    }
    let daily = actions("s3-policy.json")?;
    ensure!(!daily.contains("s3:DeleteObject"), "the daemon may delete");
    let repair = actions("s3-policy-repair.json")?;
    let both: BTreeSet<String> = daily.union(&repair).cloned().collect();
    ensure!(both == needed, "allowed {both:?}, needed {needed:?}");
    Ok(())
}

/// Without a condition, or S3 answers 403 and not 404 to a look at an object that is not there.
#[test]
fn listing_has_no_condition() -> Result<()> {
    for statement in statements("s3-policy.json")? {
        ensure!(statement.get("Condition").is_none(), "{statement}");
        let resource = statement.get("Resource").and_then(Value::as_str).context("a resource")?;
        let of_bucket = !resource.contains('/');
        let lists =
            statement.get("Action").is_some_and(|action| action.to_string().contains("s3:ListBucket"));
        ensure!(of_bucket == lists, "{statement}");
    }
    Ok(())
}

#[test]
fn only_our_own_service_account_is_trusted() -> Result<()> {
    for statement in statements("irsa-trust-policy.json")? {
        let equals = statement
            .pointer("/Condition/StringEquals")
            .and_then(Value::as_object)
            .context("StringEquals")?;
        let ends = |end: &str| {
            equals.iter().find(|(key, _)| key.ends_with(end)).and_then(|(_, value)| value.as_str())
        };
        ensure!(ends(":sub") == Some("system:serviceaccount:NAMESPACE:tributary"), "{statement}");
        ensure!(ends(":aud") == Some("sts.amazonaws.com"), "{statement}");
    }
    for statement in statements("pod-identity-trust-policy.json")? {
        ensure!(statement.pointer("/Condition/StringEquals/aws:SourceAccount").is_some(), "{statement}");
    }
    ensure!(
        actions("kms-policy.json")?.iter().eq(["kms:Decrypt", "kms:GenerateDataKey"]),
        "more than a lake needs"
    );
    let rule = read("lifecycle.json")?;
    let days =
        rule.pointer("/Rules/0/AbortIncompleteMultipartUpload/DaysAfterInitiation").and_then(Value::as_u64);
    ensure!(days.is_some_and(|days| days >= 7), "uploads of a cut may be taken away: {rule}");
    Ok(())
}

fn read(name: &str) -> Result<Value> {
    let text = fs::read_to_string(place::repository()?.join("deploy/aws").join(name))?;
    serde_json::from_str(&text).context(name.to_owned())
}

fn statements(name: &str) -> Result<Vec<Value>> {
    let policy = read(name)?;
    ensure!(policy.get("Version").and_then(Value::as_str) == Some("2012-10-17"), "{name}: no version");
    policy.get("Statement").and_then(Value::as_array).cloned().context("statements")
}

fn actions(name: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for statement in statements(name)? {
        match statement.get("Action").context("an action")? {
            Value::String(action) => drop(found.insert(action.clone())),
            actions => found.extend(
                actions.as_array().context("actions")?.iter().filter_map(Value::as_str).map(str::to_owned),
            ),
        }
    }
    Ok(found)
}
