//! From settings to a client.
//!
//! Owns: checking the settings, and finding region and credentials as the AWS SDK does.
//! Does not: send requests to the bucket; the probe does.
//! Holds: one HTTP and TLS stack, rustls with ring, proxies from the environment.
//! Fails: `Refused` with a hint for settings that cannot work; `Transient` if credentials could not be fetched just now.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ProvideCredentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use lake::store::StoreError;

use super::answer::causes;
use super::{ATTEMPT_TIMEOUT, Checksums, PAGE_MAX, S3, S3Settings};
use crate::keys::is_clean;

pub(super) async fn connect(settings: S3Settings) -> Result<S3, StoreError> {
    check(&settings)?;
    let roots = Roots::of_system();
    let plain = settings.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    if roots == Roots::None && !plain {
        return Err(refused(
            &settings,
            "the system has no certificates of authorities",
            Some("install ca-certificates, or set SSL_CERT_FILE"),
        ));
    }
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http_client(roots))
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        .timeout_config(timeouts());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    } else if settings.endpoint.is_some() {
        // Other servers hardly care for the region, and asking the instance for it takes seconds where there is none.
        let chain = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .or_else(Region::from_static(REGION_OF_OTHERS));
        loader = loader.region(chain);
    }
    let loaded = Box::pin(loader.load()).await;
    let Some(region) = loaded.region().map(ToString::to_string) else {
        return Err(refused(
            &settings,
            "no region is known for the bucket",
            Some("set lake.s3.region or AWS_REGION"),
        ));
    };
    if let Some(provider) = loaded.credentials_provider() {
        provider
            .provide_credentials()
            .await
            .map_err(|error| no_credentials(CONNECT, format!("s3://{}", settings.bucket), &error))?;
    }
    Ok(build(settings, &loaded, region))
}

/// The store over what was loaded.
pub(super) fn build(settings: S3Settings, loaded: &SdkConfig, region: String) -> S3 {
    let (calculate, validate) = match settings.checksums {
        Checksums::Always => {
            (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
        }
        Checksums::WhenRequired => {
            (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired)
        }
    };
    let mut config = aws_sdk_s3::config::Builder::from(loaded)
        .force_path_style(settings.path_style)
        .request_checksum_calculation(calculate)
        .response_checksum_validation(validate);
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint);
    }
    let prefix = settings.prefix.trim_matches('/');
    S3 {
        client: aws_sdk_s3::Client::from_conf(config.build()),
        prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
        region,
        bucket: settings.bucket,
        kms_key_id: settings.kms_key_id,
        owner: settings.expected_bucket_owner,
        part_size: settings.part_size,
        checksums: settings.checksums,
        page: PAGE_MAX,
    }
}

fn check(settings: &S3Settings) -> Result<(), StoreError> {
    let refuse = |reason, hint| Err(refused(settings, reason, Some(hint)));
    if settings.bucket.is_empty() || settings.bucket.contains('/') {
        return refuse("the bucket has no name", "write lake.url as s3://bucket/prefix");
    }
    let prefix = settings.prefix.trim_matches('/');
    if !prefix.is_empty() && !is_clean(prefix) {
        return refuse(
            "the prefix has an empty, `.` or `..` part",
            "write lake.url as s3://bucket/prefix with plain names",
        );
    }
    if !(PART_SIZE_MIN..=PART_SIZE_MAX).contains(&settings.part_size) {
        return refuse("the part size is out of range", "set lake.s3.part_size to between 5MiB and 1GiB");
    }
    if let Some(endpoint) = &settings.endpoint {
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return refuse("the endpoint is not a URL", "write lake.s3.endpoint as https://host:port");
        }
        if endpoint.contains('@') {
            return refuse(
                "the endpoint must not hold credentials",
                "put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
            );
        }
    }
    Ok(())
}

/// The system's certificates of authorities, as in small containers there may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    Native,
    None,
}

impl Roots {
    pub(crate) fn of_system() -> Roots {
        if rustls_native_certs::load_native_certs().certs.is_empty() { Roots::None } else { Roots::Native }
    }
}

pub(crate) fn http_client(roots: Roots) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder();
        connector
            .set_connector_settings(settings.cloned())
            .set_proxy_config(Some(ProxyConfig::from_env()))
            .set_pool_idle_timeout(Some(Some(IDLE_TIMEOUT)));
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        let mut connector = connector.tls_provider(Provider::Rustls(CryptoMode::Ring));
        // The default trust store asserts that there are some.
        if roots == Roots::None
            && let Ok(nobody) = TlsContext::builder().with_trust_store(TrustStore::empty()).build()
        {
            connector.set_tls_context(nobody);
        }
        connector.build()
    })
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build()
}

pub(crate) fn no_credentials(operation: &'static str, key: String, error: &CredentialsError) -> StoreError {
    let source = causes(error);
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            StoreError::Refused {
                operation,
                key,
                reason: "no usable credentials were found".to_owned(),
                hint: Some(
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the instance or pod a role",
                ),
                source,
            }
        }
        _ => StoreError::Transient {
            operation,
            key,
            reason: "the credentials could not be fetched".to_owned(),
            source,
        },
    }
}

fn refused(settings: &S3Settings, reason: &str, hint: Option<&'static str>) -> StoreError {
    StoreError::Refused {
        operation: CONNECT,
        key: format!("s3://{}", settings.bucket),
        reason: reason.to_owned(),
        hint,
        source: None,
    }
}

const CONNECT: &str = "connect";

/// Any region does for servers that are not Amazon's; this one is what they assume.
const REGION_OF_OTHERS: &str = "us-east-1";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Servers close connections that idle for longer; one closed under a request costs an attempt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
const ATTEMPTS_MAX: u32 = 3;

/// S3's minimum for all parts but the last; and what one request should carry at most, though S3 allows 5 GiB.
const PART_SIZE_MIN: usize = 5 * 1024 * 1024;
const PART_SIZE_MAX: usize = 1024 * 1024 * 1024;
