//! Passwords of Amazon RDS: tokens that are signed with the process's AWS credentials.
//!
//! Owns: [`RdsSigner`], which finds credentials and region as the AWS SDK does, and makes tokens of them.
//! Does not: connect to a database, or keep a token; it is here because this is the only crate that compiles the SDK.
//! Holds: a token is for one server, port and role, and may be used for a quarter of an hour to begin a session.
//! Fails: `Refused` with a hint if there are no credentials or no region, `Transient` if they could not be fetched just now.
//!
//! The form: <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html>

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use lake::store::StoreError;

use crate::s3::connect::{Roots, http_client, no_credentials};

/// Makes tokens.
#[derive(Debug)]
pub struct RdsSigner {
    loaded: SdkConfig,
}

impl RdsSigner {
    /// With what the SDK finds: environment, profile, web identity, container, instance.
    pub async fn of_process() -> RdsSigner {
        let loader =
            aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http_client(Roots::of_system()));
        RdsSigner { loaded: Box::pin(loader.load()).await }
    }

    /// A token with which `user` may begin a session with the server, `now` and for a quarter of an hour.
    pub async fn token(
        &self,
        host: &str,
        port: u16,
        user: &str,
        now: SystemTime,
    ) -> Result<String, StoreError> {
        let server = format!("{host}:{port}");
        let region = region_of(host).or_else(|| self.loaded.region().map(AsRef::as_ref));
        let Some(region) = region else {
            return Err(refused(
                &server,
                "no region is known for it",
                Some("set AWS_REGION: its name does not tell its region, and that of lake.s3 is the store's"),
            ));
        };
        let Some(provider) = self.loaded.credentials_provider() else {
            return Err(refused(&server, "there are no AWS credentials", None));
        };
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| no_credentials(TOKEN, server.clone(), &error))?;
        presign(&server, region, user, &credentials.into(), now)
            .ok_or_else(|| refused(&server, "the token cannot be signed", None))
    }
}

/// The request that would connect `user`, signed in its query, without its scheme.
fn presign(server: &str, region: &str, user: &str, identity: &Identity, now: SystemTime) -> Option<String> {
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(LIFETIME);
    settings.signature_location = SignatureLocation::QueryParams;
    let parameters = v4::SigningParams::builder()
        .identity(identity)
        .region(region)
        .name("rds-db")
        .time(now)
        .settings(settings)
        .build()
        .ok()?
        .into();
    let mut url = format!("https://{server}/?Action=connect&DBUser=");
    escape(user, &mut url);
    let request =
        SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[])).ok()?;
    let (signed, _) = sign(request, &parameters).ok()?.into_parts();
    for (name, value) in signed.params() {
        url.push('&');
        url.push_str(name);
        url.push('=');
        escape(value, &mut url);
    }
    url.strip_prefix("https://").map(str::to_owned)
}

fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            into.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// `shop.abcdef.eu-central-1.rds.amazonaws.com`, of instances, clusters and proxies alike.
fn region_of(host: &str) -> Option<&str> {
    let host = host.trim_end_matches('.');
    let name =
        host.strip_suffix(".rds.amazonaws.com").or_else(|| host.strip_suffix(".rds.amazonaws.com.cn"))?;
    name.rsplit('.').next().filter(|region| region.contains('-'))
}

fn refused(server: &str, reason: &str, hint: Option<&'static str>) -> StoreError {
    StoreError::Refused {
        operation: TOKEN,
        key: server.to_owned(),
        reason: reason.to_owned(),
        hint,
        source: None,
    }
}

const TOKEN: &str = "a token of Amazon RDS";

/// The longest that RDS allows.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests;
