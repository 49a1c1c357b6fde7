//! What a failed request means to the caller.
//!
//! Owns: the classification by error code and status, the hints, and the wording.
//! Does not: know which answers are outcomes (404 of a read, 412 of a creation); the caller takes those first.
//! Holds: transient unless proven definite; texts carry no credentials, signatures or bodies.
//! Fails: never.

use std::error::Error;
use std::fmt;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use lake::store::StoreError;

/// The request that failed.
pub(super) struct Context<'a> {
    pub(super) operation: &'static str,
    pub(super) key: &'a str,
    pub(super) bucket: &'a str,
    pub(super) region: &'a str,
    pub(super) owner: Option<&'a str>,
}

/// What to make of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Transient,
    Refused(Option<&'static str>),
    Unsupported,
}

/// The status of the answer, if there was one.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

impl Context<'_> {
    pub(super) fn failed<E>(&self, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match &error {
            SdkError::ServiceError(answer) => self.judged(answer.err(), answer.raw()),
            SdkError::ResponseError(answer) => {
                let status = answer.raw().status().as_u16();
                self.transient(&format!("status {status} with an answer that cannot be read"), Some(&error))
            }
            SdkError::TimeoutError(_) => self.transient("no answer in time", Some(&error)),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                self.transient("no connection in time", Some(&error))
            }
            SdkError::DispatchFailure(failure) if failure.is_io() => {
                self.transient("no connection, or it broke", Some(&error))
            }
            SdkError::ConstructionFailure(_) => {
                let source = causes(&error);
                self.refuse("the request cannot be built".to_owned(), Some(HINT_SETTINGS), source)
            }
            // Above all: credentials that could not be fetched again.
            _ => self.transient("the request could not be sent", Some(&error)),
        }
    }

    pub(super) fn transient(&self, reason: &str, cause: Option<&dyn Error>) -> StoreError {
        StoreError::Transient {
            operation: self.operation,
            key: self.key.to_owned(),
            reason: reason.to_owned(),
            source: cause.and_then(causes),
        }
    }

    pub(super) fn refused(&self, reason: &str, hint: Option<&'static str>) -> StoreError {
        self.refuse(reason.to_owned(), hint, None)
    }

    fn refuse(
        &self,
        reason: String,
        hint: Option<&'static str>,
        source: Option<Box<dyn Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Refused { operation: self.operation, key: self.key.to_owned(), reason, hint, source }
    }

    fn judged<E: ProvideErrorMetadata>(&self, error: &E, response: &HttpResponse) -> StoreError {
        let status = response.status().as_u16();
        let mut reason = match error.code() {
            Some(code) => format!("status {status}, {code}"),
            None => format!("status {status}"),
        };
        if let Some(message) = error.message().filter(|message| !message.is_empty()) {
            reason.push_str(": ");
            reason.extend(message.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX));
        }
        if let Some(id) = response.headers().get("x-amz-request-id") {
            reason.push_str(&format!(" (request {id})"));
        }
        match judge(self.operation, status, error.code()) {
            Verdict::Transient => self.transient(&reason, None),
            Verdict::Unsupported => StoreError::Unsupported { operation: self.operation },
            Verdict::Refused(hint) => {
                reason.push_str(&format!("; bucket `{}`, region {}", self.bucket, self.region));
                if let Some(region) = response.headers().get("x-amz-bucket-region")
                    && region != self.region
                {
                    reason.push_str(&format!(", but the bucket is in {region}"));
                }
                if let (403, Some(owner)) = (status, self.owner) {
                    reason.push_str(&format!(", expected owner {owner}"));
                }
                self.refuse(reason, hint, None)
            }
        }
    }
}

/// By the code where it is a clear one, and else by the status.
pub(super) fn judge(operation: &'static str, status: u16, code: Option<&str>) -> Verdict {
    match code.unwrap_or("") {
        "NotImplemented" => Verdict::Unsupported,
        // Some of these come with a 4xx, or inside a 200.
        "SlowDown"
        | "ServiceUnavailable"
        | "InternalError"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "BandwidthLimitExceeded"
        | "IncompleteBody"
        | "BadDigest"
        | "TemporaryRedirect"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "TokenRefreshRequired"
        | "KMS.ThrottlingException"
        | "KMS.KMSInternalException" => Verdict::Transient,
        // The condition raced with a deletion; nothing landed.
        "NoSuchKey" if operation == super::PUT => Verdict::Transient,
        "NoSuchBucket" => Verdict::Refused(Some("create the bucket, or correct lake.url")),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            Verdict::Refused(Some(HINT_REGION))
        }
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidSecurity" => {
            Verdict::Refused(Some("check the access key, its secret and the session token"))
        }
        "RequestTimeTooSkewed" => Verdict::Refused(Some("set the clock of this machine (NTP)")),
        "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "InvalidChecksum" => {
            Verdict::Refused(Some(HINT_CHECKSUMS))
        }
        "EntityTooSmall" => {
            Verdict::Refused(Some("raise lake.s3.part_size; all parts but the last need 5 MiB"))
        }
        "EntityTooLarge" => Verdict::Refused(Some("lower lake.s3.part_size")),
        code if code.starts_with("KMS.") => Verdict::Refused(Some(
            "check that lake.s3.kms_key_id exists, is enabled and may be used by this role",
        )),
        _ => judge_status(operation, status),
    }
}

fn judge_status(operation: &'static str, status: u16) -> Verdict {
    match status {
        501 => Verdict::Unsupported,
        405 if operation == super::LIST_UPLOADS => Verdict::Unsupported,
        301 => Verdict::Refused(Some(HINT_REGION)),
        // 409: a conflicting request was under way, nothing landed. 408, 429: the server is busy.
        408 | 409 | 429 => Verdict::Transient,
        401 | 403 => Verdict::Refused(Some(permission(operation))),
        400..=499 => Verdict::Refused(None),
        _ => Verdict::Transient,
    }
}

/// Which permission a request needs.
fn permission(operation: &'static str) -> &'static str {
    match operation {
        super::GET | super::HEAD => {
            "allow s3:GetObject under the prefix and s3:ListBucket on the bucket (without it an absent object answers 403), and kms:Decrypt if the bucket is encrypted with KMS"
        }
        super::LIST => "allow s3:ListBucket on the bucket",
        super::LIST_UPLOADS => "allow s3:ListBucketMultipartUploads on the bucket",
        super::ABORT_UPLOAD => "allow s3:AbortMultipartUpload under the prefix",
        super::DELETE => {
            "allow s3:DeleteObject under the prefix (`_tributary/probe/` is enough, unless for repair)"
        }
        _ => {
            "allow s3:PutObject under the prefix, and kms:GenerateDataKey and kms:Decrypt if the bucket is encrypted with KMS"
        }
    }
}

/// The texts of an error's causes. The errors themselves are dropped: their `Debug` shows requests and answers whole.
pub(super) fn causes(error: &dyn Error) -> Option<Box<dyn Error + Send + Sync>> {
    let cause = Cause::of(error.source()?, CAUSES_MAX);
    Some(Box::new(cause))
}

#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl Cause {
    fn of(error: &dyn Error, depth: usize) -> Cause {
        let deeper = error.source().filter(|_| depth > 1);
        let source = deeper.map(|source| Box::new(Cause::of(source, depth - 1)));
        Cause { text: error.to_string(), source }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

const HINT_REGION: &str = "set lake.s3.region to the bucket's region";
const HINT_SETTINGS: &str = "check lake.url, lake.s3.endpoint and lake.s3.region";
const HINT_CHECKSUMS: &str =
    "the store does not know these checksums: set lake.s3.checksums = \"when_required\"";

/// AWS names the role, the action and the resource in about 250.
const MESSAGE_CHARS_MAX: usize = 400;
/// Deeper chains say nothing new.
const CAUSES_MAX: usize = 8;
