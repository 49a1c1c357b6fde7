//! A lake in an S3 bucket, through the AWS SDK.
//!
//! Owns: the client (one TLS stack: rustls with ring), its timeouts, and which requests the SDK may repeat.
//! Does not: classify failures (`answer`), or retry what is not idempotent.
//! Holds: every request names the expected owner of the bucket; every listing reads all its pages; a conditional
//!     creation is sent once, so that its 412 is never the echo of our own success within one call.
//! Fails: `Transient` for timeouts, throttling, 5xx and 409; `Refused` with a hint for other 4xx; `Unsupported` for 501.
//!
//! The SDK retries idempotent requests (reads, parts, completing, plain puts) up to three times. Completing is among
//! them because a repetition after a lost answer says `NoSuchUpload`, which the caller resolves with `head`. An attempt
//! that got no answer in its time is given up, so a server that swallows packets becomes `Transient`.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart, ServerSideEncryption,
};
use aws_smithy_types::base64;
use bytes::Bytes;
use lake::store::{Completed, Created, Listed, Object, Part, Store, StoreError, Unfinished};

use crate::keys::{check_key, check_prefix};
use answer::Context;

mod answer;
pub(crate) mod connect;

/// Where the bucket is, and how to speak to it. Credentials come from the SDK's default chain.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The bucket's region, if not from `AWS_REGION`, the profile or the instance.
    pub region: Option<String>,
    /// The URL of another S3 server than Amazon's.
    pub endpoint: Option<String>,
    /// The bucket goes into the path and not into the host name.
    pub path_style: bool,
    /// Encrypt with this KMS key.
    pub kms_key_id: Option<String>,
    /// Refuse a bucket of another account.
    pub expected_bucket_owner: Option<String>,
    /// The size of a part in bytes.
    pub part_size: usize,
    /// Whether requests carry checksums.
    pub checksums: Checksums,
}

/// When a request carries a checksum, and an answer's is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// Always: a CRC-32 in a header of every object and part, stored by S3.
    Always,
    /// Only where S3 insists, for older stores.
    WhenRequired,
}

/// A bucket and prefix as a store.
#[derive(Clone)]
pub struct S3 {
    client: Client,
    bucket: String,
    /// Empty, or ending with a slash.
    prefix: String,
    region: String,
    kms_key_id: Option<String>,
    owner: Option<String>,
    part_size: usize,
    checksums: Checksums,
    /// Entries of a page in a listing.
    page: i32,
}

impl S3 {
    /// Finds region and credentials, and checks the settings; sends nothing to the bucket.
    pub async fn connect(settings: S3Settings) -> Result<S3, StoreError> {
        connect::connect(settings).await
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn relative<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&self.prefix)
    }

    fn context<'a>(&'a self, operation: &'static str, key: &'a str) -> Context<'a> {
        Context { operation, key, bucket: &self.bucket, region: &self.region, owner: self.owner.as_deref() }
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        self.kms_key_id.is_some().then_some(ServerSideEncryption::AwsKms)
    }

    /// The CRC-32 as S3 writes it.
    fn crc32(&self, bytes: &[u8]) -> Option<String> {
        match self.checksums {
            Checksums::Always => Some(base64::encode(crc32fast::hash(bytes).to_be_bytes())),
            Checksums::WhenRequired => None,
        }
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("url", &self.url()).field("region", &self.region).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for S3 {
    fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix.trim_end_matches('/'))
    }

    fn part_size(&self) -> usize {
        self.part_size
    }

    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.read(key, None).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: usize) -> Result<Option<Bytes>, StoreError> {
        let last = offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX)).saturating_sub(1);
        let found = self.read(key, Some(format!("bytes={offset}-{last}"))).await?;
        match found {
            // A server that ignores ranges answers with the whole object.
            Some(object) if object.bytes.len() > length => {
                Err(self.context(GET, key).refused("the store ignores the range of a read", None))
            }
            found => Ok(found.map(|object| object.bytes)),
        }
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        check_key(HEAD, key)?;
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .set_expected_bucket_owner(self.owner.clone());
        match request.send().await {
            Ok(answer) => match answer.content_length.map(u64::try_from) {
                Some(Ok(bytes)) => Ok(Some(bytes)),
                _ => Err(self.context(HEAD, key).transient("the answer has no length", None)),
            },
            // An answer to HEAD has no body, so the status is all there is.
            Err(error) if answer::status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.context(HEAD, key).failed(error)),
        }
    }

    async fn is_made_of(&self, key: &str, parts: &[Part]) -> Result<Option<bool>, StoreError> {
        check_key(HEAD, key)?;
        let Some(expected) = composite(parts) else { return Ok(None) };
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .checksum_mode(ChecksumMode::Enabled)
            .set_expected_bucket_owner(self.owner.clone());
        match request.send().await {
            Ok(answer) => Ok(answer.checksum_crc32.map(|found| found == expected)),
            Err(error) if answer::status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.context(HEAD, key).failed(error)),
        }
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        check_key(PUT, key)?;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .if_none_match("*")
            .set_checksum_crc32(self.crc32(&bytes))
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .set_expected_bucket_owner(self.owner.clone());
        let once = patience(bytes.len()).retry_config(RetryConfig::disabled());
        let request = request.body(ByteStream::from(bytes)).customize().config_override(once);
        match request.send().await {
            Ok(_) => Ok(Created::New),
            Err(error) if answer::status(&error) == Some(412) => Ok(Created::Exists),
            Err(error) => Err(self.context(PUT, key).failed(error)),
        }
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        check_key(PUT, key)?;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .set_checksum_crc32(self.crc32(&bytes))
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .set_expected_bucket_owner(self.owner.clone());
        let patience = patience(bytes.len());
        let request = request.body(ByteStream::from(bytes)).customize().config_override(patience);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.context(PUT, key).failed(error)),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        check_prefix(LIST, prefix)?;
        let mut listed: Vec<Listed> = Vec::new();
        let mut token: Option<String> = None;
        while listed.len() < limit {
            let wanted = i32::try_from(limit - listed.len()).unwrap_or(i32::MAX);
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(self.full(prefix))
                .set_start_after(start_after.map(|after| self.full(after)))
                .set_continuation_token(token.take())
                .max_keys(wanted.min(self.page))
                .set_expected_bucket_owner(self.owner.clone());
            let answer = request.send().await.map_err(|error| self.context(LIST, prefix).failed(error))?;
            for object in answer.contents() {
                let Some(key) = object.key().and_then(|key| self.relative(key)) else { continue };
                let bytes = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                if listed.last().is_some_and(|last| last.key.as_str() >= key) {
                    return Err(self.context(LIST, prefix).refused(
                        "the store lists keys out of order",
                        Some("use a general purpose bucket; directory buckets do not order their listings"),
                    ));
                }
                listed.push(Listed { key: key.to_owned(), bytes });
            }
            match (answer.is_truncated(), answer.next_continuation_token) {
                (Some(true), Some(next)) => token = Some(next),
                (Some(true), None) => {
                    return Err(self.context(LIST, prefix).transient("a page names no next page", None));
                }
                _ => break,
            }
        }
        listed.truncate(limit);
        Ok(listed)
    }

    async fn create_upload(&self, key: &str) -> Result<String, StoreError> {
        check_key(CREATE_UPLOAD, key)?;
        let algorithm = match self.checksums {
            Checksums::Always => Some(ChecksumAlgorithm::Crc32),
            Checksums::WhenRequired => None,
        };
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full(key))
            .set_checksum_algorithm(algorithm)
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .set_expected_bucket_owner(self.owner.clone());
        let answer = request.send().await.map_err(|error| self.context(CREATE_UPLOAD, key).failed(error))?;
        answer
            .upload_id
            .ok_or_else(|| self.context(CREATE_UPLOAD, key).transient("the answer has no upload id", None))
    }

    async fn upload_part(
        &self,
        key: &str,
        upload_id: &str,
        number: u32,
        _offset: u64,
        bytes: Bytes,
    ) -> Result<Part, StoreError> {
        let crc32 = self.crc32(&bytes);
        let length = bytes.len();
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(self.full(key))
            .upload_id(upload_id)
            .part_number(self.part_number(UPLOAD_PART, key, number)?)
            .set_checksum_crc32(crc32.clone())
            .set_expected_bucket_owner(self.owner.clone())
            .body(ByteStream::from(bytes));
        let request = request.customize().config_override(patience(length));
        let answer = request.send().await.map_err(|error| self.context(UPLOAD_PART, key).failed(error))?;
        let Some(etag) = answer.e_tag else {
            return Err(self.context(UPLOAD_PART, key).transient("the answer has no etag", None));
        };
        Ok(Part { number, etag, crc32, bytes: u64::try_from(length).unwrap_or(u64::MAX) })
    }

    async fn complete_upload(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[Part],
    ) -> Result<Completed, StoreError> {
        let context = self.context(COMPLETE_UPLOAD, key);
        let mut completed = Vec::with_capacity(parts.len());
        for part in parts {
            let part_number = self.part_number(COMPLETE_UPLOAD, key, part.number)?;
            let completed_part = CompletedPart::builder()
                .part_number(part_number)
                .e_tag(&part.etag)
                .set_checksum_crc32(part.crc32.clone());
            completed.push(completed_part.build());
        }
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full(key))
            .upload_id(upload_id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(completed)).build())
            .set_expected_bucket_owner(self.owner.clone());
        let request = request.customize().config_override(timeout(COMPLETE_TIMEOUT));
        match request.send().await {
            // The SDK reads an error in the body of a 200 as an error. An answer without a tag is none either.
            Ok(answer) if answer.e_tag().is_none() => Err(context.transient("the answer has no etag", None)),
            Ok(_) => Ok(Completed::Done),
            Err(error) if error.code() == Some(NO_SUCH_UPLOAD) => Ok(Completed::NoSuchUpload),
            // Ceph 16 answers 500 to every attempt to complete an upload that was aborted.
            Err(error) if answer::status(&error) == Some(500) => {
                if self.is_gone(key, upload_id).await {
                    Ok(Completed::NoSuchUpload)
                } else {
                    Err(context.failed(error))
                }
            }
            Err(error) => Err(context.failed(error)),
        }
    }

    async fn abort_upload(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full(key))
            .upload_id(upload_id)
            .set_expected_bucket_owner(self.owner.clone());
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(NO_SUCH_UPLOAD) => Ok(()),
            Err(error) => Err(self.context(ABORT_UPLOAD, key).failed(error)),
        }
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, StoreError> {
        check_prefix(LIST_UPLOADS, prefix)?;
        let mut unfinished = Vec::new();
        let mut from: (Option<String>, Option<String>) = (None, None);
        loop {
            let request = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(self.full(prefix))
                .set_key_marker(from.0.clone())
                .set_upload_id_marker(from.1.clone())
                .max_uploads(self.page)
                .set_expected_bucket_owner(self.owner.clone());
            let answer =
                request.send().await.map_err(|error| self.context(LIST_UPLOADS, prefix).failed(error))?;
            for upload in answer.uploads() {
                let key = upload.key().and_then(|key| self.relative(key));
                if let (Some(key), Some(upload_id)) = (key, upload.upload_id()) {
                    unfinished.push(Unfinished { key: key.to_owned(), upload_id: upload_id.to_owned() });
                }
            }
            if answer.is_truncated() != Some(true) {
                return Ok(unfinished);
            }
            let next = (answer.next_key_marker, answer.next_upload_id_marker);
            if next.0.is_none() || next == from {
                return Err(self.context(LIST_UPLOADS, prefix).transient("a page names no next page", None));
            }
            from = next;
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(DELETE, key)?;
        let request = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .set_expected_bucket_owner(self.owner.clone());
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(NO_SUCH_KEY) => Ok(()),
            Err(error) => Err(self.context(DELETE, key).failed(error)),
        }
    }
}

impl S3 {
    /// The object, or a range of it as HTTP writes one.
    async fn read(&self, key: &str, range: Option<String>) -> Result<Option<Object>, StoreError> {
        check_key(GET, key)?;
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .set_range(range)
            .set_expected_bucket_owner(self.owner.clone());
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some(NO_SUCH_KEY) => return Ok(None),
            Err(error) => return Err(self.context(GET, key).failed(error)),
        };
        // The SDK's timeouts end with the headers.
        let read = tokio::time::timeout(BODY_TIMEOUT, answer.body.collect()).await;
        match read {
            Ok(Ok(body)) => Ok(Some(Object { bytes: body.into_bytes(), etag: answer.e_tag })),
            Ok(Err(error)) => Err(self
                .context(GET, key)
                .transient("the answer broke off or its checksum is wrong", Some(&error))),
            Err(_) => Err(self.context(GET, key).transient("the answer did not end in time", None)),
        }
    }

    /// Whether the store says that it knows no such upload; not if it says anything else.
    async fn is_gone(&self, key: &str, upload_id: &str) -> bool {
        let request = self
            .client
            .list_parts()
            .bucket(&self.bucket)
            .key(self.full(key))
            .upload_id(upload_id)
            .max_parts(1)
            .set_expected_bucket_owner(self.owner.clone());
        // Ceph 16 says `NoSuchKey`.
        let unknown = [Some(NO_SUCH_UPLOAD), Some(NO_SUCH_KEY)];
        request.send().await.is_err_and(|error| unknown.contains(&error.code()))
    }

    fn part_number(&self, operation: &'static str, key: &str, number: u32) -> Result<i32, StoreError> {
        match i32::try_from(number) {
            Ok(number @ 1..=PART_NUMBER_MAX) => Ok(number),
            _ => Err(self.context(operation, key).refused(
                "a file has at most 10,000 parts, numbered from 1",
                Some("raise lake.s3.part_size or lower cut.file_size"),
            )),
        }
    }
}

/// The checksum that S3 keeps of a file that was uploaded in parts: that of the parts' checksums, and their count.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>
fn composite(parts: &[Part]) -> Option<String> {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(&base64::decode(part.crc32.as_ref()?).ok()?);
    }
    Some(format!("{}-{}", base64::encode(hasher.finalize().to_be_bytes()), parts.len()))
}

/// How long one attempt of a request with this body may take.
fn patience(body_bytes: usize) -> aws_sdk_s3::config::Builder {
    let seconds = u64::try_from(body_bytes / BYTES_PER_SECOND_MIN).unwrap_or(u64::MAX);
    timeout(ATTEMPT_TIMEOUT.saturating_add(Duration::from_secs(seconds)))
}

/// Only this timeout is overridden: one for reading would make the SDK open a pool of connections of its own.
fn timeout(attempt: Duration) -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(attempt).build();
    aws_sdk_s3::Config::builder().timeout_config(timeouts)
}

const GET: &str = "GetObject";
const HEAD: &str = "HeadObject";
const PUT: &str = "PutObject";
const LIST: &str = "ListObjectsV2";
const CREATE_UPLOAD: &str = "CreateMultipartUpload";
const UPLOAD_PART: &str = "UploadPart";
const COMPLETE_UPLOAD: &str = "CompleteMultipartUpload";
const ABORT_UPLOAD: &str = "AbortMultipartUpload";
const LIST_UPLOADS: &str = "ListMultipartUploads";
const DELETE: &str = "DeleteObject";

const NO_SUCH_KEY: &str = "NoSuchKey";
const NO_SUCH_UPLOAD: &str = "NoSuchUpload";

/// S3's limits.
const PART_NUMBER_MAX: i32 = 10_000;
const PAGE_MAX: i32 = 1000;

/// One attempt of a request without a body.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection slower than this cannot carry a stream of changes: 8 MiB then take 32 s on top.
const BYTES_PER_SECOND_MIN: usize = 256 * 1024;
/// S3 may assemble large objects for a while, and sends blanks meanwhile.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(120);
/// Log entries and states are small.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
