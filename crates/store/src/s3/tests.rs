//! Owns: how answers become outcomes (a scripted server on loopback), and the conformance suite on a real S3 server.
//! Does not: start a real server: `TRIBUTARY_TEST_S3` names one, with `TRIBUTARY_TEST_S3_BUCKET` (default `test`) and
//!     `TRIBUTARY_TEST_S3_CHECKSUMS=when_required` where it is old; credentials as for the AWS tools.
//! Holds: the scripted server answers one request after the other and closes every connection.
//! Fails: never.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use bytes::Bytes;
use lake::store::{Completed, Created, Part, Store, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::answer::{Verdict, judge};
use super::connect::{Roots, build, http_client};
use super::{COMPLETE_UPLOAD, Checksums, GET, LIST_UPLOADS, PUT, S3, S3Settings};
use crate::{conformance, probe};

const SECRET: &str = "scripted-secret-key";

fn settings(endpoint: &str) -> S3Settings {
    S3Settings {
        bucket: "test".to_owned(),
        prefix: "pre/fix".to_owned(),
        region: None,
        endpoint: Some(endpoint.to_owned()),
        path_style: true,
        kms_key_id: None,
        expected_bucket_owner: None,
        part_size: 5 * 1024 * 1024,
        checksums: Checksums::Always,
    }
}

/// A server that answers as told, and keeps the requests.
struct Scripted {
    store: S3,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// The last answer is repeated.
    async fn new(answers: Vec<String>, change: impl FnOnce(&mut S3Settings)) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = settings(&format!("http://{}", listener.local_addr().unwrap()));
        change(&mut settings);
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&requests);
        let black_hole = answers.iter().any(|answer| answer == BLACK_HOLE);
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                kept.lock().unwrap().push(request);
                let answer = answers.get(number).or(answers.last()).unwrap().clone();
                if answer == BLACK_HOLE {
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        drop(stream);
                    });
                    continue;
                }
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let credentials = Credentials::new("scripted", SECRET, None, None, "test");
        let retry = RetryConfig::standard().with_max_attempts(3);
        // Long, for busy machines, unless the test is about it.
        let patience = Duration::from_millis(if black_hole { 300 } else { 20_000 });
        let timeouts = TimeoutConfig::builder().connect_timeout(patience).operation_attempt_timeout(patience);
        let loaded = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client(Roots::of_system()))
            .region(Region::from_static("eu-west-1"))
            .credentials_provider(credentials)
            .retry_config(retry.with_initial_backoff(Duration::from_millis(1)))
            .timeout_config(timeouts.build())
            .load()
            .await;
        Scripted { store: build(settings, &loaded, "eu-west-1".to_owned()), requests }
    }

    async fn answering(status: &str, body: &str) -> Scripted {
        Scripted::new(vec![answer(status, body)], |_| ()).await
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        let text = String::from_utf8_lossy(&received);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text.into_owned();
            }
        }
        let read = stream.read(&mut chunk).await.unwrap();
        if read == 0 {
            return String::from_utf8_lossy(&received).into_owned();
        }
        received.extend_from_slice(&chunk[..read]);
    }
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\nx-amz-request-id: REQ1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn error_body(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>Because.</Message></Error>"
    )
}

const BLACK_HOLE: &str = "";
const PARTS: &[Part] = &[];

#[tokio::test]
async fn a_conditional_creation_is_sent_once() {
    for (status, code) in [
        ("500 Internal Server Error", "InternalError"),
        ("503 Service Unavailable", "SlowDown"),
        ("409 Conflict", "ConditionalRequestConflict"),
        ("400 Bad Request", "RequestTimeout"),
    ] {
        let scripted = Scripted::answering(status, &error_body(code)).await;
        let error = scripted.store.put_if_absent("log/1", Bytes::from_static(b"x")).await.unwrap_err();
        assert!(error.is_transient(), "{status}: {error}");
        assert_eq!(scripted.requests().len(), 1, "{status}");
    }
    let scripted = Scripted::answering("412 Precondition Failed", &error_body("PreconditionFailed")).await;
    let created = scripted.store.put_if_absent("log/1", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(created, Created::Exists);
    let request = scripted.requests()[0].to_lowercase();
    assert!(request.starts_with("put /test/pre/fix/log/1"), "{request}");
    assert!(request.contains("if-none-match: *"), "{request}");
    assert!(request.contains("x-amz-checksum-crc32: "), "{request}");
}

#[tokio::test]
async fn a_lost_answer_to_a_conditional_creation_is_transient() {
    // The connection closes without an answer.
    let scripted = Scripted::new(vec![" ".to_owned()], |_| ()).await;
    let error = scripted.store.put_if_absent("log/1", Bytes::from_static(b"x")).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(scripted.requests().len(), 1);
}

#[tokio::test]
async fn a_conditional_creation_may_be_unsupported() {
    let scripted = Scripted::answering("501 Not Implemented", &error_body("NotImplemented")).await;
    let error = scripted.store.put_if_absent("log/1", Bytes::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unsupported { .. }), "{error}");
    let error = probe(&scripted.store).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { hint: Some(_), .. }), "{error}");
}

#[tokio::test]
async fn the_checksum_that_s3_keeps_is_that_of_the_parts_checksums() {
    let part =
        |number, crc32: &str| Part { number, etag: String::new(), crc32: Some(crc32.to_owned()), bytes: 5 };
    // Of `aaaaa` and `bbb`.
    let parts = [part(1, "7qyTuQ=="), part(2, "QGXPDQ==")];
    let head = |checksum: &str| {
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 8\r\n{checksum}\r\n")
    };
    for (checksum, expected) in [
        ("x-amz-checksum-crc32: Eo25Yg==-2\r\n", Some(true)),
        ("x-amz-checksum-crc32: Eo25Yg==-1\r\n", Some(false)),
        ("x-amz-checksum-crc32: 7qyTuQ==\r\n", Some(false)),
        ("", None),
    ] {
        let scripted = Scripted::new(vec![head(checksum)], |_| ()).await;
        assert_eq!(scripted.store.is_made_of("a", &parts).await.unwrap(), expected, "{checksum}");
        let request = scripted.requests()[0].to_lowercase();
        assert!(
            request.starts_with("head /test/pre/fix/a") && request.contains("x-amz-checksum-mode: enabled"),
            "{request}"
        );
        // Parts without checksums tell nothing, and ask nothing.
        let without = Part { crc32: None, ..part(1, "") };
        assert_eq!(scripted.store.is_made_of("a", &[without]).await.unwrap(), None);
        assert_eq!(scripted.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_range_is_asked_for_and_no_more_is_taken() {
    let scripted = Scripted::answering("206 Partial Content", "cdef").await;
    assert_eq!(scripted.store.get_range("a", 2, 4).await.unwrap().unwrap(), "cdef");
    assert!(scripted.requests()[0].to_lowercase().contains("range: bytes=2-5"));
    let scripted = Scripted::answering("200 OK", "abcdefgh").await;
    let error = scripted.store.get_range("a", 2, 4).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    let scripted = Scripted::answering("404 Not Found", &error_body("NoSuchKey")).await;
    assert_eq!(scripted.store.get_range("a", 2, 4).await.unwrap(), None);
}

#[tokio::test]
async fn idempotent_requests_are_repeated() {
    let trouble = answer("503 Service Unavailable", &error_body("SlowDown"));
    let scripted = Scripted::new(vec![trouble.clone(), trouble, answer("200 OK", "found")], |_| ()).await;
    assert_eq!(scripted.store.get("a").await.unwrap().unwrap().bytes, "found");
    assert_eq!(scripted.requests().len(), 3);
}

#[tokio::test]
async fn an_error_inside_a_200_is_an_error() {
    let scripted = Scripted::answering("200 OK", &error_body("InternalError")).await;
    let error = scripted.store.complete_upload("f", "u", PARTS).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let scripted = Scripted::answering("200 OK", &error_body("SomethingNew")).await;
    let error = scripted.store.complete_upload("f", "u", PARTS).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    // Blanks to keep the connection, and then the end of it.
    for body in ["", "   ", "  <?xml version=\"1.0\"?>", "<Completed/>"] {
        let scripted = Scripted::answering("200 OK", body).await;
        let error = scripted.store.complete_upload("f", "u", PARTS).await.unwrap_err();
        assert!(error.is_transient(), "{body:?}: {error}");
    }
}

#[tokio::test]
async fn completing_a_completed_upload() {
    // The first answer is lost in a 500, the repetition finds nothing.
    let first = answer("500 Internal Server Error", &error_body("InternalError"));
    let second = answer("404 Not Found", &error_body("NoSuchUpload"));
    let scripted = Scripted::new(vec![first.clone(), second.clone()], |_| ()).await;
    assert_eq!(scripted.store.complete_upload("f", "u", PARTS).await.unwrap(), Completed::NoSuchUpload);
    // Or nothing but 500 comes, while listing the parts tells that the upload is gone.
    let scripted = Scripted::new(vec![first.clone(), first.clone(), first.clone(), second], |_| ()).await;
    assert_eq!(scripted.store.complete_upload("f", "u", PARTS).await.unwrap(), Completed::NoSuchUpload);
    let scripted = Scripted::new(vec![first], |_| ()).await;
    assert!(scripted.store.complete_upload("f", "u", PARTS).await.unwrap_err().is_transient());
    let scripted = Scripted::answering("404 Not Found", &error_body("NoSuchBucket")).await;
    let error = scripted.store.complete_upload("f", "u", PARTS).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { hint: Some(_), .. }), "{error}");
}

#[tokio::test]
async fn a_black_hole_is_transient() {
    let scripted = Scripted::new(vec![BLACK_HOLE.to_owned()], |_| ()).await;
    let error = scripted.store.get("a").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(scripted.requests().len(), 3);
    // Nobody listens there.
    let scripted =
        Scripted::new(vec![String::new()], |s| s.endpoint = Some("http://127.0.0.1:9".to_owned())).await;
    let error = scripted.store.put_if_absent("a", Bytes::new()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_damaged_body_is_transient() {
    let wrong = "HTTP/1.1 200 OK\r\nconnection: close\r\nx-amz-checksum-crc32: AAAAAA==\r\ncontent-length: 5\r\n\r\nhello";
    let scripted = Scripted::new(vec![wrong.to_owned()], |_| ()).await;
    let error = scripted.store.get("a").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let short = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 500\r\n\r\nhello";
    let scripted = Scripted::new(vec![short.to_owned()], |_| ()).await;
    let error = scripted.store.get("a").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn refusals_name_the_bucket_and_show_no_secret() {
    let body = format!(
        "<Error><Code>SignatureDoesNotMatch</Code><Message>No match.</Message><StringToSign>{SECRET}</StringToSign></Error>"
    );
    let scripted = Scripted::answering("403 Forbidden", &body).await;
    let error = scripted.store.get("a").await.unwrap_err();
    let StoreError::Refused { reason, hint: Some(_), .. } = &error else { panic!("{error}") };
    assert_eq!(
        reason,
        "status 403, SignatureDoesNotMatch: No match. (request REQ1); bucket `test`, region eu-west-1"
    );
    for shown in [format!("{error:?}"), format!("{:?}", scripted.store)] {
        assert!(!shown.contains(SECRET) && !shown.contains("scripted"), "{shown}");
    }
    let moved = answer("301 Moved Permanently", &error_body("PermanentRedirect"))
        .replace("x-amz-request-id", "x-amz-bucket-region: us-west-2\r\nx-amz-request-id");
    let scripted = Scripted::new(vec![moved], |_| ()).await;
    let error = scripted.store.head("a").await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { hint: Some(_), .. }), "{error}");
    assert!(error.to_string().contains("the bucket is in us-west-2"), "{error}");
}

#[tokio::test]
async fn every_request_names_the_owner_and_the_key() {
    let scripted =
        Scripted::new(vec![answer("400 Bad Request", &error_body("InvalidRequest"))], |settings| {
            settings.expected_bucket_owner = Some("123456789012".to_owned());
            settings.kms_key_id = Some("the-key".to_owned());
            settings.checksums = Checksums::WhenRequired;
        })
        .await;
    let store = &scripted.store;
    let bytes = Bytes::from_static(b"x");
    assert!(store.get("a").await.is_err());
    assert!(store.head("a").await.is_err());
    assert!(store.put_if_absent("a", bytes.clone()).await.is_err());
    assert!(store.put("a", bytes.clone()).await.is_err());
    assert!(store.list("a", None, 1).await.is_err());
    assert!(store.create_upload("a").await.is_err());
    assert!(store.upload_part("a", "u", 1, 0, bytes).await.is_err());
    assert!(store.complete_upload("a", "u", PARTS).await.is_err());
    assert!(store.abort_upload("a", "u").await.is_err());
    assert!(store.list_uploads("a").await.is_err());
    assert!(store.delete("a").await.is_err());
    let requests = scripted.requests();
    assert_eq!(requests.len(), 11);
    for (number, request) in requests.iter().enumerate() {
        let request = request.to_lowercase();
        assert!(request.contains("x-amz-expected-bucket-owner: 123456789012"), "{request}");
        assert!(!request.contains("checksum") && !request.contains("trailer"), "{request}");
        let encrypts = request.contains("x-amz-server-side-encryption-aws-kms-key-id: the-key");
        assert_eq!(encrypts, [2, 3, 5].contains(&number), "{request}");
    }
}

#[tokio::test]
async fn pages_that_lead_nowhere_end() {
    let page = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker></ListMultipartUploadsResult>";
    let scripted = Scripted::answering("200 OK", page).await;
    assert!(scripted.store.list_uploads("a").await.unwrap_err().is_transient());
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    let scripted = Scripted::answering("200 OK", page).await;
    assert!(scripted.store.list("a", None, 5).await.unwrap_err().is_transient());
    let page = "<ListBucketResult><Contents><Key>pre/fix/b</Key></Contents><Contents><Key>pre/fix/a</Key></Contents></ListBucketResult>";
    let scripted = Scripted::answering("200 OK", page).await;
    let error = scripted.store.list("", None, 5).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
}

#[test]
fn codes_before_statuses() {
    for (operation, status, code, expected) in [
        (PUT, 500, None, Verdict::Transient),
        (PUT, 503, Some("SlowDown"), Verdict::Transient),
        (PUT, 409, Some("OperationAborted"), Verdict::Transient),
        (PUT, 429, None, Verdict::Transient),
        (PUT, 400, Some("RequestTimeout"), Verdict::Transient),
        (PUT, 400, Some("BadDigest"), Verdict::Transient),
        (PUT, 400, Some("ExpiredToken"), Verdict::Transient),
        (PUT, 404, Some("NoSuchKey"), Verdict::Transient),
        (PUT, 307, Some("TemporaryRedirect"), Verdict::Transient),
        (COMPLETE_UPLOAD, 200, Some("InternalError"), Verdict::Transient),
        (COMPLETE_UPLOAD, 400, Some("InvalidPart"), Verdict::Refused(None)),
        (LIST_UPLOADS, 501, Some("NotImplemented"), Verdict::Unsupported),
        (LIST_UPLOADS, 501, None, Verdict::Unsupported),
        (LIST_UPLOADS, 405, Some("MethodNotAllowed"), Verdict::Unsupported),
        (GET, 405, Some("MethodNotAllowed"), Verdict::Refused(None)),
    ] {
        assert_eq!(judge(operation, status, code), expected, "{operation} {status} {code:?}");
    }
    for (status, code) in [
        (403, Some("AccessDenied")),
        (403, None),
        (403, Some("SignatureDoesNotMatch")),
        (403, Some("RequestTimeTooSkewed")),
        (404, Some("NoSuchBucket")),
        (301, None),
        (400, Some("AuthorizationHeaderMalformed")),
        (400, Some("XAmzContentSHA256Mismatch")),
        (400, Some("KMS.NotFoundException")),
    ] {
        let verdict = judge(PUT, status, code);
        assert!(matches!(verdict, Verdict::Refused(Some(_))), "{status} {code:?}: {verdict:?}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let changes: [fn(&mut S3Settings); 6] = [
        |s| s.bucket = String::new(),
        |s| s.prefix = "a/../b".to_owned(),
        |s| s.part_size = 1024,
        |s| s.part_size = usize::MAX,
        |s| s.endpoint = Some("localhost:9000".to_owned()),
        |s| s.endpoint = Some("http://key:secret@localhost".to_owned()),
    ];
    for change in changes {
        let mut settings = settings("http://127.0.0.1:9");
        change(&mut settings);
        let error = S3::connect(settings).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused { hint: Some(_), .. }), "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

/// A store on the server that the environment names, if it names one.
async fn live() -> Option<S3> {
    let endpoint = std::env::var("TRIBUTARY_TEST_S3").ok()?;
    let mut settings = settings(&endpoint);
    if let Ok(bucket) = std::env::var("TRIBUTARY_TEST_S3_BUCKET") {
        settings.bucket = bucket;
    }
    if std::env::var("TRIBUTARY_TEST_S3_CHECKSUMS").as_deref() == Ok("when_required") {
        settings.checksums = Checksums::WhenRequired;
    }
    let mut store = S3::connect(settings).await.unwrap();
    // It may be there.
    let _ = store.client.create_bucket().bucket(&store.bucket).send().await;
    // So that listings have several pages.
    store.page = 2;
    Some(store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_conforms() {
    let Some(store) = live().await else { return };
    let part_size = store.part_size();
    conformance::check(Arc::new(store), part_size).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_is_probed() {
    let Some(store) = live().await else { return };
    // TRIBUTARY_TEST_S3_UNSOUND: a server that ignores conditions.
    match (probe(&store).await, std::env::var("TRIBUTARY_TEST_S3_UNSOUND").is_ok()) {
        (Ok(found), false) => println!("{found:?}"),
        (Err(error @ StoreError::Refused { .. }), true) => println!("{error}"),
        (outcome, unsound) => panic!("{outcome:?}, unsound: {unsound}"),
    }
}
